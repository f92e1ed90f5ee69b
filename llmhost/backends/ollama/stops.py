"""Stop sequences, found by ourselves.

Ollama can stop at them too, but then tells neither that it did (its reason is the same `stop` as for a finished answer) nor at which.
"""

from __future__ import annotations


class StopMatcher:
    """Looks for the first of several strings in a text that comes in pieces. Nothing of a stop sequence is ever let through."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.matched: str | None = None

    def feed(self, piece: str) -> str:
        """What may be shown now. After a match, which `matched` then names, the text before it and nothing more."""
        if not self._stops:
            return piece
        if self.matched is not None:
            return ""
        text = self._held + piece
        at, stop = min(((text.find(stop), stop) for stop in self._stops if stop in text), default=(-1, ""))
        if at >= 0:
            self.matched, self._held = stop, ""
            return text[:at]
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back and turned out to be no stop sequence."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of the text with which a stop sequence begins."""
        longest = min(max(map(len, self._stops)) - 1, len(text))
        return next((size for size in range(longest, 0, -1) if self._may_continue(text[-size:])), 0)

    def _may_continue(self, end: str) -> bool:
        return any(stop.startswith(end) for stop in self._stops)
