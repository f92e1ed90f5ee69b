"""One connection of a link: the child process of a transport, its heartbeat and its last words."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from llmhost.supervisor.process import kill_group
from llmhost.tunnel.base import Reason, Transport
from llmhost.tunnel.echo import Echo
from llmhost.tunnel.spec import LinkSpec

# The shell becomes the child. What it leaves in the background waits for the end of the lifeline, the supervisor's death, and then ends the
# group: ssh itself would stay for its open streams, and for 30 s over a dead network (tunnel facts D3 have only the first, gentle half).
# Input and output are one socket (descriptor 1), because a shell can count on the numbers 0 to 2 only.
_WITH_LIFELINE = 'exec 3<&0; (read -r _ <&3; kill -9 -$$) >/dev/null 2>&1 & exec "$@" <&1 3<&-'
_WORDS_KEPT = 30
_CHUNK = 4096
Said = Callable[[str], None]


class Connection:
    """`start` once; then `beat` as often as `echo.due_in` says, until `ended`. `changed` is called when it was heard, and when it ended.

    `kill` and `retire` may be called at any time, from any thread.
    """

    def __init__(
        self, transport: Transport, spec: LinkSpec, local: Path, changed: Callable[[], None], said: Said
    ) -> None:
        self.spec = spec
        self.local = local
        self.echo = Echo(spec.timing)
        self.began_at = time.monotonic()
        self.ended = False
        self._transport = transport
        self._changed = changed
        self._said = said
        self._words: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._lock = threading.Lock()
        self._killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._ours: socket.socket | None = None

    def start(self, lifeline: int) -> None:
        """Start the child; `lifeline` is a descriptor that ends when we do. Raises OSError."""
        argv, extra = self._transport.command(self.spec, str(self.local))
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WITH_LIFELINE, "link", *argv],
                stdin=lifeline,
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                env={**os.environ, **extra},
                cwd="/",
                process_group=0,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._ours = ours
        with contextlib.suppress(OSError):  # it ended at once: its last words say more
            ours.sendall(self._transport.first_line(self.spec, str(self.local)))
        threading.Thread(target=self._listen, name=f"link {self.spec.name}", daemon=True).start()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and not self.ended else None

    @property
    def answers(self) -> bool:
        """Whether it was ever heard, which is: connected, logged in, listening."""
        return self.echo.heard_at is not None

    def beat(self, *, ask: bool = False) -> None:
        """Send the next line. A child that takes none will be missed by its echo."""
        line = self.echo.line(time.monotonic(), ask=ask)
        with contextlib.suppress(OSError):
            if self._ours is not None:
                self._ours.send(line, socket.MSG_DONTWAIT)

    def retire(self) -> None:
        """No new streams; it ends when those that run do."""
        with contextlib.suppress(OSError):
            if self._ours is not None:
                self._ours.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process is not None and not self.ended:
                kill_group(self._process.pid, signal.SIGKILL)

    def reason(self) -> Reason:
        """Why it ended."""
        code = self._process.returncode if self._process and not self._killed else None
        return self._transport.explain(code, "\n".join(self._words), self.spec)

    def _listen(self) -> None:
        process, ours = self._process, self._ours
        assert process is not None
        assert process.stderr is not None
        assert ours is not None
        errors, rest = process.stderr.fileno(), b""
        with selectors.DefaultSelector() as ends:
            for end in (ours.fileno(), errors):
                ends.register(end, selectors.EVENT_READ)
            while ends.get_map():
                for key, _ in ends.select():
                    data = _read(key.fd)
                    if not data:
                        ends.unregister(key.fd)
                    elif key.fd == errors:
                        rest = self._hear_words(rest + data)
                    elif self.echo.hear(data, time.monotonic()):
                        self._changed()
        self._hear_words(rest + b"\n")
        self._finish(process)

    def _hear_words(self, data: bytes) -> bytes:
        *lines, rest = data.split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text:
                self._words.append(text)
                self._said(text)
        return rest[-_CHUNK:]

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._lock:
            # The watcher is still in the group, so that its number cannot mean anybody else by now.
            kill_group(process.pid, signal.SIGKILL)
            self.ended = True
        for end in (self._ours, process.stderr):
            if end is not None:
                end.close()
        self.local.unlink(missing_ok=True)
        self._changed()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""
