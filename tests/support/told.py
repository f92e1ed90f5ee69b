"""A listener to progress that remembers what it was told."""

from __future__ import annotations


class Told:
    """`on_phase` is called with each phase's code, for tests that act in the middle of the work."""

    def __init__(self, on_phase=None):
        self.phases = []
        self.transfers = []
        self.notes = []
        self._on_phase = on_phase

    def phase(self, code, text):
        self.phases.append(code)
        if self._on_phase:
            self._on_phase(code)

    def transfer(self, code, text, done, total):
        self.transfers.append((done, total))

    def note(self, text):
        self.notes.append(text)
