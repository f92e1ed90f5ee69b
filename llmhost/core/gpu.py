"""The graphics cards of this machine, read every few seconds in the background, because `nvidia-smi` can take a second."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from dataclasses import asdict, dataclass
from typing import Any

PROGRAM = "nvidia-smi"
INTERVAL_S = 5.0
TIMEOUT_S = 10.0
QUERY = ("--query-gpu=name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """`gpu_util` is 0 to 1, the mean of the cards; memory is their sum in MiB. None = the card does not say."""

    gpu: str
    gpu_util: float | None
    vram_used_mb: int | None
    vram_total_mb: int | None


def parse(shown: str) -> GpuFigures | None:
    """The figures in what `nvidia-smi` prints for `QUERY`; None when there is no card in it."""
    rows = [[part.strip() for part in line.split(",")] for line in shown.splitlines() if line.count(",") == 3]
    if not rows:
        return None
    name = rows[0][0].removeprefix("NVIDIA ").removeprefix("GeForce ")
    utils = _numbers(row[1] for row in rows)
    used, total = _numbers(row[2] for row in rows), _numbers(row[3] for row in rows)
    return GpuFigures(
        name if len(rows) == 1 else f"{len(rows)}x {name}",
        round(sum(utils) / len(utils) / 100, 3) if utils else None,
        sum(used) if used else None,
        sum(total) if total else None,
    )


def _numbers(texts: Any) -> list[int]:
    return [int(text) for text in texts if text.isdigit()]


def read_gpu() -> GpuFigures | None:
    """Ask `nvidia-smi` now; None without it, or when it does not answer."""
    try:
        shown = subprocess.run(
            [PROGRAM, *QUERY], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse(shown.stdout) if shown.returncode == 0 else None


def _environment() -> dict[str, str]:
    """What the program needs to find itself; nothing of which could be a secret."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}


class GpuWatch:
    """Keeps the last figures. Does nothing on a machine without `nvidia-smi`."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._figures: GpuFigures | None = None

    def start(self) -> None:
        if shutil.which(PROGRAM):
            threading.Thread(target=self._watch, name="gpu", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def figures(self) -> dict[str, Any] | None:
        return asdict(self._figures) if self._figures else None

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._figures = read_gpu()
            self._stop.wait(INTERVAL_S)
