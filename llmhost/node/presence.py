"""Tells a rented machine's dead-man switch that its operator is at work (llmhost.core.guard_files)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmhost.core.guard_files import ACTIVE, CONTACT, Touch

Tell = Callable[[dict[str, Any]], None]


def note(command: str) -> None:
    """Every command but a reboot's is an operator's, and telling the node what to run is the beginning of its use."""
    if command != "start":
        Touch(CONTACT).touch()
    if command == "apply":
        Touch(ACTIVE).touch()


def telling(tell: Tell) -> Tell:
    """As `tell`; an operator who waits for a model is neither away nor idle, however long it takes."""
    files = [Touch(ACTIVE), Touch(CONTACT)]

    def told(document: dict[str, Any]) -> None:
        for file in files:
            file.touch()
        tell(document)

    return told
