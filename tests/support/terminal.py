"""A program in a terminal of its own, driven as a person would: by typing and by reading what appears."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

_ESCAPES = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)|\[[0-9;:?<>=!]*[ -/]*[@-~]|[@-Z\\^_]|[()][0-9A-B])")


class Terminal:
    """A context manager; leaving it ends the program with everything it started."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path, rows: int = 50, columns: int = 160) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._bytes = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        """Everything written so far, without the escapes that place and colour it."""
        return _ESCAPES.sub("", self._bytes.decode(errors="replace"))

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Read until `text` was written. Blanks are not compared: programs move the cursor instead of writing them."""
        deadline = time.monotonic() + seconds
        while _squeezed(text) not in _squeezed(self.text):
            self._read(deadline, f"{text!r} did not appear")

    def press_until(self, key: str, text: str, seconds: float = 20.0) -> None:
        """Press a key until `text` appears: dialogs ignore what is pressed while they are still being drawn."""
        deadline = time.monotonic() + seconds
        while True:
            self.type(key)
            try:
                return self.wait_for(text, min(1.0, deadline - time.monotonic()))
            except AssertionError:
                if time.monotonic() > deadline - 1:
                    raise

    def wait_exit(self, seconds: float = 20.0) -> int:
        """The exit code of the program, which must end by itself."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self._read(deadline, "the program did not end")
        return self.process.returncode

    def _read(self, deadline: float, complaint: str) -> None:
        assert time.monotonic() < deadline, f"{complaint}; the screen:\n{self.text[-4000:]}"
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if ready:
            try:
                self._bytes += os.read(self._master, 65536)
            except OSError:  # EIO: the program has closed the terminal
                assert self.process.wait(5) is not None


def _squeezed(text: str) -> str:
    return "".join(text.split())
