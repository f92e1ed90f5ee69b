"""What a node was told to run: plain values from the operator's side, kept in a 0600 file so that a reboot does not need the operator."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llmhost.core.errors import LlmhostError

OllamaMode = Literal["use", "serve", "none"]
_FULL = (errno.ENOSPC, errno.EDQUOT)
MODES = ("use", "serve", "none")


@dataclass(frozen=True, slots=True)
class OllamaWish:
    """`use` the server at `url` (host:port or http URL), `serve` one of our own with the program `bin`, or `none`.

    `env` overrules our own settings of `ollama serve`; `context` is the window to load, in tokens.
    """

    mode: OllamaMode = "none"
    url: str | None = None
    bin: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    context: int | None = None


@dataclass(frozen=True, slots=True)
class NodeWish:
    """`server` is a ServerConfig as plain values, without a place to listen; None = no proxy yet.

    `tcp` = a loopback port beside the socket; `version` is the operator's llmhost.
    """

    server: dict[str, Any] | None = field(default=None, repr=False)
    ollama: OllamaWish = field(default_factory=OllamaWish)
    tcp: bool = False
    version: str = ""

    @classmethod
    def from_dict(cls, data: Any) -> NodeWish:
        """Read what `as_dict` wrote. Raises LlmhostError (`bad_wish`) when it is something else; never with its content."""
        try:
            server = data.get("server")
            wish = cls(
                dict(server) if server else None,
                _ollama(data.get("ollama") or {}),
                bool(data.get("tcp")),
                str(data.get("version") or ""),
            )
            if server and not (server["token"] and server["name"] and server["backend"]["kind"]):
                raise ValueError("empty")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Only the kind: its text may quote a token.
            raise bad_wish(type(error).__name__) from None
        return wish

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def merged_over(self, before: NodeWish | None) -> NodeWish:
        """Without a `server` the proxy that is there stays as it is."""
        return self if self.server or before is None else replace(self, server=before.server, tcp=before.tcp)

    def shown(self) -> dict[str, Any]:
        """Without secrets."""
        server = {key: value for key, value in (self.server or {}).items() if key in ("name", "timing", "log_level")}
        backend = {key: value for key, value in (self.server or {}).get("backend", {}).items() if key != "token"}
        ollama = {key: value for key, value in asdict(self.ollama).items() if key != "env"}
        return {"server": {**server, "backend": backend}, "ollama": ollama, "tcp": self.tcp, "version": self.version}


def _ollama(data: dict[str, Any]) -> OllamaWish:
    mode: OllamaMode = data.get("mode") or "none"
    if mode not in MODES or (mode == "serve" and not data.get("bin")) or (mode == "use" and not data.get("url")):
        raise ValueError(mode)
    env = {str(name): str(value) for name, value in (data.get("env") or {}).items()}
    return OllamaWish(mode, data.get("url"), data.get("bin"), env, data.get("context"))


def bad_wish(kind: str) -> LlmhostError:
    return LlmhostError(
        f"what the node was told to run is not understood ({kind}).",
        hint="Tell it again: llmhost up --provider ssh",
        code="bad_wish",
    )


def save_json(path: Path, data: Any) -> None:
    """Write 0600, whole or not at all. Raises LlmhostError (`disk_full`, `state_unwritable`)."""
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise LlmhostError(
            f"cannot write {path}: {error.strerror or error}.",
            hint="Free disk space on the node, or make the folder writable, and try again.",
            code="disk_full" if error.errno in _FULL else "state_unwritable",
        ) from error


def load_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None when there is none, or nothing readable in it."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def load_wish(path: Path) -> NodeWish | None:
    """What was saved, or None when the node was never told anything. Raises LlmhostError (`bad_wish`)."""
    data = load_json(path)
    return None if data is None else NodeWish.from_dict(data)
