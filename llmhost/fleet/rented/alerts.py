"""What the owner of a fleet is told of its money: a line in the watch's log, and the command that was set for it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmhost.supervisor.environment import clean_environment

log = logging.getLogger("llmhost.watch")
# Sending a mail takes a second or two; a command that hangs is ended, and the watch never waits for it.
COMMAND_S = 30.0
PREFIX = "LLMHOST_ALERT_"
SHELL = "/bin/sh"
Facts = dict[str, str | float | int | None]


@dataclass(frozen=True, slots=True)
class Alert:
    """`kind` is stable (`budget`, `lease`, `idle`, `ended`, `price`, …), `text` one sentence; `facts` plain values without secrets."""

    kind: str
    fleet: str
    text: str
    facts: Facts = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """`LLMHOST_ALERT_KIND`, `…_FLEET`, `…_TEXT`, and one variable for each fact that is known."""
        known = {name: value for name, value in self.facts.items() if value is not None}
        told = {"kind": self.kind, "fleet": self.fleet, "text": self.text, **known}
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in told.items()}


def tell(alert: Alert, command: str | None, environ: Mapping[str, str] | None = None) -> threading.Thread | None:
    """Log it, and run the command in the background; the thread that waits for it, None without a command."""
    log.warning(alert.text, extra={"alert": alert.kind, "fleet": alert.fleet, **alert.facts})
    if not command:
        return None
    env = {**clean_environment(os.environ if environ is None else environ), **alert.environment()}
    thread = threading.Thread(target=_run, args=(command, env, alert.kind), name="alert", daemon=True)
    thread.start()
    return thread


def _run(command: str, env: dict[str, str], kind: str, within_s: float = COMMAND_S) -> None:
    """Run it by /bin/sh in a group of its own, which is killed when it takes too long. Its failure is logged, with its last line."""
    try:
        process = subprocess.Popen(
            [SHELL, "-c", command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        log.error("the alert command cannot be started", extra={"alert": kind, "why": error.strerror or str(error)})
        return
    try:
        said, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        log.error("the alert command took too long and was ended", extra={"alert": kind, "after_s": within_s})
        return
    if process.returncode:
        last = (said.strip().splitlines() or [""])[-1][:200]
        log.error("the alert command failed", extra={"alert": kind, "exit_code": process.returncode, "said": last})


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1.0)
