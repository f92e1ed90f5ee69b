"""The host key of a rented machine, learnt from what its container prints rather than from whoever answers at its address.

The market's answer comes over TLS from an account that only we can read; a line of ours in the container's output names the key (vast
facts §4.6). What is pinned from it is required: another key is never logged in to.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading

from llmhost.core.errors import LlmhostError
from llmhost.providers.market import Market
from llmhost.ssh.pins import Pins

MARK = "LLMHOST-HOSTKEY"
LINES = 50
_LINE = re.compile(
    rf"(?:^|\s){MARK} (?P<type>(?:ssh|ecdsa)-[a-z0-9@.-]+) (?P<key>[A-Za-z0-9+/]{{32,2000}}={{0,2}})(?:\s|$)",
    re.MULTILINE,
)


def parse(text: str) -> list[tuple[str, str]]:
    """Type and base64 of every key that the lines name, one of each type: the last, because a container's new disk has new keys."""
    found = {match["type"]: match["key"] for match in _LINE.finditer(text) if _is_of(match["type"], match["key"])}
    return list(found.items())


def from_log(market: Market, instance_id: int) -> list[tuple[str, str]]:
    """The keys that the container's output names; none when it does not, or not yet, or the market does not say."""
    try:
        return parse(market.logs(instance_id, LINES, MARK))
    except LlmhostError:
        return []


class Hunt:
    """Asks for the keys in the background until there are some: the market may take a minute for an answer. `keys` is what it found."""

    def __init__(self, market: Market, instance_id: int, every_s: float) -> None:
        self.keys: list[tuple[str, str]] = []
        self._over = threading.Event()
        arguments = (market, instance_id, every_s)
        threading.Thread(target=self._hunt, args=arguments, name="llmhost-host-key", daemon=True).start()

    def end(self) -> None:
        """Ask no more; an answer that is under way is not waited for."""
        self._over.set()

    def _hunt(self, market: Market, instance_id: int, every_s: float) -> None:
        while not self._over.is_set():
            self.keys = from_log(market, instance_id)
            if self.keys:
                return
            self._over.wait(every_s)


def pin(pins: Pins, alias: str, keys: list[tuple[str, str]]) -> None:
    """Require one of these keys under this alias, and trust no earlier one. Raises LlmhostError (`state_unwritable`)."""
    pins.forget(alias)
    for key_type, key in keys:
        pins.pin(alias, key_type, key)


def _is_of(key_type: str, key: str) -> bool:
    """Whether the key says itself that it is of this type (RFC 4253 §6.6)."""
    try:
        data = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return False
    length = int.from_bytes(data[:4], "big")
    return data[4 : 4 + length] == key_type.encode()
