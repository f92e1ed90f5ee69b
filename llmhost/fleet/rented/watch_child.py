"""The watch as a process: its configuration, its rounds, and its end."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from llmhost.core.errors import LlmhostError
from llmhost.core.json_log import set_up_logging
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.settings import Settings
from llmhost.fleet.desired import WATCH
from llmhost.fleet.rented.alerts import COMMAND_S
from llmhost.fleet.rented.rounds import Rounds
from llmhost.fleet.rented.tidy import forget_terms
from llmhost.fleet.rented.watch import GRACE_S
from llmhost.fleet.turn import try_turn
from llmhost.providers.market import Market
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.launch import find_supervisor

log = logging.getLogger("llmhost.watch")
BAD_CONFIG = 2
ANSWER_S = 5.0
# What is being ended when the lifeline ends gets so long; what it did is in the ledger, step by step.
FAREWELL_S = GRACE_S / 2


def run(stdin: BinaryIO) -> int:
    """Watch until standard input ends or nothing is rented any more; the exit code."""
    try:
        settings, paths = _configuration(stdin.readline())
    except (ValueError, KeyError, TypeError):
        # Not the error itself: it may quote the key.
        sys.stderr.write("llmhost.watch: the first line of standard input must be its configuration as JSON\n")
        return BAD_CONFIG
    set_up_logging(as_json=True, level=settings.log_level)
    closing = threading.Event()
    _end_with(stdin, closing)
    _watch(Rounds(settings, paths, _open_market), settings, paths, closing)
    return 0


def _watch(rounds: Rounds, settings: Settings, paths: Paths, closing: threading.Event) -> None:
    pause = 0.0
    while not closing.wait(pause):
        pause = settings.vast_watch_s
        try:
            due = rounds.once()
            if due is None:
                rounds.told.wait(COMMAND_S)
                if leave(paths):
                    return
            else:
                pause = due
        except LlmhostError as error:
            log.error(error.message, extra={"code": error.code})
            pause = min(pause, settings.vast_poll_s)  # most likely a ledger that others were writing
    rounds.jobs.wait(FAREWELL_S)


def leave(paths: Paths) -> bool:
    """Have the supervisor drop us, or stop when we are all it runs; False when something was rented meanwhile, or somebody is at work."""
    with try_turn(paths) as mine, Ledger.open(paths.ledger_file) as ledger, ledger.transaction():
        if not mine or ledger.rentals.all(open_only=True):
            return False
        forget_terms(ledger)
        client = find_supervisor(paths, ANSWER_S)
        if client is not None:
            with client:
                _drop_us(client)
        log.info("nothing is rented any more")
        return True


def _drop_us(client: SupervisorClient) -> None:
    wanted = client.wanted()
    others = [spec.as_dict() for spec in wanted if spec.name != WATCH]
    if others or client.ask("wanted").get("links"):
        client.ask("apply", children=others, keep=True, timeout_s=ANSWER_S)
    else:
        client.ask("stop", timeout_s=ANSWER_S)


def _configuration(line: bytes) -> tuple[Settings, Paths]:
    config = json.loads(line)
    paths = Paths(**{name: Path(place) for name, place in config["paths"].items()})
    return Settings(**config["settings"]), paths


def _open_market(settings: Settings) -> Market:
    from llmhost.providers.vast.market import open_market

    return open_market(settings)


def _end_with(stdin: BinaryIO, closing: threading.Event) -> None:
    """Our end is that of standard input, and SIGTERM. `down` interrupts whoever is at work, and waits for what we end to be ended."""

    def listen() -> None:
        while stdin.read(4096):
            pass
        closing.set()

    def close(number: int, frame: FrameType | None) -> None:
        closing.set()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, close)
    threading.Thread(target=listen, name="lifeline", daemon=True).start()
