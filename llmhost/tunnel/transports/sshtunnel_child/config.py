"""What the child is told on the first line of its standard input."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from llmhost.ssh.target import SshTarget
from llmhost.tunnel.spec import LinkSpec


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """Where to connect as whom, and what to listen on. Names of files only: no secret is in it.

    `connect` is the time in seconds that each step of opening a connection may take; an SSH connection on which `alive_count` beats, one
    every `alive_every` seconds, went unanswered is dead; one with a beat unanswered for `suspect_after` seconds gets no new streams.
    `beat` is a file over there, as in `LinkSpec`.
    """

    target: SshTarget
    known_hosts: str
    alias: str
    local: str
    remote_port: int | None
    identity: str | None
    connect: float
    alive_every: float
    alive_count: int
    suspect_after: float
    beat: str | None = None

    @classmethod
    def of(cls, spec: LinkSpec, local: str) -> ChildConfig:
        timing = spec.timing
        return cls(
            target=spec.target,
            known_hosts=spec.known_hosts,
            alias=spec.alias,
            local=local,
            remote_port=spec.remote_port,
            identity=spec.identity,
            connect=timing.connect,
            alive_every=float(timing.alive_interval),
            alive_count=timing.alive_count,
            suspect_after=timing.echo_within,
            beat=spec.beat,
        )

    def as_line(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> ChildConfig:
        """Read what `as_line` wrote. Raises KeyError, TypeError or ValueError when it is something else."""
        data = json.loads(line)
        return cls(**{**data, "target": SshTarget.from_dict(data["target"])})
