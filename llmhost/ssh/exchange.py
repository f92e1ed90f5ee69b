"""One command on the other side: how it is wrapped, and its streams.

A login shell may print what it likes before the command (banner, motd, .bashrc), on both streams; the wrapping makes the command's own
output begin behind a random mark. The mark is sent in two halves, so that a shell that prints its commands (set -x) does not print it.
"""

from __future__ import annotations

import codecs
import contextlib
import secrets
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import Channel

PIECE = 65_536
MAX_NOISE = 1_000_000
# Of a stream that never ends (a log that is followed, a machine that means harm) the end is kept.
MAX_KEPT = 32 * 1024 * 1024
MAX_LINE = 1024 * 1024


def gone() -> tuple[type[Exception], ...]:
    """What paramiko raises when a channel or its connection is no more."""
    from paramiko.ssh_exception import SSHException

    return (OSError, EOFError, SSHException)


def close(channel: Channel) -> None:
    """Close a channel, whatever became of its connection. Everybody who waits on it wakes up at once."""
    with contextlib.suppress(*gone()):
        channel.close()


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended and all it printed; of very much the last `MAX_KEPT` bytes.

    `code` is the shell's: 128 + the signal's number when a signal ended the command, -1 when one ended the shell around it.
    """

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Two random halves; the whole never stands in the command line."""

    first: str = field(default_factory=lambda: f"llmhost-{secrets.token_hex(8)}-")
    second: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def line(self) -> bytes:
        return f"{self.first}{self.second}\n".encode()


def wrapped(command: str, begin: Mark, end: Mark | None) -> str:
    """What the login shell is given: `command` run by /bin/sh behind the mark.

    With `end` the command gets a standard input: after it ended, the mark `end` is printed on standard error and the rest of the input is
    read away, so that the channel is not closed while something is still being sent (a server of OpenSSH hangs up on that, tunnel facts
    §2). Without, its standard input is empty.
    """
    begun = f"printf '%s%s\\n' {begin.first} {begin.second}"
    script = f'{begun}; {begun} >&2; /bin/sh -c "$0"'
    if end is None:
        script += " </dev/null; exit $?"
    else:
        script += f"; s=$?; printf '%s%s\\n' {end.first} {end.second} >&2; cat >/dev/null; exit $s"
    return f"exec /bin/sh -c {shlex.quote(script)} {shlex.quote(command)}"


class Fenced:
    """Cuts off what came before the mark. Feed it the stream as it comes."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark.line
        self.noise = b""
        self.begun = False

    def feed(self, data: bytes) -> bytes:
        """What of it is the command's own."""
        if self.begun:
            return data
        self.noise += data
        before, found, after = self.noise.partition(self._mark)
        self.begun = bool(found)
        self.noise = before if found else self.noise[-MAX_NOISE:]
        return after


def keep_end(data: bytearray) -> None:
    """Forget the beginning of what is longer than `MAX_KEPT` bytes."""
    if len(data) > MAX_KEPT:
        del data[:-MAX_KEPT]


class Lines:
    """Calls back for every line of a stream of UTF-8, without its end; the last one also when it has none.

    What goes on for more than `MAX_LINE` characters is told in pieces.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, last: bool = False) -> None:
        *whole, self._rest = (self._rest + self._decode.decode(data, last)).split("\n")
        if len(self._rest) > MAX_LINE:
            whole, self._rest = [*whole, self._rest], ""
        for line in whole:
            self._tell(line)
        if last and self._rest:
            self._tell(self._rest)


class Stderr(threading.Thread):
    """Reads standard error while the caller reads standard output; notices when the command has ended."""

    def __init__(self, channel: Channel, begin: Mark, end: Mark | None) -> None:
        super().__init__(name="llmhost-ssh-stderr", daemon=True)
        self._channel, self._end = channel, end
        self._fence = Fenced(begin)
        self._data = bytearray()
        self.command_ended = threading.Event()
        self.start()

    def run(self) -> None:
        while data := self._channel.recv_stderr(PIECE):
            own = self._fence.feed(data)
            self._data += own
            if self._end and self._data.find(self._end.line, max(0, len(self._data) - len(own) - 100)) >= 0:
                self.command_ended.set()
            keep_end(self._data)

    @property
    def data(self) -> bytes:
        """What the command wrote; all that came, when the mark never did."""
        whole = bytes(self._data) if self._fence.begun else self._fence.noise
        return whole if self._end is None else whole.replace(self._end.line, b"", 1)


class Stdin(threading.Thread):
    """Sends the chunks while the caller reads, and stops when the command has ended. `trouble` is what the chunks themselves raised."""

    def __init__(self, channel: Channel, chunks: Iterable[bytes], command_ended: threading.Event) -> None:
        super().__init__(name="llmhost-ssh-stdin", daemon=True)
        self._channel, self._chunks, self._ended = channel, iter(chunks), command_ended
        self.trouble: Exception | None = None
        self.start()

    def run(self) -> None:
        for piece in self._pieces():
            if self._ended.is_set():
                break
            try:
                self._channel.sendall(piece)
            except gone():  # the reader says why
                return
        with contextlib.suppress(*gone()):
            self._channel.shutdown_write()

    def _pieces(self) -> Iterator[bytes]:
        while (chunk := self._next()) is not None:
            for start in range(0, len(chunk), PIECE):
                yield chunk[start : start + PIECE]

    def _next(self) -> bytes | None:
        try:
            return next(self._chunks, None)
        except Exception as error:  # noqa: BLE001  # the caller's own, raised again in the caller's thread
            self.trouble = error
            close(self._channel)  # its end would tell the command that this was all
            return None
