"""What the supervisor is asked to run: plain values that travel over its control socket as JSON and can be compared.

A spec holds secrets (`config` has tokens, `probe` too), so it is only ever sent over that 0600 socket, kept in memory, and never logged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

PORT_SPAN = 50  # how many ports after the wished one are tried when it was not asked for by name
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP port of 127.0.0.1 that the supervisor itself binds and keeps. `explicit` = asked for by name: never another one."""

    port: int
    explicit: bool = False
    span: int = PORT_SPAN


@dataclass(frozen=True, slots=True)
class Probe:
    """Where a child says how it is, over HTTP. `address` is `unix:/path` or `host:port`; None = the port it listens on."""

    path: str
    address: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Live:
    """What a running child can be told anew: `body` is merged into its configuration at the start, and sent by `PUT path` later on."""

    path: str
    body: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One process to keep running.

    `config` is written to its standard input as one JSON line (with `fd`, the number of its inherited listening socket, when `listen`
    is set), after which standard input stays open as the lifeline. `sockets` are files it binds, removed when it has stopped.
    `grace_s` is how long it may finish what it is doing after SIGTERM. `live` is the part of the configuration that changes without a
    restart: it is part of `config` when the process starts, and sent to it whenever it differs afterwards.
    """

    name: str
    argv: tuple[str, ...]
    config: dict[str, Any] | None = field(default=None, repr=False)
    env: dict[str, str] = field(default_factory=dict)
    listen: Listen | None = None
    probe: Probe | None = None
    sockets: tuple[str, ...] = ()
    grace_s: float = GRACE_S
    live: Live | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ChildSpec:
        """Read what `as_dict` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
        listen, probe, live = data.get("listen"), data.get("probe"), data.get("live")
        return cls(
            name=str(data["name"]),
            argv=tuple(str(part) for part in data["argv"]),
            config=data.get("config"),
            env=dict(data.get("env") or {}),
            listen=Listen(**listen) if listen else None,
            probe=Probe(**probe) if probe else None,
            sockets=tuple(data.get("sockets") or ()),
            grace_s=float(data.get("grace_s", GRACE_S)),
            live=Live(**live) if live else None,
        )

    def without_listen(self) -> ChildSpec:
        """For comparing: whether a bound port satisfies `listen` is a question to the port, and `live` needs no other process."""
        return replace(self, listen=None, live=None)
