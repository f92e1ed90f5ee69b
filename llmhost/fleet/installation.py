"""Who we are: the installation id, which tells ours from others' on machines that several people use."""

from __future__ import annotations

import contextlib
import uuid

from llmhost.core import secrets
from llmhost.core.paths import Paths

ID_SHOWN = 8
RENTED_MARK = "has-rented"


def installation_id(paths: Paths) -> str:
    """32 hexadecimal digits, made once and kept beside the configuration. Raises LlmhostError (`state_unwritable`)."""
    return secrets.read_or_create(paths.installation_id_file, uuid.uuid4().hex)


def has_rented(paths: Paths) -> bool:
    """Whether anything was ever rented from here, as far as is known beside the ledger, which may have been lost."""
    return (paths.config_dir / RENTED_MARK).exists()


def remember_renting(paths: Paths) -> None:
    """Remember it, before anything is rented. Raises LlmhostError (`state_unwritable`)."""
    secrets.read_or_create(paths.config_dir / RENTED_MARK, "vast")


def forget_renting(paths: Paths) -> None:
    """The market said for long enough that nothing of ours is there."""
    with contextlib.suppress(OSError):
        (paths.config_dir / RENTED_MARK).unlink(missing_ok=True)


def alias_of(installation: str, fleet: str, node_id: str) -> str:
    """The name under which a node's host key is pinned, and of its folder over there: one for each installation, fleet and node."""
    return f"llmhost-{installation[:ID_SHOWN]}-{fleet}-{node_id}"
