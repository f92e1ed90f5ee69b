"""Which Ollama a node uses, and how one gets there that has none."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmhost.bootstrap import early_ollama
from llmhost.bootstrap.machine import Machine, disk_full, is_full
from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.core.progress import Progress
from llmhost.core.templates import template

if TYPE_CHECKING:
    from llmhost.ssh.session import Session

VERSION = "0.24.0"  # what this release was tested with
SITE = "https://ollama.com/download"
INSTALL_SCRIPT = "install-ollama.sh"
PHASE = "ollama"
INSTALL_S = 2 * 3_600.0
FIND_S = 30.0
# "at least 4GB of space for the binary install", says Ollama's documentation, on its page about Windows.
NEED_MB = 4_096
LAST_LINES = 4

_CODES = {
    41: ("no_curl", "curl is not installed there", "apt-get install curl"),
    42: ("no_zstd", "zstd is not installed there", "apt-get install zstd"),
}


@dataclass(frozen=True, slots=True)
class OllamaPlan:
    """`use` the server at `url`, `serve` one of our own with the program `bin`, or `install` one first. `note` may be empty."""

    mode: Literal["use", "serve", "install"]
    url: str | None = None
    bin: str | None = None
    note: str = ""

    def as_wish(self) -> dict[str, str | None]:
        """As llmhost.node.wish has it."""
        return {"mode": self.mode, "url": self.url, "bin": self.bin}


def plan(machine: Machine, before: dict[str, str | None] | None = None) -> OllamaPlan:
    """A server that answers there, else a program that is there, else an installation.

    `before` is the node's wish so far, if it has one: a server of our own is kept, so that doing it twice changes nothing.
    """
    if before and before.get("mode") == "serve" and before.get("bin") and before["bin"] == machine.ollama_bin:
        return OllamaPlan("serve", bin=machine.ollama_bin, note=_version_note(machine))
    if machine.ollama_url:
        return OllamaPlan("use", url=machine.ollama_url, note=_version_note(machine))
    if machine.ollama_bin:
        return OllamaPlan("serve", bin=machine.ollama_bin, note=_version_note(machine))
    broken = machine.ollama_broken
    return OllamaPlan(
        "install", note=f"{broken} on the node does not work: Ollama is installed anew." if broken else ""
    )


def install(
    session: Session, machine: Machine, folder: str, progress: Progress, command: str | None = None, site: str = SITE
) -> str:
    """Run the install command (None = the built-in one) on the node; the path of the program.

    It gets OLLAMA_VERSION, LLMHOST_OLLAMA_DIR (where to put it), LLMHOST_PYTHON, LLMHOST_LIB (the node's packages) and, for the built-in
    one, LLMHOST_OLLAMA_SITE. An installation that a rented machine began by itself is waited for instead.
    Raises LlmhostError (`disk_full`, `no_curl`, `no_zstd`, `unsupported_platform`, `ollama_install_failed`), Unavailable (`node_offline`),
    SshFailure.
    """
    directory = f"{folder}/ollama"
    heard = _Heard(progress)
    if early_ollama.wait(session, directory, heard.line, INSTALL_S):
        return _find(session, directory)
    if command is None and machine.disk_free_mb is not None and machine.disk_free_mb < NEED_MB:
        raise disk_full(f"Ollama needs {NEED_MB} MB, and {machine.disk_free_mb} MB are free")
    progress.phase(PHASE, f"installing Ollama {VERSION} on the node")
    settings = {
        "OLLAMA_VERSION": VERSION,
        "LLMHOST_OLLAMA_DIR": directory,
        "LLMHOST_PYTHON": machine.python,
        "LLMHOST_LIB": f"{folder}/current/lib",
        "LLMHOST_OLLAMA_SITE": site,
        "LC_ALL": "C",  # what goes wrong is read
    }
    text = template(INSTALL_SCRIPT) if command is None else command
    assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    done = session.run(f"{assigned} /bin/sh -c {shlex.quote(text)}", timeout_s=INSTALL_S, on_line=heard.line)
    if done.code != 0:
        raise _failed(done.code, [*heard.said, *done.err.splitlines()])
    return _find(session, directory)


class _Heard:
    """What an installation says: how far it is goes to `progress`, the rest is kept."""

    def __init__(self, progress: Progress) -> None:
        self.said: list[str] = []
        self._progress = progress

    def line(self, text: str) -> None:
        moved = _moved(text)
        if moved:
            self._progress.transfer(PHASE, "downloading Ollama", *moved)
        elif text.strip():
            self.said.append(text.strip())


def _moved(line: str) -> tuple[int, int | None] | None:
    word, *numbers = line.split()[:3] or [""]
    if word != "progress" or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1]) or None


def _find(session: Session, directory: str) -> str:
    places = f"{shlex.quote(directory)}/bin/ollama {shlex.quote(directory)}/ollama"
    script = f'for p in {places}; do [ -f "$p" ] && [ -x "$p" ] && echo "$p" && exit; done; command -v ollama'
    done = session.run(script, timeout_s=FIND_S)
    found = done.out.strip().splitlines()
    if done.code != 0 or not found:
        raise LlmhostError(
            f"the install command ended well, but there is no ollama in {directory} or on PATH.",
            hint="Check the setting ollama_install; it is told where to install by LLMHOST_OLLAMA_DIR.",
            code="ollama_install_failed",
        )
    return found[0]


def _failed(code: int, said: list[str]) -> LlmhostError:
    text = "; ".join(line.strip() for line in said[-LAST_LINES:] if line.strip()) or "it said nothing"
    if is_full(text):
        return disk_full(f"Ollama does not fit ({text})")
    if code in _CODES:
        name, what, command = _CODES[code]
        hint = f"Install it: llmhost ssh -- {command}. Or install Ollama there yourself."
        return LlmhostError(f"Ollama cannot be installed on the node: {what}.", hint=hint, code=name)
    if code == 43:
        return LlmhostError(
            f"Ollama cannot be installed on the node: {text}.", hint="Use another machine.", code="unsupported_platform"
        )
    if code == 44:
        return Unavailable(
            f"the node cannot download Ollama: {text}.",
            hint="It needs a network of its own for that. Check it: llmhost ssh. Or install Ollama there yourself.",
            code="node_offline",
        )
    return LlmhostError(
        f"installing Ollama on the node failed with exit code {code}: {text}.",
        hint="Install Ollama there yourself, or change the setting ollama_install.",
        code="ollama_install_failed",
    )


def _version_note(machine: Machine) -> str:
    found = machine.ollama_version
    if found is None or found == VERSION:
        return ""
    return f"the node has Ollama {found}; llmhost was tested with {VERSION}."
