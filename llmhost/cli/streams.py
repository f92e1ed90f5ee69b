"""The standard streams: mended where somebody closed them, and what is written to one that fails."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class OutputLost(Exception):
    """The answer did not get to standard output. `reader_gone`: nobody wanted the rest, as opposed to a full disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the answer cannot be written: {error.strerror or error}.")
        self.reader_gone = isinstance(error, BrokenPipeError)


def mend() -> None:
    """Standard streams that somebody closed lead nowhere, lest the next socket opened takes their number; and any locale will do."""
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            if not _is_open(number):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for the life of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Around whatever writes to standard output. Raises OutputLost; what is still buffered then goes nowhere."""
    try:
        yield
    except OSError as error:
        _silence(sys.stdout)
        raise OutputLost(error) from error


def to_stdout(text: str) -> None:
    """Write and flush. Raises OutputLost."""
    with answering():
        sys.stdout.write(text)
        sys.stdout.flush()


def to_stderr(text: str, stream: TextIO | None = None) -> None:
    """Write and flush. A reader that is gone is no reason to stop or to fail: then nobody is told."""
    stream = stream or sys.stderr
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _silence(stream)


def _silence(stream: TextIO) -> None:
    """Lead a stream nowhere, so that what is buffered does not raise again when Python flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
