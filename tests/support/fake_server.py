"""A stand-in for a server process of ours: `python -m tests.support.fake_server [OPTIONS]`.

It is started as the supervisor starts the real one (one JSON line on standard input, which then stays open as the lifeline; an inherited
socket or a Unix path to listen on) and answers `/ready`, `/internal/status` and `GET /slow?SECONDS`. It appends what it was told, at the
start and by `PUT`, to the file of `--record`, so that a test can see what really arrived in the process. While the file named `refuses`
in its configuration exists, it answers `PUT` with 503.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    config: ClassVar[dict] = {}
    record: ClassVar[str | None] = None
    busy = 0

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        write_record(self.record, {"pid": os.getpid(), "live": body})
        self.reply(503 if os.path.exists(self.config.get("refuses", "")) else 200, {})

    def do_GET(self):
        route = urlsplit(self.path)
        if route.path == "/slow":
            type(self).busy += 1
            time.sleep(float(route.query))
            type(self).busy -= 1
        if route.path == "/internal/status" and self.headers.get("authorization") != f"Bearer {self.config['token']}":
            self.reply(401, {})
            return
        self.reply(200, {"name": self.config["name"], "pid": os.getpid(), "ready": True, "in_flight": self.busy})

    def reply(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "local"

    def log_message(self, format, *args):
        pass


class UnixServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)


def make_server(config):
    if config.get("fd") is not None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = socket.socket(fileno=config["fd"])
        return server
    server = UnixServer(config["socket"], Handler, bind_and_activate=False)
    server.server_bind()
    server.server_activate()
    return server


def write_record(path, what):
    if path:
        with open(path, "a") as file:
            file.write(json.dumps(what) + "\n")


def watch_input():
    while sys.stdin.buffer.read1(4096):
        pass
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", help="the program it stands for")
    parser.add_argument("--record")
    parser.add_argument("--exit", type=int, help="say something and exit with this code, at once")
    parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM")
    parser.add_argument("--grandchild", action="store_true", help="start a process that would stay")
    options = parser.parse_args()
    config = json.loads(sys.stdin.buffer.readline())
    write_record(options.record, {"pid": os.getpid(), "config": config, "environ": dict(os.environ)})
    if options.exit is not None:
        sys.stderr.write("the wheels came off\n")
        return options.exit
    Handler.config, Handler.record = config, options.record
    server = make_server(config)
    server.daemon_threads = False  # closing waits for running requests
    if options.grandchild:
        import subprocess

        stayer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Handler.config["name"] = f"{config['name']} {stayer.pid}"
    stop = signal.SIG_IGN if options.deaf else lambda *_: threading.Thread(target=server.shutdown).start()
    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=watch_input, daemon=True).start()
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
