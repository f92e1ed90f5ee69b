"""sshtunnel's own forwarder, as its manual has it, in a process of its own (its `stop` may hang): what the transport would be without us.

It reads {"host", "port", "user", "key", "remote_port", "local"} as one JSON line, listens on the Unix socket `local`, says "ready", and
ends with its standard input. On standard error is what it logs.
"""

import json
import os
import sys

import sshtunnel

if __name__ == "__main__":
    told = json.loads(sys.stdin.readline())
    sshtunnel.SSHTunnelForwarder(
        (told["host"], told["port"]),
        ssh_username=told["user"],
        ssh_pkey=told["key"],
        ssh_config_file=None,
        host_pkey_directories=[],
        allow_agent=False,
        local_bind_address=told["local"],
        remote_bind_address=("127.0.0.1", told["remote_port"]),
    ).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
