"""A folder that only one command sees as read-only, in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_OWN = ("unshare", *(() if os.getuid() == 0 else ("--map-root-user",)), "--mount", "--propagation", "private")
_FREEZE = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def frozen(folder: Path, argv: list[str]) -> list[str]:
    """The command line that runs another one so."""
    return [*_OWN, "sh", "-c", _FREEZE, str(folder), *argv]


def machine_allows(folder: Path) -> bool:
    """Whether it can be done here: not every container may mount."""
    try:
        tried = subprocess.run(frozen(folder, ["touch", str(folder / "x")]), capture_output=True, timeout=20)
    except FileNotFoundError:
        return False
    return b"Read-only" in tried.stderr
