"""How long work tells what it is doing: phases, transfers and notes, whoever shows them."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by the work, shown by the terminal. `code` is stable (`pull`, `load`, …), `text` a short phrase."""

    def phase(self, code: str, text: str) -> None:
        """A new phase begins; the one before is over."""

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        """Bytes moved so far, of `total` where that is known. May be called many times a second."""

    def note(self, text: str) -> None:
        """A fact worth a line of its own."""


class SilentProgress:
    """Shows nothing: `--quiet`, and work without an audience."""

    def phase(self, code: str, text: str) -> None:
        """Ignore."""

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
