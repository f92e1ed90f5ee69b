"""The part of requirements.lock that a node needs, for every platform: `python -m tests.support.node_lock` writes it anew."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from llmhost.bootstrap.packages import SERVER_TOWER, normal

ROOT = Path(__file__).parents[2]
FILE = ROOT / "templates" / "node-requirements.lock"
HEAD = "# What a node runs on, of requirements.lock. Written by: python -m tests.support.node_lock\n"
# Nodes are Linux or macOS.
ELSEWHERE = ("extra", "win32", "emscripten")


def names() -> set[str]:
    """The server tower and all it needs somewhere, on whichever Python."""
    found: set[str] = set()
    waiting = list(SERVER_TOWER)
    while waiting:
        name = normal(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requires = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python: it is in the lock all the same
        for line in requires:
            requirement, _, marker = line.partition(";")
            if not any(word in marker for word in ELSEWHERE):
                waiting.append(re.match(r"\s*([\w.-]+)", requirement)[1])
    return found


def render() -> str:
    """The file's text. Without markers, which pip would read as this machine's: what a node does not need does it no harm."""
    wanted = names()
    entries = re.findall(
        r"^([A-Za-z0-9._-]+)==(\S+).*\\\n((?:    --hash=\S+(?: \\)?\n)+)",
        (ROOT / "requirements.lock").read_text(),
        re.M,
    )
    return HEAD + "".join(f"{name}=={version} \\\n{hashes}" for name, version, hashes in entries if name in wanted)


if __name__ == "__main__":
    FILE.write_text(render())
