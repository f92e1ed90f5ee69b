"""The programs of OpenSSH on this machine: where they are, and what the tests' server needs of them."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
from pathlib import Path

from tests.support.system import missing, program

INSTALL = "install Debian's packages openssh-server and openssh-client"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")


def sshd_program() -> str:
    """The server's program. Without it the test ends (`missing`)."""
    for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd"):
        if os.access(path, os.X_OK):
            return path
    return program("sshd", INSTALL)


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """A new key pair by the real ssh-keygen; `path`.pub is its public half. An older one there is replaced."""
    for old in (path, path.with_name(path.name + ".pub")):
        old.unlink(missing_ok=True)
    size = ["-b", "2048"] if kind == "rsa" else []  # longer ones take seconds to find
    keygen("-q", "-t", kind, *size, "-N", passphrase, "-C", "test", "-f", path)
    return path


def keygen(*arguments: str | Path) -> str:
    """What ssh-keygen prints."""
    command = [program("ssh-keygen", INSTALL), *map(str, arguments)]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30
    ).stdout


def sftp_server() -> str:
    """The program behind SFTP. Without it the test ends (`missing`)."""
    return next((path for path in SFTP_SERVERS if os.access(path, os.X_OK)), None) or missing("sftp-server", INSTALL)


def version() -> tuple[int, int]:
    """The server's version."""
    # Before 9.8 there is no -V, and the version comes with the complaint about it.
    run = subprocess.run([sshd_program(), "-V"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", run.stdout + run.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def unused_port(host: str) -> int:
    """Below the range that the kernel hands out by itself, so that nobody gets it while the server is away for a moment."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
