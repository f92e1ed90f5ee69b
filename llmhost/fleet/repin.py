"""`llmhost tunnel --repin NODE`: another host key is trusted, after both were shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import UsageError
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.choosing import node_named
from llmhost.fleet.desired import is_remote
from llmhost.fleet.hosts import place_of
from llmhost.fleet.links import kick, pins_of
from llmhost.ssh import handshake
from llmhost.ssh.dial import dial
from llmhost.ssh.pins import fingerprint
from llmhost.supervisor.launch import find_supervisor

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The host key a machine shows now, beside those that are trusted (`old`, fingerprints)."""

    node: NodeRecord
    old: tuple[str, ...]
    key_type: str
    key: str

    @property
    def new(self) -> str:
        return fingerprint(self.key)

    @property
    def same(self) -> bool:
        return self.new in self.old

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.node.id, "host": place_of(self.node).host, "old": list(self.old), "new": self.new}


def look_at_key(settings: Settings, paths: Paths, node_id: str) -> KeyChange:
    """Ask the machine for its host key; nobody is logged in. Raises UsageError for a node that is none over SSH, SshFailure."""
    node = node_named(settings, paths, node_id)
    if not is_remote(node):
        raise UsageError(f"{node.id} is on this machine; there is no host key.", hint="llmhost status")
    place, pins = place_of(node), pins_of(paths)
    timeout_s = settings.node_connect_timeout_s
    transport = handshake.negotiate(dial(place.target, timeout_s), place.target, pins, place.alias, timeout_s)
    try:
        key = transport.get_remote_server_key()
        return KeyChange(node, tuple(pins.known(place.alias)), key.get_name(), key.get_base64())
    finally:
        handshake.end(transport)


def trust(change: KeyChange, paths: Paths) -> None:
    """Trust the new key and only it, and let the link try at once. Raises LlmhostError (`state_unwritable`)."""
    pins, alias = pins_of(paths), place_of(change.node).alias
    pins.forget(alias)
    pins.pin(alias, change.key_type, change.key)
    client = find_supervisor(paths)
    if client is not None:
        with client:
            kick(client, change.node.id)
