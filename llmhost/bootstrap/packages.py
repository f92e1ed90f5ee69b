"""The packages of the server tower: which there are, and the files of those installed here."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from llmhost.core.errors import LlmhostError

# What `proxy`, `cache`, `backends` and `messages` import; a test compares it with the project's own list.
SERVER_TOWER = (
    *("fastapi", "uvicorn", "uvloop", "httptools", "aiohttp", "orjson", "redis", "prometheus-client", "pypdf"),
    "backports.zstd",
)
# Compiled packages whose content is in Python's own library from some version on: there are no wheels for that one.
OWN_FROM = {"backports-zstd": (3, 14)}
# Sources of compiled modules, and what says how and where a package was installed rather than what it is.
_LEFT_OUT = (".pyc", ".pyx", ".pxd", ".pyi", ".c", ".h")
_INSTALLERS = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json", "uv_build.json"})


def normal(name: str) -> str:
    """As indexes write a name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted_on(name: str, python: tuple[int, ...]) -> bool:
    """Whether a Python of this version (major, minor) needs the package."""
    return python < OWN_FROM.get(normal(name), (99,))


def closure() -> list[importlib.metadata.Distribution]:
    """The installed distributions that the server tower needs, sorted by name. Raises LlmhostError (`package_missing`)."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(name, wanted_on(name, sys.version_info[:2])) for name in SERVER_TOWER]
    while waiting:
        name, needed = waiting.pop()
        if normal(name) in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if needed:
                raise _missing(name) from None
            continue  # meant for another system or an older Python
        found[normal(name)] = distribution
        waiting += _requirements(distribution)
    return [found[name] for name in sorted(found)]


def _requirements(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, bool]]:
    """Names, and whether each is needed whatever the machine is; optional extras are left out."""
    for line in distribution.requires or []:
        requirement, _, marker = line.partition(";")
        named = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
        if named and "extra" not in marker:
            # Without reading the marker: what was installed here beside the others is what holds here.
            yield named[1], not marker.strip()


def files_of(distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, Path]]:
    """`(path in the bundle, file here)` of all that runs, without scripts, caches and traces of the installation."""
    for file in distribution.files or []:
        name = file.as_posix()
        path = Path(str(distribution.locate_file(file)))
        if runs(name) and path.is_file():
            yield name, path


def runs(name: str) -> bool:
    """Whether a file of a package (by its path beside the others) is needed for running it."""
    folder, _, last = name.rpartition("/")
    trace = last in _INSTALLERS and folder.endswith(".dist-info")
    return not (trace or name.startswith("../") or name.endswith(_LEFT_OUT))


def tags_of(distribution: importlib.metadata.Distribution) -> list[str]:
    """The wheel tags it was installed from; none when it was not installed from a wheel."""
    return re.findall(r"^Tag: (\S+)", distribution.read_text("WHEEL") or "", re.MULTILINE)


def _missing(name: str) -> LlmhostError:
    return LlmhostError(
        f"the package {name}, which a node needs, is not installed here.",
        hint="Install llmhost anew, with its dependencies.",
        code="package_missing",
    )
