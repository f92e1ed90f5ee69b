"""`python -m tests.support.marketplace [--port N] [--machines FOLDER] [--scale X] [--pace X]`: the marketplace as a process of its own.

It prints one line of JSON, `{"url", "key"}`, and serves until its standard input ends or it is told to terminate.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path

from tests.support.marketplace.clock import Clock
from tests.support.marketplace.machine import paper
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.marketplace")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--machines", type=Path, help="back every running instance with a real sshd below this folder")
    parser.add_argument("--scale", type=float, default=1.0, help="seconds of the market per real second")
    parser.add_argument("--pace", type=float, default=1.0, help="0.1 = every life ten times as fast")
    parser.add_argument("--scenario", default="happy_warm")
    parser.add_argument("--no-limits", action="store_true")
    return parser.parse_args()


def _until_told(over: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())

    def watch() -> None:
        while os.read(0, 4096):
            pass
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    over.wait()


def main() -> None:
    options = _options()
    machines = sandboxes(options.machines) if options.machines else paper
    limits, clock = not options.no_limits, Clock(scale=options.scale)
    market = Market(clock=clock, machines=machines, limits=limits, pace=options.pace, scenario=options.scenario)
    with MarketServer(market, port=options.port) as server:
        print(json.dumps({"url": server.url, "key": server.key}), flush=True)
        _until_told(threading.Event())


main()
