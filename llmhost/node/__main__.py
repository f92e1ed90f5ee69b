"""`python -P -m llmhost.node CMD --folder F`: what the operator's side runs on a node over SSH, and what a reboot runs (`start`).

Standard output is one JSON document, or JSON lines for `pull` and `logs`. A failure is `{"error": {code, message, hint}}` and exit code 1.
Whatever is secret comes in over standard input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.node import logs, operations, presence, release
from llmhost.node.layout import Layout
from llmhost.node.ollama_models import installed
from llmhost.node.operations import models_room, ollama_of, remove_model
from llmhost.node.pull import Puller
from llmhost.node.wish import NodeWish, bad_wish

STANDARD_OUTPUT = 1
# A command over SSH often has a shorter PATH than a login does; nvidia-smi is in one of the last.
SYSTEM_PATH = (
    *("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"),
    *("/usr/local/nvidia/bin", "/usr/local/cuda/bin", "/usr/lib/wsl/lib"),
)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llmhost.node")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("apply", "start", "restart", "status", "stop", "models", "remove", "pull", "rm", "logs"):
        command = commands.add_parser(name)
        command.add_argument("--folder", type=Path, required=True)
        if name in ("apply", "start", "restart"):
            command.add_argument("--wait", type=float, default=0.0, help="seconds to wait until all services answer")
        if name == "restart":
            command.add_argument("services", nargs="+")
        if name in ("pull", "rm"):
            command.add_argument("model")
        if name == "logs":
            command.add_argument("--source", required=True)
            command.add_argument("--lines", type=int, default=100)
            command.add_argument("--follow", action="store_true")
    return parser.parse_args(argv)


def _answer(arguments: argparse.Namespace, layout: Layout) -> dict[str, Any] | None:
    """The one document to print; None when the command printed its own lines."""
    if arguments.command == "apply":
        return operations.apply(layout, _told(), arguments.wait)
    if arguments.command == "start":
        return operations.start(layout, arguments.wait)
    if arguments.command == "restart":
        return operations.restart(layout, arguments.services, arguments.wait)
    if arguments.command == "models":
        return {"models": installed(ollama_of(layout)), **operations.served(layout)}
    if arguments.command == "rm":
        return remove_model(layout, arguments.model)
    if arguments.command == "pull":
        threading.Thread(target=_end_with_reader, name="reader", daemon=True).start()
        puller = Puller(ollama_of(layout), arguments.model, presence.telling(_print), free=lambda: models_room(layout))
        return {"done": True, "fetched": puller.run()}
    if arguments.command == "logs":
        _print_log(arguments, layout)
        return None
    plain = {"status": operations.status, "stop": operations.stop, "remove": operations.remove}
    return plain[arguments.command](layout)


def _told() -> NodeWish:
    try:
        return NodeWish.from_dict(json.loads(sys.stdin.buffer.read()))
    except ValueError:
        raise bad_wish("no JSON") from None


def _print_log(arguments: argparse.Namespace, layout: Layout) -> None:
    path = logs.log_of(layout, arguments.source)
    if not arguments.follow:
        for line in logs.last_lines(path, arguments.lines):
            _print({"line": line})
        return
    for line in logs.follow(path, arguments.lines, lambda: logs.reader_gone(STANDARD_OUTPUT)):
        _print({"line": line})


def _end_with_reader() -> None:
    """A pull that nobody waits for is given up even while there is nothing to say; Ollama then ends it, and keeps what it has."""
    if logs.reader_gone(STANDARD_OUTPUT, wait=True):
        os._exit(1)


def _print(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(document).encode() + b"\n")
    sys.stdout.buffer.flush()


def _settle_environment() -> None:
    """What we start runs on the very release we are of, and on nothing that the user's profile says about Python.

    We may have been found through `current`, which can lead to another release while what we start still runs.
    """
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    path = dict.fromkeys([*filter(None, os.environ.get("PATH", "").split(os.pathsep)), *SYSTEM_PATH])
    ours = {"PYTHONPATH": release.own_lib(), "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PATH": os.pathsep.join(path)}
    os.environ |= ours


def main(argv: list[str]) -> int:
    """Run one command; the exit code."""
    arguments = _arguments(argv)
    layout = Layout(Path(os.path.abspath(arguments.folder.expanduser())))
    _settle_environment()
    presence.note(arguments.command)
    try:
        answer = _answer(arguments, layout)
        if answer is not None:
            _print(answer)
    except BrokenPipeError:  # whoever asked is gone
        return 1
    except LlmhostError as error:
        _print({"error": error.as_dict()})
        return 1
    except OSError as error:
        failure = LlmhostError(f"the node failed: {error.strerror or error}.", hint="llmhost ssh", code="node_failed")
        _print({"error": failure.as_dict()})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
