"""The child program. Standard input: the configuration, then beats; its end means that no new streams come (see `llmhost.tunnel.base`).

It ends with `os._exit`: there are threads of sshtunnel's and paramiko's that could keep it for ever.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from types import TracebackType

from llmhost.tunnel.transports.sshtunnel_child.config import ChildConfig
from llmhost.tunnel.transports.sshtunnel_child.connection import Connection, Opener
from llmhost.tunnel.transports.sshtunnel_child.door import Door
from llmhost.tunnel.transports.sshtunnel_child.echo import Beats
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended
from llmhost.tunnel.transports.sshtunnel_child.pool import Pool

_DESCRIPTORS = 8192  # one per stream and a few per connection
_STDOUT = 1
_FAILED = 1
_MISUSED = 2
_CRASHED = 3


class Child:
    """The program's parts. Whoever finds a reason to end puts it into `_ends`; None = all is done."""

    def __init__(self, config: ChildConfig) -> None:
        self._config = config
        self._ends: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._beats = Beats(_STDOUT)
        self._opener = Opener(config, self._beats.came_back)
        self._pool = Pool(self._open, self._ends.put)
        self._door = Door(config.local, self._pool.place)
        self._up = threading.Event()

    def run(self) -> Ended | None:
        """Serve until it is over, and say why it is."""
        threading.Thread(target=self._hear_link, daemon=True).start()
        try:
            self._pool.start()
            self._door.open()
        except Ended as error:
            return error
        self._up.set()
        threading.Thread(target=self._tick, daemon=True).start()
        why = self._ends.get()
        self._door.close()
        return why

    def _open(self) -> Connection:
        return self._opener.open()

    def _hear_link(self) -> None:
        # readline, not iteration, which would wait for more than a line
        while line := sys.stdin.buffer.readline():
            name = self._beats.name(line)
            self._up.wait()
            self._pool.beat(name)
        if not self._up.is_set():
            os._exit(0)
        self._door.close()
        self._pool.drain()

    def _tick(self) -> None:
        while True:
            time.sleep(self._config.alive_every)
            self._pool.tick()


def main() -> int:
    sys.excepthook, threading.excepthook = (
        _crash,
        lambda crash: _crash(crash.exc_type, crash.exc_value, crash.exc_traceback),
    )
    logging.disable()  # standard error is for the last words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    _raise_descriptors()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    try:
        config = ChildConfig.from_line(line)
    except (KeyError, TypeError, ValueError):
        sys.stderr.write("the first line is no configuration\n")
        return _MISUSED
    why = Child(config).run()
    if why is None:
        return 0
    sys.stderr.write(why.line())
    return _FAILED


def _crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """What nobody foresaw, in whatever thread: ending is better than half a link. The link's log gets it all."""
    sys.stderr.write("".join(traceback.format_exception(kind, error, trace)))
    sys.stderr.write(Ended("connection_lost", f"unforeseen: {kind.__name__}").line())
    sys.stderr.flush()
    os._exit(_CRASHED)


def _raise_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
