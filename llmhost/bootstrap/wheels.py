"""Fetches the server tower's packages for another kind of machine: by pip, here, and only what the lock file names by its hash."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from llmhost.bootstrap import packages
from llmhost.bootstrap.machine import Machine
from llmhost.bootstrap.platforms import Platform, pip_platforms
from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.supervisor.environment import clean_environment

LOCK = "node-requirements.lock"
DOWNLOAD_S = 600.0
LAST_LINES = 3


def fetch(machine: Machine, lock_text: str, folder: Path) -> list[Path]:
    """The wheels, in `folder`. Raises LlmhostError (`no_pip`, `unsupported_platform`, `packages_not_found`), Unavailable."""
    lock = folder / LOCK
    lock.write_text(_wanted_of(lock_text, machine))
    wheels = folder / "wheels"
    argv = [*pip_command(), *download_arguments(machine, lock, wheels)]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_S,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        check=False,
        env=_environment(),
    )
    if done.returncode != 0:
        raise _failed(machine, done.stdout + done.stderr)
    return sorted(wheels.glob("*.whl"))


def _environment() -> dict[str, str]:
    """What is passed on to everything, and pip's own settings."""
    return clean_environment(os.environ) | {name: text for name, text in os.environ.items() if name.startswith("PIP_")}


def _wanted_of(lock_text: str, machine: Machine) -> str:
    """The lock file without what the node's Python has in its own library, of which there are no wheels for it."""
    python = tuple(int(part) for part in machine.python_version.split(".")[:2])
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", lock_text)
    return "".join(entry for entry in entries if packages.wanted_on(entry.partition("==")[0].strip(), python))


def download_arguments(machine: Machine, lock: Path, wheels: Path) -> list[str]:
    """What pip is told. Raises LlmhostError (`unsupported_platform`)."""
    platforms = pip_platforms(Platform.parse(machine.platform))
    if not platforms:
        raise LlmhostError(
            f"packages for {machine.platform} with Python {machine.python_version} cannot be fetched on another kind of machine.",
            hint="Use a Linux node, or run llmhost on a machine of the same kind.",
            code="unsupported_platform",
        )
    implementation, version = machine.abi_tag[:2], machine.python_version.rpartition(".")[0]
    arguments = [
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]
    arguments += ["--implementation", implementation, "--python-version", version]
    arguments += ["--abi", machine.abi_tag, "--abi", "abi3", "--abi", "none"]
    for platform in platforms:
        arguments += ["--platform", platform]
    return [*arguments, "--dest", str(wheels), "--requirement", str(lock)]


def pip_command() -> list[str]:
    """How to run pip: the installed one, else the one that Python carries for new environments. Raises LlmhostError (`no_pip`)."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = importlib.util.find_spec("ensurepip")
    places = [Path(place) / "_bundled" for place in (found.submodule_search_locations or [])] if found else []
    carried = sorted(wheel for place in places for wheel in place.glob("pip-*.whl"))
    if not carried:
        raise LlmhostError(
            "the node's Python or system is another than here, so its packages have to be fetched, and pip is not installed.",
            hint=f"Install pip for {sys.executable} (python3 -m ensurepip, or apt-get install python3-pip).",
            code="no_pip",
        )
    return [sys.executable, str(carried[-1] / "pip")]


def files_of(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """`(path in the bundle, content)`; what a wheel installs beside the packages (scripts, headers) is left out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            place = re.sub(r"^[^/]+\.data/(?:purelib|platlib)/", "", name)
            if not name.endswith("/") and packages.runs(place) and not re.match(r"[^/]+\.data/", place):
                yield place, archive.read(name)


def _failed(machine: Machine, said: str) -> LlmhostError:
    lines = [
        line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("WARNING", "[notice]"))
    ]
    text = " ".join(lines[-LAST_LINES:]) or "it said nothing"
    if re.search("connection|resolve|timed out|Network|retries", text, re.IGNORECASE):
        return Unavailable(
            f"the packages for the node cannot be fetched: {text}",
            hint="Check this machine's network and pip's settings (pip config list).",
            code="index_unreachable",
        )
    return LlmhostError(
        f"there are no packages for {machine.platform} with Python {machine.python_version}: {text}",
        hint="Use another Python on the node (3.11 to 3.14).",
        code="packages_not_found",
    )
