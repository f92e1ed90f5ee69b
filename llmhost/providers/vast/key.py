"""The account's key: ours first, then where the vendor's own client keeps it (vast facts §1.3)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llmhost.core import secrets
from llmhost.core.errors import AuthenticationNeeded
from llmhost.core.settings import Settings

FILE_NAME = "vast_api_key"
HINT = "Set VAST_API_KEY, log in with the vast client (vastai set api-key), or run: llmhost up --provider local"


def find_key(settings: Settings, environ: Mapping[str, str] | None = None) -> str | None:
    """The key of the settings, else of the vendor's files; None when there is none. An empty one does not count.

    Raises LlmhostError (`state_unreadable`) when a file is there and cannot be read. Nothing is written.
    """
    given = (settings.vast_api_key or "").strip()
    if given:
        return given
    env = os.environ if environ is None else environ
    return next((key for path in key_files(env) if (key := secrets.read(path))), None)


def need_key(settings: Settings, environ: Mapping[str, str] | None = None) -> str:
    """`find_key`, or AuthenticationNeeded: `no_key`, or `bad_key` for one that no header can carry."""
    key = find_key(settings, environ)
    if key is None:
        raise AuthenticationNeeded("there is no key for vast.ai.", hint=HINT, code="no_key")
    if not (key.isascii() and key.isprintable() and " " not in key):
        # The HTTP library would refuse it too, in words that contain it.
        raise AuthenticationNeeded("the key for vast.ai has characters that no key has.", hint=HINT, code="bad_key")
    return key


def key_files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Where the vendor's client looks, in its order: the folder of today, then that of old."""
    home = Path(environ.get("HOME") or Path.home())
    config = environ.get("XDG_CONFIG_HOME")
    return Path(config or home / ".config") / "vastai" / FILE_NAME, home / f".{FILE_NAME}"
