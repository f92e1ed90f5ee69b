"""Whether somebody uses a fleet without its machines noticing, and how they are told, because each of them ends itself when it is idle.

An answer from the gateway's cache reaches no machine, a request to a fleet of two reaches one of them, and fetching a model is no request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from llmhost.core.guard_files import Touch
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.desired import ACTIVE_PATH
from llmhost.supervisor.loopback import request

NAME = "in-use"
TELL_S = 2.0


def place(paths: Paths) -> Path:
    return paths.state_dir / NAME


def mark(paths: Paths) -> Touch:
    """What a command touches while it works for somebody who waits for it."""
    return Touch(str(place(paths).absolute()))


def marked_at(paths: Paths) -> datetime | None:
    """When a command last did; None = never."""
    try:
        return datetime.fromtimestamp(place(paths).stat().st_mtime, UTC)
    except OSError:
        return None


def tell(nodes: Iterable[NodeRecord], paths: Paths) -> None:
    """Let each node's machine know, through its link. One that cannot be reached is told in the next round, or was meant to be alone."""
    for node in nodes:
        address = f"unix:{paths.node_socket(node.id).absolute()}"
        with contextlib.suppress(OSError):
            request(address, "POST", ACTIVE_PATH, token=node.token, timeout_s=TELL_S, whole_s=TELL_S)
