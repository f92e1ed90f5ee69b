"""Several nodes told of by one line of progress."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from llmhost.core.progress import Progress


@dataclass(slots=True)
class Board:
    """What all nodes report to; may be called from any thread. Bytes that several move at once are added up."""

    progress: Progress
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _moved: dict[tuple[str, str], dict[str, tuple[int, int | None]]] = field(default_factory=dict)

    def node(self, name: str) -> NodeProgress:
        """Where one node reports."""
        return NodeProgress(self, name)

    def tell_phase(self, node: str, code: str, text: str) -> None:
        with self._lock:
            self.progress.phase(code, f"{node}: {text}")

    def tell_transfer(self, node: str, code: str, text: str, done: int, total: int | None) -> None:
        with self._lock:
            moved = self._moved.setdefault((code, text), {})
            moved[node] = (done, total)
            totals = [one for _done, one in moved.values()]
            known = sum(one for one in totals if one is not None) if None not in totals else None
            self.progress.transfer(
                code, f"{', '.join(sorted(moved))}: {text}", sum(one for one, _ in moved.values()), known
            )

    def tell_note(self, node: str, text: str) -> None:
        with self._lock:
            self.progress.note(f"{node}: {text}")


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """A Progress that says which node it is about."""

    board: Board
    name: str

    def phase(self, code: str, text: str) -> None:
        self.board.tell_phase(self.name, code, text)

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        self.board.tell_transfer(self.name, code, text, done, total)

    def note(self, text: str) -> None:
        self.board.tell_note(self.name, text)
