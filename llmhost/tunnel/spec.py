"""What the supervisor is asked to keep linked: plain values, like the specs of its children."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from llmhost.ssh.target import SshTarget
from llmhost.supervisor.spec import Probe

TRANSPORTS = ("openssh", "sshtunnel")


@dataclass(frozen=True, slots=True)
class LinkTiming:
    """Intervals in seconds; the defaults and their reasons are the tunnel facts' (§2.3, §3). Tests shorten them.

    `echo_every` and `echo_within` are shorter than theirs (4 and 3): with those an idle link would be found frozen after up to 11 s, their
    own bar T3 is 6 s, and the gateway, which is another process here, cannot ask for an echo with each request as their prototype did.
    """

    connect: float = 10.0
    echo_every: float = 1.0
    echo_within: float = 2.5
    misses: int = 2
    woke_after: float = 5.0  # a jump of the wall clock against the monotonic one
    woke_within: float = 2.0
    alive_interval: int = 5  # ServerAliveInterval; the old link of a replaced one ends with these
    alive_count: int = 6
    backoff_first: float = 0.25
    backoff_wanted: float = 2.0  # longest pause while somebody waits, or in the first minute
    backoff_idle: float = 30.0
    settled_after: float = 60.0
    login_every: float = 1.0  # never more than one login a second per node
    probe_every: float = 2.0
    drain: float = 600.0  # how long streams may go on over a link that was replaced


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One node's link. `name` is the node's id.

    `local` is the Unix socket path that the gateway connects to (a symbolic link to the socket of the connection in use); `remote_socket`
    and `remote_port` are where the node proxy listens over there (the port only where the transport needs one). `known_hosts` is the file
    with the pinned host key under `alias`. `identity` is a private key's file; None = only the agent. `agent` is the agent's socket
    (SSH_AUTH_SOCK of whoever asks: the supervisor's own environment has none). `probe` asks the node proxy how it is, through the link.
    `beat` is a file over there (absolute, or relative to the remote home) that is rewritten with each heartbeat where its folder exists;
    None = no file.
    """

    name: str
    target: SshTarget
    local: str
    remote_socket: str
    known_hosts: str
    alias: str
    probe: Probe
    identity: str | None = None
    agent: str | None = None
    remote_port: int | None = None
    transport: str = "openssh"
    ssh_program: str = "ssh"
    beat: str | None = None
    timing: LinkTiming = field(default_factory=LinkTiming)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LinkSpec:
        """Read what `as_dict` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        known["target"] = SshTarget.from_dict(data["target"])
        known["probe"] = Probe(**data["probe"])
        known["timing"] = LinkTiming(**(data.get("timing") or {}))
        return cls(**known)
