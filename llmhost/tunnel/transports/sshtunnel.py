"""The transport for machines without an `ssh` program: a child of ours on the packages sshtunnel and paramiko.

What it cannot do as well as OpenSSH is stated by `tests/tunnel/test_sshtunnel_limits.py`. Neither package is imported here.
"""

from __future__ import annotations

import sys

from llmhost.ssh.failures import failure
from llmhost.tunnel.base import Reason
from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.transports.sshtunnel_child import last_words
from llmhost.tunnel.transports.sshtunnel_child.config import ChildConfig
from llmhost.tunnel.transports.sshtunnel_child.last_words import SOCKET_FAILED

_CHILD = "llmhost.tunnel.transports.sshtunnel_child"


class SshTunnel:
    """See `llmhost.tunnel.base.Transport`. The remote end is a TCP port: paramiko can open no channel to a Unix socket."""

    name = "sshtunnel"

    def command(self, spec: LinkSpec, local: str) -> tuple[list[str], dict[str, str]]:
        """The child's argv; what it is to do comes with `first_line`."""
        return [sys.executable, "-P", "-m", _CHILD], {"SSH_AUTH_SOCK": spec.agent} if spec.agent else {}

    def first_line(self, spec: LinkSpec, local: str) -> bytes:
        return ChildConfig.of(spec, local).as_line()

    def explain(self, code: int | None, stderr: str, spec: LinkSpec) -> Reason:
        """By the line that the child wrote itself; without one it was killed or never got so far."""
        if code is None:
            return _worded("connect_timeout", "", spec)
        reason, detail = last_words.read(stderr) or ("connection_lost", _tail(stderr, code))
        if reason == SOCKET_FAILED:
            return Reason(reason, f"nothing can listen on the local socket {detail}.", False)
        return _worded(reason, detail, spec)


def _worded(code: str, detail: str, spec: LinkSpec) -> Reason:
    error = failure(code, spec.target, detail, key=spec.identity or "in the agent")
    return Reason(error.code, error.message, error.fatal)


def _tail(stderr: str, code: int) -> str:
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else f"its process ended with {code}"
