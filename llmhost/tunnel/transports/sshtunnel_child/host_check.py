"""Is it the machine whose host key is pinned?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paramiko

from llmhost.core.errors import LlmhostError
from llmhost.ssh.pins import Pins
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended

_RSA = "ssh-rsa"
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")  # what a pinned "ssh-rsa" key signs with (RFC 8332)


class PinFile(Pins):
    """The pins in one file, whatever its name."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.parent)
        self._file = file

    def path(self, alias: str) -> Path:
        return self._file


class HostCheck:
    """The pins of one alias. A machine without any is met for the first time: its key is pinned then (tunnel facts D7)."""

    def __init__(self, pins: Pins, alias: str) -> None:
        """Raises Ended (`host_key_unknown`) when the file is there and cannot be read as pins."""
        self._pins, self._alias = pins, alias
        try:
            self._known = pins.keys(alias)
            damaged = pins.damaged(alias)
        except LlmhostError as error:
            raise Ended("host_key_unknown", error.message) from error
        if damaged:
            raise Ended("host_key_unknown", f"{pins.path(alias)} holds no key")

    def ask_for_pinned(self, options: Any) -> None:
        """Let a machine that has several keys show one that is pinned. `options`: the transport's SecurityOptions."""
        kinds = [kind for kind, _ in self._known]
        names = [name for kind in kinds for name in (_RSA_SIGNATURES if kind == _RSA else (kind,))]
        if names:
            options.key_types = tuple(name for name in options.key_types if name in names)

    def check(self, shown: paramiko.PKey) -> None:
        """Raises Ended (`host_key_changed`; `host_key_unknown` when a first key cannot be kept)."""
        key = (shown.get_name(), shown.get_base64())
        if not self._known:
            self._pin(*key)
        elif key not in self._known:
            raise Ended("host_key_changed", shown.fingerprint)

    def _pin(self, kind: str, body: str) -> None:
        try:
            self._pins.pin_first(self._alias, kind, body)
            self._known = self._pins.keys(self._alias)
        except LlmhostError as error:
            raise Ended("host_key_unknown", error.message) from error
        if (kind, body) not in self._known:
            raise Ended("host_key_changed", "another was pinned at the same moment")
