"""The seam between a link and the program that carries its bytes.

A transport describes one child process per connection. The link starts it, writes a line to its standard input about once a second and
expects the line back on its standard output. The child

* listens on the Unix socket `local` and forwards every connection to the node's proxy (`spec.remote_socket`, or `spec.remote_port` where
  the transport cannot reach a Unix socket); it listens before the first line comes back;
* sends every line of its standard input back on its standard output *through the remote side* (heartbeat: what comes back was there); other
  output around it is ignored;
* at the end of its standard input takes no new connection, lets the streams that run finish, and ends (make before break, tunnel facts D5).
  It is killed when it has to go at once, and when the supervisor dies, so it needs no watch of its own;
* ends with the reason on its standard error when the connection cannot be made or is lost.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from llmhost.core.errors import UsageError
from llmhost.tunnel.spec import TRANSPORTS, LinkSpec


class Reason(NamedTuple):
    """Why a connection ended: a code of `llmhost.ssh.failures`, a sentence for people, and whether trying again cannot help."""

    code: str
    text: str
    fatal: bool


class Transport(Protocol):
    """One way to carry a link. Stateless; may be used by many links at once."""

    name: str

    def command(self, spec: LinkSpec, local: str) -> tuple[list[str], dict[str, str]]:
        """The argv of the child and what its environment has on top of ours. Pure; nothing secret in either."""
        ...

    def first_line(self, spec: LinkSpec, local: str) -> bytes:
        """What the child is sent on its standard input before any beat: b"" or one line with its line end. Pure."""
        ...

    def explain(self, code: int | None, stderr: str, spec: LinkSpec) -> Reason:
        """Why the child ended with exit `code` (None = it was killed because it did not connect in time) and these last words."""
        ...


def open_transport(name: str) -> Transport:
    """The transport of that name. Raises UsageError (`unknown_transport`)."""
    if name == "openssh":
        from llmhost.tunnel.transports.openssh import OpenSsh

        return OpenSsh()
    if name == "sshtunnel":
        from llmhost.tunnel.transports.sshtunnel import SshTunnel

        return SshTunnel()
    raise UsageError(
        f"{name!r} is no transport.", hint=f"There are: {', '.join(TRANSPORTS)}.", code="unknown_transport"
    )
