"""Looks at the machine it runs on and prints one line of JSON.

The text of this file is fed to a node's Python, so it imports nothing of llmhost.
`python3 -I -S - FOLDER`, where FOLDER (relative to the home) is where a node would live: its disk is measured.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

MIB = 1024 * 1024
# A command over SSH often has a shorter PATH than a login does.
PLACES = (
    *("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/nvidia/bin", "/usr/local/cuda/bin", "/usr/lib/wsl/lib"),
    *("/opt/ollama/bin", "~/.local/bin", "~/ollama/bin"),
)
OLLAMA_URL = "http://127.0.0.1:11434"
CARDS_S = 20.0
VERSION_S = 15.0


def program(name: str) -> str | None:
    """Where a program is; None when it is nowhere."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(os.path.expanduser, PLACES)))


def run(argv: Sequence[str], seconds: float, **more: str) -> str:
    """What a program prints; nothing when it fails."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **more},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def platform_name() -> str:
    """`SYSTEM-ARCHITECTURE-LIBC-VERSION`."""
    system, machine = platform.system().lower(), platform.machine().lower()
    if system == "darwin":
        return f"darwin-{machine}-macos-{platform.mac_ver()[0]}"
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    libc, version = platform.libc_ver()
    if libc != "glibc":
        libc = "musl" if "musl" in str(sysconfig.get_config_var("SOABI")) else libc or "unknown"
    return f"{system}-{machine}-{libc}-{version or 0}"


def abi_tag() -> str:
    """What compiled extensions must be made for: `cp312`, `cp313t`."""
    name = {"cpython": "cp", "pypy": "pp"}.get(sys.implementation.name, sys.implementation.name)
    threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{name}{sys.version_info[0]}{sys.version_info[1]}{threaded}"


def cards() -> dict[str, Any]:
    """`gpu`, `driver` and `vram_total_mb` (the sum) of the graphics cards; empty without any."""
    smi = program("nvidia-smi")
    query = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    shown = run([smi, *query], CARDS_S) if smi else ""
    rows = [[part.strip() for part in line.split(",")] for line in shown.splitlines() if line.count(",") == 2]
    if not rows:
        return {}
    name = re.sub("^(NVIDIA )?(GeForce )?", "", rows[0][0])
    sizes = [int(row[2]) for row in rows if row[2].isdigit()]
    gpu = name if len(rows) == 1 else f"{len(rows)}x {name}"
    return {"gpu": gpu, "driver": rows[0][1], "vram_total_mb": sum(sizes) if sizes else None}


def memory_mb() -> int | None:
    """The machine's memory, or what its container may use of it."""
    sizes = []
    with suppress(ValueError, OSError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError), open(path) as file:
            sizes.append(int(file.read()))
    return min(sizes) // MIB if sizes else None


def disk_free_mb(folder: str) -> int | None:
    """What is free where `folder` is, or would be."""
    path = os.path.join(os.path.expanduser("~"), folder)
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    try:
        return shutil.disk_usage(path).free // MIB
    except OSError:
        return None


def ollama(folder: str) -> dict[str, str | None]:
    """The program, its version, and the address of a server that answers already. A node's own installation is in its folder."""
    own = os.path.join(os.path.expanduser("~"), folder, "ollama", "bin")
    found = program("ollama") or shutil.which("ollama", path=own)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        suppress(OSError, ValueError, KeyError, TypeError),
        direct.open(f"{OLLAMA_URL}/api/version", timeout=2) as answer,
    ):
        version = str(json.load(answer)["version"])
        return {"ollama_bin": found, "ollama_version": version, "ollama_url": OLLAMA_URL}
    # An address where nobody answers, so that it tells of itself and not of a server.
    said = run([found, "--version"], VERSION_S, OLLAMA_HOST="127.0.0.1:1") if found else ""
    version_in_it = re.search(r"version (?:is )?(\d\S*)", said)
    return {
        "ollama_bin": found,
        "ollama_version": version_in_it.group(1) if version_in_it else None,
        "ollama_url": None,
    }


def look(folder: str) -> dict[str, Any]:
    """All of it."""
    return {
        "python": sys.executable,  # not the wrapper that may stand on PATH
        "python_version": "{}.{}.{}".format(*sys.version_info[:3]),
        "abi_tag": abi_tag(),
        "platform": platform_name(),
        "memory_mb": memory_mb(),
        "disk_free_mb": disk_free_mb(folder),
        **cards(),
        **ollama(folder),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(sys.argv[1])) + "\n")
