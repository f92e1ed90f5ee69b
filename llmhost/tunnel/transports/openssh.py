"""The default transport: the system's `ssh`, one child per connection, a Unix socket at either end.

No control master: `-L` between two Unix sockets is enough where the gateway opens the connections itself (tunnel facts §2.2). The remote
echo is the session without which sshd leaves TCP_NODELAY off (D2), and the heartbeat (D3).
"""

from __future__ import annotations

import re

from llmhost.tunnel.base import Reason
from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.transports.remote_echo import echo_loop
from llmhost.tunnel.transports.ssh_words import explain

# A `cat` that can be asked one thing. sshd answers a forbidden forwarding to a Unix socket in the same words as a socket where nobody
# listens; Linux tells the two apart in /proc/net/unix (elsewhere the question stays open).
_ASKED = 'case $l in *\\?) grep -qsF -e "$1" /proc/net/unix && l="$l yes";; esac;'


class OpenSsh:
    """`ssh -L LOCAL:REMOTE user@host ECHO`."""

    name = "openssh"

    def command(self, spec: LinkSpec, local: str) -> tuple[list[str], dict[str, str]]:
        """The argv and environment of one connection (tunnel facts §2.3)."""
        options = {**_quiet_options(), **_liveness(spec), **_host_key(spec), **_login(spec), **_forwarding()}
        argv = [spec.ssh_program, "-F", "none", "-T", "-a", "-x", "-p", str(spec.target.port), "-l", spec.target.user]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        argv += ["-L", f"{_field(local)}:{_field(spec.remote_socket)}"]
        argv += ["--", spec.target.host, echo_command(spec.remote_socket, spec.beat)]
        return argv, {"LC_ALL": "C"}  # its words are read (ssh_words)

    def first_line(self, spec: LinkSpec, local: str) -> bytes:
        return b""

    def explain(self, code: int | None, stderr: str, spec: LinkSpec) -> Reason:
        return explain(code, stderr, spec)


def echo_command(remote_socket: str, beat: str | None = None) -> str:
    """What runs over there, for whatever login shell."""
    return echo_loop(remote_socket, asked=_ASKED, beat=beat)


def _quiet_options() -> dict[str, str]:
    """No question, no file of the user's, no master of the user's; INFO because a refused forwarding is told at that level only."""
    return {
        "BatchMode": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
        "LogLevel": "INFO",
        "PermitLocalCommand": "no",
        "IPQoS": "af21 cs1",  # interactive: forwarded streams are a person's
    }


def _liveness(spec: LinkSpec) -> dict[str, str]:
    timing = spec.timing
    return {
        "ConnectTimeout": str(max(1, round(timing.connect))),
        "ServerAliveInterval": str(timing.alive_interval),
        "ServerAliveCountMax": str(timing.alive_count),
        "TCPKeepAlive": "yes",
    }


def _host_key(spec: LinkSpec) -> dict[str, str]:
    return {
        "UserKnownHostsFile": _quoted(spec.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": spec.alias,
        # A link never meets a machine for the first time: who set the node up has pinned its key, before anybody's eyes (tunnel facts D7).
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "HashKnownHosts": "no",
    }


def _login(spec: LinkSpec) -> dict[str, str]:
    return {
        "IdentitiesOnly": "yes" if spec.identity else "no",
        "IdentityAgent": _quoted(spec.agent or "none"),
        "PreferredAuthentications": "publickey",
        "AddKeysToAgent": "no",
        # Not `-i`, which looks for the file under its name before a percent sign is read, and drops what is not there.
        "IdentityFile": _quoted(spec.identity) if spec.identity else "none",
    }


def _forwarding() -> dict[str, str]:
    return {
        "ExitOnForwardFailure": "yes",
        "ClearAllForwardings": "no",
        "StreamLocalBindUnlink": "yes",
        "StreamLocalBindMask": "0177",
    }


def _quoted(path: str) -> str:
    """As ssh_config(5) wants a path that may have spaces and quotes; a percent sign would begin a token."""
    return '"' + re.sub(r'(["\\])', r"\\\1", path.replace("%", "%%")) + '"'


def _field(path: str) -> str:
    """As the two sides of a forwarding are read: a colon would end the field, and since OpenSSH 8.4 a percent sign begins a token."""
    return re.sub(r"([:\\])", r"\\\1", path.replace("%", "%%"))
