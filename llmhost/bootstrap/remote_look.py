"""Looks at the machine it runs on and prints one line of JSON.

The text of this file is fed to a node's Python, so it imports nothing of llmhost.
`python3 -I -S -X utf8 - FOLDER`, where FOLDER (relative to the home) is where a node would live: its disk is measured.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections import Counter
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
KILLED_S = 1.0


def program(name: str) -> str | None:
    """Where a program is; None when it is nowhere."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(os.path.expanduser, PLACES)))


def run(argv: Sequence[str], seconds: float, **more: str) -> tuple[int | None, str]:
    """A program's exit code (None = it took too long, 127 = it cannot be started) and what it printed."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **more},
            start_new_session=True,
        )
    except OSError as error:
        return 127, error.strerror or str(error)
    try:
        shown, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # Hardly waited for: a program that hangs in a broken driver does not even end when it is killed.
        os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_S)
        if process.stdout:
            process.stdout.close()
        return None, ""
    return process.returncode, shown.decode(errors="replace")


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
    """`gpu`, `driver` and `vram_total_mb` (the sum) of the graphics cards; `gpu_trouble` when they cannot be asked; empty without any."""
    smi = program("nvidia-smi")
    if smi is None:
        return {}
    query = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    code, shown = run([smi, *query], CARDS_S)
    rows = [[part.strip() for part in line.split(",")] for line in shown.splitlines() if line.count(",") == 2]
    if code != 0 or not rows:
        said = "it hangs" if code is None else " ".join(shown.split())[:200]
        return {"gpu_trouble": said or "it shows none"}
    names = Counter(re.sub("^(NVIDIA )?(GeForce )?", "", row[0]) for row in rows)
    sizes = [int(row[2]) for row in rows if row[2].isdigit()]
    return {
        "gpu": " + ".join(name if count == 1 else f"{count}x {name}" for name, count in names.items()),
        "driver": rows[0][1],
        "vram_total_mb": sum(sizes) if sizes else None,
    }


def memory_mb() -> int | None:
    """The machine's memory, or what its container may use of it."""
    sizes = []
    with suppress(ValueError, OSError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError), open(path) as file:
            sizes.append(int(file.read()))
    return min(sizes) // MIB if sizes else None


def existing(folder: str) -> str:
    """The folder, or the nearest above it that is there; relative to the home."""
    path = os.path.join(os.path.expanduser("~"), folder)
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def disk_free_mb(folder: str) -> int | None:
    """What is free where `folder` is, or would be."""
    try:
        return shutil.disk_usage(existing(folder)).free // MIB
    except OSError:
        return None


def may_not_run(folder: str) -> bool:
    """Whether programs and compiled modules are refused where `folder` is, or would be."""
    try:
        return bool(os.statvfs(existing(folder)).f_flag & getattr(os, "ST_NOEXEC", 0))
    except OSError:
        return False


def ends_at_logout(folder: str = "/etc/systemd", user: int | None = None) -> bool:
    """Whether the system ends all that a user started with the session it was started in (KillUserProcesses of logind.conf(5))."""
    if (os.getuid() if user is None else user) == 0:
        return False  # KillExcludeUsers=root is the default
    found = "no"
    for path in (f"{folder}/logind.conf", *sorted(glob.glob(f"{folder}/logind.conf.d/*.conf"))):
        with suppress(OSError, ValueError), open(path) as file:
            found = [found, *re.findall(r"(?m)^\s*KillUserProcesses\s*=\s*(\w+)", file.read())][-1]
    return found.lower() in ("yes", "true", "on", "1", "y", "t")


def ollama(folder: str) -> dict[str, str | None]:
    """The program that works, its version, and the address of a server that answers already; `ollama_broken` is one that does not work."""
    own = os.path.join(os.path.expanduser("~"), folder, "ollama", "bin")  # a node's own installation
    places = dict.fromkeys(path for path in (program("ollama"), shutil.which("ollama", path=own)) if path)
    facts: dict[str, str | None] = {"ollama_bin": None, "ollama_version": None, "ollama_url": None}
    for path in places:
        # An address where nobody answers, so that it tells of itself and not of a server.
        code, said = run([path, "--version"], VERSION_S, OLLAMA_HOST="127.0.0.1:1")
        if code in (0, None):
            version = re.search(r"version (?:is )?(\d\S*)", said)
            facts |= {"ollama_bin": path, "ollama_version": version.group(1) if version else None}
            break
        facts |= {"ollama_broken": path}
    answering = server_version()
    return {**facts, **({"ollama_version": answering, "ollama_url": OLLAMA_URL} if answering else {})}


def server_version() -> str | None:
    """Of the Ollama that answers at its usual address."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        suppress(OSError, ValueError, KeyError, TypeError),
        direct.open(f"{OLLAMA_URL}/api/version", timeout=2) as answer,
    ):
        return str(json.load(answer)["version"])
    return None


def look(folder: str) -> dict[str, Any]:
    """All of it."""
    return {
        "python": sys.executable,  # not the wrapper that may stand on PATH
        "python_version": "{}.{}.{}".format(*sys.version_info[:3]),
        "abi_tag": abi_tag(),
        "platform": platform_name(),
        "memory_mb": memory_mb(),
        "disk_free_mb": disk_free_mb(folder),
        "noexec": may_not_run(folder),
        "ends_at_logout": os.path.isdir("/run/systemd/system") and ends_at_logout(),
        "clock": time.time(),
        **cards(),
        **ollama(folder),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(sys.argv[1])) + "\n")
