"""After `up`: the nodes that the new ones take the place of are let go."""

from __future__ import annotations

from collections.abc import Collection

from llmhost.core.progress import Progress
from llmhost.fleet.commit import Desk
from llmhost.fleet.desired import SSH
from llmhost.fleet.retire import dismiss, drain, left_behind, take_away


def replaced(desk: Desk, ids: Collection[str], progress: Progress) -> list[str]:
    """Let these nodes finish, end them and forget them. Warnings about those that could not be taken away, which stay in the ledger."""
    if not ids:
        return []
    drain(desk, ids, progress)
    dismiss(desk, ids)
    elsewhere = [node for node in desk.ledger.nodes() if node.id in ids and node.provider == SSH]
    departures = take_away(elsewhere, desk.settings, desk.paths, progress)
    with desk.ledger.transaction():
        for departure in departures:
            if departure.error is None:
                desk.ledger.remove_node(departure.node.id)
    return [left_behind(departure).message for departure in departures if departure.error is not None]
