"""Which hosts make up a fleet over SSH, and which node each is or will be. Pure."""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from llmhost.core.errors import UsageError
from llmhost.core.ledger import NodeRecord
from llmhost.fleet.desired import LEAVING, SSH, phase_of
from llmhost.fleet.installation import alias_of
from llmhost.ssh.target import SshTarget


@dataclass(frozen=True, slots=True)
class Place:
    """A host, and the node it is (`record`) or will be.

    `identity` is the key file that the user named, None = our own, then the agent. `transport` carries the link. `alias` is the name its
    host key is pinned under and its folder over there has.
    """

    node_id: str
    target: SshTarget
    alias: str
    identity: str | None
    transport: str
    record: NodeRecord | None = None

    @property
    def host(self) -> str:
        return str(self.target)


@dataclass(frozen=True, slots=True)
class HostWish:
    """What was asked for about hosts. `identity` and `transport` None = as recorded; the `usual_…` ones are for hosts that are new."""

    hosts: tuple[str, ...] = ()
    identity: str | None = None
    transport: str | None = None
    usual_identity: str | None = None
    usual_transport: str | None = None


def places(wish: HostWish, nodes: Sequence[NodeRecord], fleet: str, installation: str) -> list[Place]:
    """The fleet's hosts: those that are recorded, then those that are new. Raises UsageError (`bad_host`, `no_host`).

    Without a host named, a key or a transport that was asked for holds for all that are recorded, else for the named ones. A node that was
    let go, and is only not gone from its machine yet, comes back when its host is named, and not before.
    """
    named = list(dict.fromkeys(SshTarget.parse(host, getpass.getuser()) for host in wish.hosts))
    ours = [node for node in nodes if node.provider == SSH and node.fleet == fleet]
    recorded = [place for place in map(_recorded, ours) if place.target in named or not _let_go(place)]
    known = {place.target for place in recorded}
    found = [_asked(place, wish) if not named or place.target in named else place for place in recorded]
    ids = free_ids(node.id for node in nodes)
    for target in (target for target in named if target not in known):
        node_id = next(ids)
        usual = wish.usual_transport or default_transport()
        new = Place(node_id, target, alias_of(installation, fleet, node_id), _path(wish.usual_identity), usual)
        found.append(_asked(new, wish))
    if not found:
        raise UsageError(
            "say which machine is to serve.", hint="llmhost up --provider ssh --host user@host:port", code="no_host"
        )
    return found


def free_ids(taken: Iterable[str]) -> Iterator[str]:
    """`n1`, `n2`, … without those that are taken, the smallest first."""
    used = set(taken)
    return (name for number in count(1) if (name := f"n{number}") not in used)


def default_transport() -> str:
    """The system's own client where there is one (tunnel facts D1)."""
    return "openssh" if shutil.which("ssh") else "sshtunnel"


def place_of(node: NodeRecord) -> Place:
    """Where a recorded node is reached."""
    return _recorded(node)


def _let_go(place: Place) -> bool:
    return place.record is not None and phase_of(place.record) == LEAVING


def _recorded(node: NodeRecord) -> Place:
    spec = node.spec
    target = SshTarget.from_dict(spec["target"])
    return Place(node.id, target, spec["alias"], spec.get("identity"), spec["transport"], node)


def _asked(place: Place, wish: HostWish) -> Place:
    identity = _path(wish.identity) or place.identity
    return replace(place, identity=identity, transport=wish.transport or place.transport)


def _path(file: str | None) -> str | None:
    return str(Path(file).expanduser().absolute()) if file else None
