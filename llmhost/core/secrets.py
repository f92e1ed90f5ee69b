"""Tokens: made once, kept 0600, compared in constant time, masked whenever shown."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from llmhost.core.errors import LlmhostError

TOKEN_PREFIX = "llmh_"


def new_token() -> str:
    """A fresh bearer token with 256 bits of randomness."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def read_or_create(path: Path, make: str | None = None) -> str:
    """The secret kept at `path`, made on first use. Two callers at once end with the same one."""
    existing = read(path)
    if existing:
        return existing
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(make or new_token())
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)  # unlike rename, link never replaces the one another caller just made
            except FileExistsError:
                if not read(path):
                    os.replace(temporary, path)  # an empty leftover of a full disk
                    return _kept(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise LlmhostError(
            f"cannot keep a secret at {path}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable.",
            code="state_unwritable",
        ) from error
    return _kept(path)


def _kept(path: Path) -> str:
    secret = read(path)
    if not secret:  # never go on with an empty one: it would let everybody in
        raise LlmhostError(
            f"{path} is empty.", hint=f"Free disk space, remove {path} and run this again.", code="state_unwritable"
        )
    return secret


def read(path: Path) -> str | None:
    """The secret at `path`, or None when there is none."""
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LlmhostError(f"cannot read {path}: {error.strerror or error}.", code="state_unreadable") from error
    except UnicodeDecodeError:
        # Not `from` it: such an error carries the bytes.
        raise LlmhostError(
            f"cannot read {path}: it is no text.",
            hint=f"Remove it, then make a new one: rm {path} && llmhost up",
            code="state_unreadable",
        ) from None


def mask(secret: str | None) -> str | None:
    """What may be shown of a secret: that it is there, and its last four characters when it is long enough."""
    if not secret:
        return None
    return f"…{secret[-4:]}" if len(secret) >= 16 else "…"
