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
    """The pins of one alias. A link never meets a machine for the first time: who set the node up has pinned its key (tunnel facts D7)."""

    def __init__(self, pins: Pins, alias: str) -> None:
        """Raises Ended (`host_key_unknown`) when no pin can be read."""
        try:
            self._known = pins.keys(alias)
        except LlmhostError as error:
            raise Ended("host_key_unknown", error.message) from error
        if not self._known:
            raise Ended("host_key_unknown", f"{pins.path(alias)} holds no key")

    def ask_for_pinned(self, options: Any) -> None:
        """Let a machine that has several keys show one that is pinned. `options`: the transport's SecurityOptions."""
        kinds = [kind for kind, _ in self._known]
        names = [name for kind in kinds for name in (_RSA_SIGNATURES if kind == _RSA else (kind,))]
        options.key_types = tuple(name for name in options.key_types if name in names)

    def check(self, shown: paramiko.PKey) -> None:
        """Raises Ended (`host_key_changed`)."""
        if (shown.get_name(), shown.get_base64()) not in self._known:
            raise Ended("host_key_changed", shown.fingerprint)
