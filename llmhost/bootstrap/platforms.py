"""Which binary packages run on which machine: platform names as `Machine.platform` has them, against the tags of wheels (PEP 425, 600)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# The old names of manylinux and the glibc they stand for (PEP 600, "legacy tags").
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_OLDEST_MINOR = 5
_TAG = re.compile(
    r"(?P<kind>manylinux_(?P<major>\d+)_(?P<minor>\d+)|manylinux1|manylinux2010|manylinux2014)_(?P<arch>\w+)"
)


@dataclass(frozen=True, slots=True)
class Platform:
    """`libc` is `glibc`, `musl` or `macos`; `version` is its first two numbers."""

    system: str
    architecture: str
    libc: str
    version: tuple[int, int]

    @classmethod
    def parse(cls, name: str) -> Platform:
        """`linux-x86_64-glibc-2.36`. Raises ValueError when it is something else."""
        system, architecture, libc, version = name.split("-", 3)
        numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
        return cls(system, architecture, libc, (numbers[0] if numbers else 0, numbers[1] if len(numbers) > 1 else 0))

    def like(self, other: Platform) -> bool:
        """The same but for the libc's version."""
        return (self.system, self.architecture, self.libc) == (other.system, other.architecture, other.libc)


def pip_platforms(platform: Platform) -> list[str]:
    """What to tell `pip download --platform`, newest first, because it takes exactly the tags it is given.

    Empty for what is not Linux with glibc.
    """
    if (platform.system, platform.libc, platform.version[0]) != ("linux", "glibc", 2):
        return []
    modern = [f"manylinux_2_{minor}" for minor in range(platform.version[1], _OLDEST_MINOR - 1, -1)]
    legacy = [name for name, glibc in _LEGACY.items() if glibc <= platform.version]
    return [f"{name}_{platform.architecture}" for name in (*modern, *legacy)]


def runs_on(tags: Iterable[str], made_here: Platform, machine: Platform) -> bool:
    """Whether a package with these wheel tags, installed on a machine like `made_here`, also runs on `machine` (same Python).

    A package without a manylinux tag was built here, so it needs what this machine has.
    """
    if not machine.like(made_here):
        return all(tag.endswith("-none-any") for tag in tags)
    needs = [need for tag in tags if (need := _glibc_of(tag)) is not None]
    return any(tag.endswith("-any") for tag in tags) or min(needs, default=made_here.version) <= machine.version


def _glibc_of(tag: str) -> tuple[int, int] | None:
    found = _TAG.search(tag.rpartition("-")[2])
    if found is None:
        return None
    return _LEGACY.get(found["kind"]) or (int(found["major"]), int(found["minor"]))
