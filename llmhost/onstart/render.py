"""From what a rented machine is to do at every start of its container to the text of its onstart script. Pure but for the template."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from llmhost.core.errors import LlmhostError
from llmhost.core.templates import template

TEMPLATE = "onstart.sh"
MAX_BYTES = 4_000  # a script of more than 4,048 is silently refused, and the machine never starts (vast facts §0.7)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOCAL = re.compile(r"(127\.|localhost[:/]|\[::1\])")  # a registry on loopback, which has no certificate
_PART = re.compile(r"# (\[?)([a-z]+)(\]?)")


@dataclass(frozen=True, slots=True)
class EarlyOllama:
    """An Ollama that is installed and told to pull `model` before anybody logs in.

    `version` is what to install; `env` are the settings of `ollama serve` (llmhost.core.ollama_environment; OLLAMA_HOST is ignored);
    `install` is a POSIX shell command that replaces the built-in installation, with the variables of llmhost.bootstrap.ollama.install;
    `site` is where the built-in one downloads from. `model` None = pull nothing.
    """

    version: str
    model: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    install: str | None = None
    site: str = "https://ollama.com/download"


@dataclass(frozen=True, slots=True)
class BootScript:
    """What one rented machine does at every container start.

    `node_folder` is relative to the home; `public_key` is one line of authorized_keys; `api_url` is the marketplace's address.
    `lease_ends_at` is the hard end (seconds since 1970, None = none), which counts at the first start only: the machine keeps it in the
    file ENDS of llmhost.core.guard_files, which may be written anew. After `contact_s` seconds without the operator and, unless None,
    `idle_s` without a request the machine destroys itself; it looks every `guard_every_s`.
    """

    node_folder: str
    public_key: str
    api_url: str
    contact_s: int
    lease_ends_at: int | None = None
    idle_s: int | None = None
    guard_every_s: int = 15
    ollama: EarlyOllama | None = None


def render(boot: BootScript) -> str:
    """The script, at most MAX_BYTES. Raises LlmhostError (`onstart_too_long`), ValueError for what can be no folder, key, or variable."""
    wanted = _parts(boot)
    values = _values(boot)
    text = ""
    # Without curl a call needs Python; a node has one anyway, but an image without curl is rare.
    for parts in ({*wanted, "python"}, wanted):
        shebang, *body = _lines(template(TEMPLATE), parts)
        text = "\n".join([shebang, values, *body]) + "\n"
        if len(text.encode()) <= MAX_BYTES:
            return text
    raise _too_long(len(text.encode()))


def _parts(boot: BootScript) -> set[str]:
    """The optional parts of the template that are wanted."""
    engine = boot.ollama
    known = {
        "ends": boot.lease_ends_at is not None,
        "idle": boot.idle_s is not None,
        "early": engine is not None,
        "pull": engine is not None and engine.model is not None,
        "fetch": engine is not None and engine.install is None,
        "install": engine is not None and engine.install is not None,
    }
    return {name for name, present in known.items() if present}


def _lines(text: str, wanted: set[str]) -> list[str]:
    """Without comments, indentation, empty lines, and the parts that are not wanted."""
    kept: list[str] = []
    left_out: list[str] = []
    for line in map(str.strip, text.splitlines()):
        edge = _PART.fullmatch(line)
        if edge and edge[1] and edge[2] not in wanted:
            left_out.append(edge[2])
        elif edge and edge[3] and left_out and left_out[-1] == edge[2]:
            left_out.pop()
        elif line and not left_out and not line.startswith("# "):
            kept.append(line)
    return kept


def _values(boot: BootScript) -> str:
    """The line that assigns every L_ variable the script reads."""
    told: dict[str, object] = {
        "L_DIR": _folder(boot.node_folder),
        "L_KEY": _one_line(boot.public_key),
        "L_API": boot.api_url.rstrip("/"),
        "L_CONTACT": int(boot.contact_s),
        "L_EVERY": max(1, int(boot.guard_every_s)),
    }
    if boot.lease_ends_at is not None:
        told["L_ENDS"] = int(boot.lease_ends_at)
    if boot.idle_s is not None:
        told["L_IDLE"] = int(boot.idle_s)
    told |= _of_ollama(boot.ollama) if boot.ollama else {}
    return " ".join(f"{name}={_quoted(value)}" for name, value in told.items())


def _quoted(value: object) -> str:
    """As bash wants a value, or a list of them."""
    return f"({shlex.join(value)})" if isinstance(value, list) else shlex.quote(str(value))


def _of_ollama(engine: EarlyOllama) -> dict[str, object]:
    told: dict[str, object] = {"OLLAMA_VERSION": engine.version}
    told |= {"L_SITE": engine.site} if engine.install is None else {"L_INSTALL": engine.install}
    if engine.model is not None:
        model = ["--insecure", engine.model] if _LOCAL.match(engine.model) else engine.model
        told |= {"L_MODEL": model, "L_SET": _settings(engine.env)}
    return told


def _settings(env: Mapping[str, str]) -> str:
    """As words that `export` takes after another round of quoting."""
    for name in env:
        if not _NAME.fullmatch(name):
            raise ValueError(f"no name of a variable: {name!r}")
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items() if name != "OLLAMA_HOST")


def _folder(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\n" in name:
        raise ValueError(f"a node's folder must be below the home: {name!r}")
    return str(path)


def _one_line(key: str) -> str:
    line = key.strip()
    if not line or len(line.splitlines()) != 1:
        raise ValueError("a public key must be one line")
    return line


def _too_long(size: int) -> LlmhostError:
    return LlmhostError(
        f"the script for the rented machine is {size} bytes long, and {MAX_BYTES} are allowed.",
        hint="Shorten the setting ollama_install (a command that fetches a script, say), or use an Ed25519 key.",
        code="onstart_too_long",
    )
