"""Who listens on a port of this machine, for an error message. Best effort: what the system does not show stays unknown."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from llmhost.supervisor.environment import clean_environment

_LISTEN = "0A"  # the state column of /proc/net/tcp


def port_owner(port: int) -> str | None:
    """ "NAME (pid N)" of the process that listens on `port`, or None."""
    return _from_lsof(port) if sys.platform == "darwin" else _from_proc(port)


def _from_proc(port: int) -> str | None:
    inodes = set(_inodes(port))
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or just gone
            if any(os.readlink(link) in wanted for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _from_lsof(port: int) -> str | None:
    argv = ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    try:
        env = clean_environment(os.environ)
        shown = subprocess.run(argv, capture_output=True, text=True, timeout=2, check=False, env=env).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = {line[0]: line[1:] for line in shown.splitlines() if line}
    return f"{fields['c']} (pid {fields['p']})" if "p" in fields and "c" in fields else None
