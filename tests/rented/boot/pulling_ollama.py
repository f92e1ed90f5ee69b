"""An Ollama whose pulls take a while, or stand still: `stalls:…` does after a third, `moves:…` arrives. Run as `ollama serve`."""

from __future__ import annotations

import os
import sys
import time

from tests.support.small_ollama import Handler, Model, SmallOllama

TOTAL = 300_000_000
STEPS = 30


class Pulling(Handler):
    def pull(self, name):
        if not name.startswith(("moves", "stalls")):
            super().pull(name)
            return
        self.begin_stream()
        self.line({"status": "pulling manifest"})
        for step in range(STEPS + 1):
            here = min(step, STEPS // 3) if name.startswith("stalls") else step
            digest = f"sha256:{'1' * 64}"
            self.line({"status": "pulling 1", "digest": digest, "total": TOTAL, "completed": TOTAL * here // STEPS})
            time.sleep(0.05)
        while name.startswith("stalls"):
            self.line({"status": "pulling 1", "digest": digest, "total": TOTAL, "completed": TOTAL // 3})
            time.sleep(0.05)
        self.ollama.models[name] = Model(name)
        self.line({"status": "success"})


def script() -> str:
    """The program `ollama` of a machine."""
    root = os.getcwd()
    version = '[ "$1" != --version ] || exec echo "ollama version is 0.24.0"'
    return f'#!/bin/sh\n{version}\nPYTHONPATH={root} exec {sys.executable} -m {__spec__.name} "$@"\n'


def main() -> None:
    assert sys.argv[1:] == ["serve"]
    served = SmallOllama([Model("there:1b")], port=int(os.environ["OLLAMA_HOST"].rpartition(":")[2]))
    served.server.RequestHandlerClass = type("Bound", (Pulling,), {"ollama": served})
    served.server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main()
