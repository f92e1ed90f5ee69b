"""Makes an uploaded bundle the current release, or changes nothing.

The text of this file is fed to a node's Python, so it imports nothing of llmhost. `python3 -I -S -X utf8 - FOLDER NAME PART SHA256` checks
FOLDER/releases/PART, unpacks it beside, renames it to FOLDER/releases/NAME and points FOLDER/current at it. Without PART it only points
`current`. Prints one line of JSON: `{"current": NAME}`, `{"missing": true}` when there is no such release yet, or
`{"error": CODE, "detail": TEXT}`.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path

# An upload of another operator's may be under way; one this old was interrupted.
STALE_S = 3_600.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DRAFT = ".unpacking-"
PART_END = ".part"


class Refused(Exception):
    """The upload is not what was announced."""


def install(folder: Path, name: str, part: str, sha256: str) -> dict[str, object]:
    """All of it, by one caller at a time."""
    releases = folder / "releases"
    with open(releases / ".lock", "a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if part and not (releases / name).is_dir():
            check(releases / part, sha256)
            unpack(releases, name, releases / part)
        if part:
            (releases / part).unlink(missing_ok=True)
        if not (releases / name).is_dir():
            return {"missing": True}
        before = point(folder, name)
        prune(folder, {name, before, running(folder)})
    return {"current": name}


def check(part: Path, sha256: str) -> None:
    """Raises Refused."""
    digest = hashlib.sha256()
    with open(part, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if digest.hexdigest() != sha256:
        raise Refused(f"{part.stat().st_size} bytes with another digest arrived")


def unpack(releases: Path, name: str, part: Path) -> None:
    """Beside its place, then renamed: a release is there whole or not at all."""
    draft = tempfile.mkdtemp(prefix=DRAFT, dir=releases)
    try:
        with tarfile.open(part, "r:gz") as archive:
            if hasattr(tarfile, "data_filter"):  # not before 3.11.4; the content is ours, its digest was checked
                archive.extractall(draft, filter="data")
            else:
                archive.extractall(draft)
        os.replace(draft, releases / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already when it was renamed


def point(folder: Path, name: str) -> str:
    """Make `current` lead to the release; to which it led before."""
    link, target = folder / "current", os.path.join("releases", name)
    before = os.readlink(link) if link.is_symlink() else ""
    if before != target:
        draft = folder / f".current-{os.getpid()}"
        draft.unlink(missing_ok=True)
        os.symlink(target, draft)
        os.replace(draft, link)
    return os.path.basename(before)


def running(folder: Path) -> str:
    """The release that the node's processes were started from; empty when nothing is known of it."""
    try:
        lib = json.loads((folder / "state" / "supervisor.json").read_text())["lib"]
        return Path(lib).parent.name
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def prune(folder: Path, keep: set[str]) -> None:
    """Delete what no one will go back to, and what interrupted uploads left."""
    now = time.time()
    for path in (folder / "releases").iterdir():
        if path.name in keep or path.name == ".lock":
            continue
        if path.name.startswith(DRAFT) or path.name.endswith(PART_END):
            if now - path.lstat().st_mtime > STALE_S:
                remove(path)
        else:
            remove(path)


def remove(path: Path) -> None:
    """A file or a folder; a release under another name first, so that one half deleted is never taken for one that is there."""
    if path.is_dir() and not path.is_symlink():
        gone = path if path.name.startswith(DRAFT) else path.rename(path.with_name(f"{DRAFT}{path.name}-{os.getpid()}"))
        shutil.rmtree(gone, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def main(folder: str, name: str, part: str = "", sha256: str = "") -> dict[str, object]:
    """The answer, whatever happens."""
    try:
        return install(Path(folder), name, part, sha256)
    except Refused as error:
        return {"error": "bundle_damaged", "detail": str(error)}
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        return {"error": "bundle_damaged", "detail": str(error)}
    except OSError as error:
        code = "disk_full" if error.errno in FULL else "node_unwritable"
        return {"error": code, "detail": f"{error.filename or folder}: {error.strerror or error}"}


if __name__ == "__main__":
    os.umask(0o077)
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
