"""Becoming `claude`: the process is replaced, so that terminal, signals, job control and exit code are its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from llmhost.core.errors import LlmhostError

# A session may read its settings again while it runs, so old files go late.
KEEP_SETTINGS_S = 30 * 86_400


def write_settings(folder: Path, document: Mapping[str, Any]) -> Path:
    """Keep a settings document for `--settings` as a 0600 file named by its content, so that the token is never in argv.

    The process is replaced afterwards and cannot clean up; equal launches share one file and files nobody used for a month are removed.
    Raises LlmhostError (`state_unwritable`).
    """
    text = json.dumps(document, sort_keys=True)
    path = folder / f"settings-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_old(folder)
        _replace(path, text)
    except OSError as error:
        raise LlmhostError(
            f"cannot write {path}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable.",
            code="state_unwritable",
        ) from error
    return path


def become(argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process. Raises LlmhostError (`claude_missing`) when the program cannot be run."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these two, and what is ignored stays ignored in the program that takes our place.
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        os.execve(argv[0], list(argv), dict(environment))
    except OSError as error:
        for number, handler in before.items():  # we live on, and a closed pipe must not kill us
            signal.signal(number, handler)
        raise LlmhostError(
            f"cannot run {argv[0]}: {error.strerror or error}.",
            hint="Check with: llmhost doctor",
            code="claude_missing",
        ) from error


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".settings-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _remove_old(folder: Path) -> None:
    for old in folder.glob("settings-*.json"):
        with contextlib.suppress(FileNotFoundError):  # another launch was quicker
            if time.time() - old.stat().st_mtime > KEEP_SETTINGS_S:
                old.unlink()
