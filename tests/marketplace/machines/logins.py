"""Real logins to instances."""

from __future__ import annotations

import subprocess

from tests.support.system import program

INSTALL = "install Debian's package openssh-client"


def direct(row):
    return row["public_ipaddr"].strip(), int(row["ports"]["22/tcp"][0]["HostPort"])


def proxy(row):
    return row["ssh_host"], row["ssh_port"]


def ssh_command(key, address, command, known=None):
    """Keys in no file but `known` are let pass."""
    options = {
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "ConnectTimeout": 3,
        "UserKnownHostsFile": known or "/dev/null",
        "StrictHostKeyChecking": "yes" if known else "no",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    host, port = address
    return [program("ssh", INSTALL), "-F", "none", "-i", str(key), "-p", str(port), *words, host, command]


def ssh(key, address, command="echo in", known=None):
    """Exit code, output and errors of a real ssh, as the current user."""
    line = ssh_command(key, address, command, known)
    run = subprocess.run(line, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    return run.returncode, run.stdout, run.stderr
