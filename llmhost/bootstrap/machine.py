"""What kind of machine is at the other end, found out with a POSIX shell and then, when there is one, its own Python."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from inspect import getsource as inspect_source
from types import ModuleType
from typing import TYPE_CHECKING, Any

from llmhost.bootstrap import first_look, remote_look
from llmhost.core.errors import LlmhostError

if TYPE_CHECKING:
    from llmhost.ssh.session import Session

INSPECT_S = 60.0
OLDEST = (3, 11)
LOW_MEMORY_MB = 4_096
# Certificates are checked by the clock: one that was issued today is "not yet valid" for a clock that is late.
CLOCK_OFF_S = 600.0
FULL_SIGNS = ("No space left", "Disk quota", "quota exceeded")


@dataclass(frozen=True, slots=True)
class Machine:
    """A node before anything of ours is on it. Sizes in MiB; None = not known, or not there.

    `abi_tag` is what compiled extensions must be made for (`cp312`), `platform` is `SYSTEM-ARCHITECTURE-LIBC-VERSION`, for example
    `linux-x86_64-glibc-2.36`. `memory_mb` is what a container may use where it is limited. `ollama_url` = one answers there already.
    `gpu_trouble` = why the graphics card cannot be asked, `ollama_broken` = a program of that name that does not work.
    """

    home: str
    python: str
    python_version: str
    abi_tag: str
    platform: str
    gpu: str | None = None
    driver: str | None = None
    vram_total_mb: int | None = None
    disk_free_mb: int | None = None
    memory_mb: int | None = None
    ollama_bin: str | None = None
    ollama_version: str | None = None
    ollama_url: str | None = None
    gpu_trouble: str | None = None
    ollama_broken: str | None = None
    writable: bool = True
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect(session: Session, folder: str = ".llmhost", places: Sequence[str] = first_look.PLACES) -> Machine:
    """Look at the machine; nothing of it is changed. `folder` is where a node would live (its disk is measured).

    `places` are where a Python is looked for when none on PATH will do.

    Raises LlmhostError (`no_shell`, `no_python`, `home_read_only`, `home_noexec`, `disk_full`, `unsupported_platform`), SshFailure.
    """
    seen = session.run(first_look.script(places), timeout_s=INSPECT_S)
    facts = parse_look(seen.out)
    if "home" not in facts:
        raise _no_shell(seen.err)
    _check_writable(facts)
    if "python" not in facts:
        raise _no_python(facts)
    command = f"{shlex.quote(facts['python'])} -I -S -X utf8 - {shlex.quote(folder)}"
    told = session.run(command, stdin=source_of(remote_look), timeout_s=INSPECT_S)
    return machine_of(facts, told.out)


def source_of(module: ModuleType) -> bytes:
    """The text of one of the modules that are fed to a node's Python."""
    return inspect_source(module).encode()


def parse_look(shown: str) -> dict[str, str]:
    """The `name=value` lines of the first look; a name that comes again is collected with commas."""
    facts: dict[str, str] = {}
    for line in shown.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.isidentifier() and value:
            facts[name] = f"{facts[name]}, {value}" if name in facts else value
    return facts


def machine_of(facts: dict[str, str], told: str) -> Machine:
    """Both looks together. Raises LlmhostError (`no_python`, `home_noexec`, `unsupported_platform`)."""
    try:
        more = json.loads(told.strip().splitlines()[-1])
        known = {name: more[name] for name in Machine.__slots__ if name in more}
        machine = Machine(**{"python": facts["python"], **known, "home": facts["home"]})
    except (IndexError, ValueError, TypeError, KeyError):
        raise _no_python({**facts, "old": f"{facts['python']} which does not work"}) from None
    if more.get("noexec"):
        raise _noexec(machine)
    return replace(check_platform(machine), notes=tuple(_notes(machine, more)))


def _notes(machine: Machine, more: dict[str, Any]) -> Iterator[str]:
    if machine.memory_mb is not None and machine.memory_mb < LOW_MEMORY_MB:
        yield f"the node has only {machine.memory_mb} MB of memory; a model will hardly fit beside the rest."
    off_s = float(more.get("clock") or time.time()) - time.time()
    if abs(off_s) > CLOCK_OFF_S:
        side = "ahead" if off_s > 0 else "behind"
        yield f"the node's clock is {int(abs(off_s) / 60)} minutes {side}: its downloads may fail, and times in its logs are wrong."
    if more.get("ends_at_logout"):
        yield (
            "the node's system ends what a user started when the connection it was started from ends (KillUserProcesses=yes in"
            " logind.conf): set it to no there, or log in as root, or the node will not last."
        )


def check_platform(machine: Machine) -> Machine:
    """The machine again. Raises LlmhostError (`unsupported_platform`) for one no package can be had for."""
    system, architecture, libc = [*machine.platform.split("-"), "", "", ""][:3]
    if system == "darwin" or (system == "linux" and architecture in ("x86_64", "aarch64") and libc == "glibc"):
        return machine
    raise LlmhostError(
        f"the node is a {machine.platform} machine; nodes are Linux with glibc on x86_64 or aarch64, or macOS.",
        hint="Use another machine, or a container with Debian or Ubuntu on this one.",
        code="unsupported_platform",
    )


def disk_full(why: str) -> LlmhostError:
    return LlmhostError(
        f"the node's disk is full: {why}.",
        hint="Free space there (llmhost ssh), or use a machine with a larger disk.",
        code="disk_full",
    )


def is_full(text: str) -> bool:
    """Whether what a program said means that the disk is full."""
    return any(sign.lower() in text.lower() for sign in FULL_SIGNS)


def _noexec(machine: Machine) -> LlmhostError:
    return LlmhostError(
        f"nothing can be run from the node's home {machine.home}: its disk is mounted noexec.",
        hint="Use a user whose home allows it, or have it mounted without noexec.",
        code="home_noexec",
    )


def _check_writable(facts: dict[str, str]) -> None:
    why = facts.get("unwritable")
    if why is None:
        return
    if is_full(why):
        raise disk_full(f"nothing can be written to {facts['home']}")
    raise LlmhostError(
        f"the home folder {facts['home']} on the node cannot be written to ({why.rpartition(': ')[2] or why}).",
        hint="Log in as a user with a writable home.",
        code="home_read_only",
    )


def _no_python(facts: dict[str, str]) -> LlmhostError:
    found = f"found: {facts['old']}" if facts.get("old") else "found none"
    newest = "{}.{}".format(*first_look.newest())
    return LlmhostError(
        f"the node has no Python {OLDEST[0]}.{OLDEST[1]} to {newest} (looked for {first_look.LOOKED_FOR}; {found}).",
        hint="Install one there (apt-get install python3), or unpack one to ~/.llmhost/python.",
        code="no_python",
    )


def _no_shell(err: str) -> LlmhostError:
    said = f": {err.strip().splitlines()[-1]}" if err.strip() else ""
    return LlmhostError(
        f"the node does not run commands with /bin/sh{said}.",
        hint="Use an account with a usual login shell.",
        code="no_shell",
    )
