"""Writing `config.toml`: whole, private, and never over a file that is already there unless asked to."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmhost.core.addresses import is_loopback
from llmhost.core.errors import LlmhostError
from llmhost.core.settings_layers import file_key

PLAIN_REDIS = (
    "The Redis URL begins with redis://, so password and answers cross the network unencrypted; use rediss://."
)
HEADER = "# Settings of llmhost. All of them, with their defaults: llmhost config show"


def checked(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values as they will be read again, and warnings about what is risky. Raises UsageError for one that would not load."""
    from llmhost.core.settings import load_settings

    nowhere = Path(os.devnull) / "nothing"
    settings = load_settings(values, environ={}, cwd=nowhere, config_file=nowhere)
    _ = settings.ollama_url
    url = settings.redis_url
    plain = url and url.startswith("redis://") and not is_loopback(redis_host(url))
    return {name: getattr(settings, name) for name in values}, [PLAIN_REDIS] if plain else []


def redis_host(url: str) -> str:
    """The host a Redis URL leads to; "" for a socket or a URL that cannot be read."""
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def render(values: Mapping[str, Any]) -> str:
    """The file's text: plain settings first, then a section each."""
    top = [name for name in values if "." not in file_key(name)]
    lines = [HEADER, *(f"{name} = {_literal(values[name])}" for name in top)]
    sections = dict.fromkeys(file_key(name).partition(".")[0] for name in values if name not in top)
    for section in sections:
        lines += ["", f"[{section}]"]
        lines += [
            f"{file_key(name).partition('.')[2]} = {_literal(values[name])}"
            for name in values
            if file_key(name).startswith(f"{section}.")
        ]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, int | float):
        return json.dumps(value)
    # A JSON string is a TOML string, apart from the one control character JSON leaves as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def write(path: Path, text: str, *, force: bool) -> Path | None:
    """Put the file there, 0600, in one step; where the file it replaced is kept, if there was one.

    Raises LlmhostError: `config_exists` (without `force`, also when it appeared meanwhile) or `config_unwritable`.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            kept = _keep(path) if force else None
            # unlike rename, link never replaces a file
            os.replace(temporary, path) if force else os.link(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except FileExistsError:
        raise LlmhostError(
            f"{path} exists already.", hint="llmhost config init --force", code="config_exists"
        ) from None
    except OSError as error:
        raise LlmhostError(
            f"cannot write {path}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable, or point XDG_CONFIG_HOME elsewhere.",
            code="config_unwritable",
        ) from error
    return kept


def _keep(path: Path) -> Path | None:
    if not path.exists():
        return None
    content = path.read_bytes()
    for kept in _names_beside(path):
        try:
            descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue  # an older one, which stays
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return kept
    raise AssertionError("there is no end of names")


def _names_beside(path: Path) -> Iterator[Path]:
    yield path.with_suffix(".toml.old")
    yield from (path.with_suffix(f".toml.old.{number}") for number in itertools.count(2))
