"""A program that has imported llmhost once, and forks a process for each command line: a real one, without the start-up.

One JSON object a line on standard input: `argv`, `env` (all of it), `cwd`, `out` and `err` (files), `largest` (bytes that a file
may have, or null). It answers with `started PID`, and `ended PID STATUS` when that one is over (a negative status is the signal).
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import sys
from typing import Any

# What the commands of renting import when they run.
NEEDED = (
    *(f"llmhost.cli.commands.{name}" for name in ("up", "down", "status", "gc", "logs", "cost")),
    *("llmhost.cli.session", "llmhost.cli.dispatch", "llmhost.fleet.down", "llmhost.fleet.gc", "llmhost.fleet.status"),
    *("llmhost.fleet.rented.prepare", "llmhost.fleet.rented.refresh", "llmhost.fleet.rented.leave"),
    *("llmhost.fleet.rented.diagnosis", "llmhost.fleet.rented.order", "llmhost.fleet.model_fit"),
    *("llmhost.providers.vast.market", "llmhost.providers.vast.sdk", "llmhost.cli.main", "httpx", "requests"),
)
LOOK_S = 0.01


def serve() -> None:
    """Until standard input ends; what still runs then is killed."""
    children: set[int] = set()
    buffer = b""
    while True:
        ready, _, _ = select.select([0], [], [], LOOK_S if children else None)
        if ready:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            children |= {start(json.loads(line)) for line in lines}
        children -= reaped()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def start(order: dict[str, Any]) -> int:
    """The process of one command."""
    pid = os.fork()
    if pid == 0:
        os._exit(become(order))
    say(f"started {pid}")
    return pid


def reaped() -> set[int]:
    found = set()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.add(pid)
        say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def become(order: dict[str, Any]) -> int:
    """In the child: what `llmhost ARGV` is."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, name in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        descriptor = os.open(name, os.O_RDONLY if number == 0 else flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = ["llmhost", *order["argv"]]
    if order["largest"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest"], order["largest"]))
    from llmhost.__main__ import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    for name in NEEDED:
        importlib.import_module(name)
    say("ready 0")
    serve()
