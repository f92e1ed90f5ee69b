"""The local ends of links: each connection has a socket of its own, and a symbolic link with the lasting name leads to the one in use."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import threading
from pathlib import Path

_PREFIX = "l"
_SUFFIX = ".sock"
_RANDOM_BYTES = 5  # never the same as that of another supervisor of this folder, which may still drain its own
_ANSWER_S = 0.2
# A link that leaves and one that takes its name over are two threads; looking and removing must be one step to the other.
_naming = threading.Lock()


def new_socket(run_dir: Path) -> Path:
    """A path that nothing else uses, for one connection."""
    return run_dir / f"{_PREFIX}{secrets.token_hex(_RANDOM_BYTES)}{_SUFFIX}"


def point(local: Path, socket_path: Path) -> None:
    """Let `local` lead to that socket, at once and without a moment in between. Raises OSError."""
    local.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = local.with_name(f".{secrets.token_hex(_RANDOM_BYTES)}")
    os.symlink(socket_path, fresh)
    try:
        with _naming:
            os.replace(fresh, local)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def unpoint(local: Path, socket_path: Path) -> None:
    """Remove `local` if it leads to that socket; one that leads elsewhere is somebody else's by now."""
    with _naming, contextlib.suppress(OSError):
        if os.readlink(local) == str(socket_path):
            local.unlink()


def leads_to(local: Path, socket_path: Path) -> bool:
    """Whether `local` still leads to that socket, and the socket is still there."""
    try:
        return os.readlink(local) == str(socket_path) and stat.S_ISSOCK(socket_path.stat().st_mode)
    except OSError:
        return False


def remove_stale(run_dir: Path) -> list[str]:
    """Remove what a killed supervisor left: our sockets that nobody listens on, and links to what is not there. Returns the names."""
    removed: list[str] = []
    for stale in (_dead_socket, _dangling):  # in this order: a link dangles once its socket is removed
        with contextlib.suppress(OSError):
            removed += [path.name for path in sorted(run_dir.iterdir()) if stale(path) and _removed(path)]
    return removed


def _dead_socket(path: Path) -> bool:
    name = path.name
    ours = name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    return ours and len(name) == len(_PREFIX) + 2 * _RANDOM_BYTES + len(_SUFFIX) and path.is_socket() and _refuses(path)


def _refuses(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as caller:
        caller.settimeout(_ANSWER_S)
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def _dangling(path: Path) -> bool:
    """A link of ours whose socket is gone, or half of a `point` that was interrupted."""
    return path.is_symlink() and not path.exists()


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False
