"""A login on a machine: commands, their streams, and files; from several threads at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from llmhost.ssh import exchange, handshake, upload
from llmhost.ssh.dial import dial, hang_up
from llmhost.ssh.exchange import Completed, Fenced, Lines, Mark, Stderr, Stdin
from llmhost.ssh.failures import SshFailure, failure
from llmhost.ssh.heartbeat import Alive, Heartbeat
from llmhost.ssh.identity import Identity, check_identity
from llmhost.ssh.pins import Pins
from llmhost.ssh.target import SshTarget

if TYPE_CHECKING:
    from paramiko import Channel, Transport

# sshd allows ten sessions on one connection (MaxSessions of sshd_config(5)), and still counts one that ended when it reads the request
# for the next: half of them, so that all may be replaced at once. Further callers wait.
MAX_CHANNELS = 5
# Hosts may allow fewer, down to one: a refused request is repeated for so long, with pauses from this one on, doubled each time.
REFUSED_FOR_S = 2.0
FIRST_PAUSE_S = 0.02
CLOSE_WITHIN_S = 2.0


class Session:
    """One SSH connection that somebody is logged in on. `sftp` turns False once the host was found to have none.

    `key` is the public half of the key that was taken, in the form that goes over the wire.
    """

    def __init__(self, transport: Transport, target: SshTarget, alive: Alive, key: bytes = b"") -> None:
        self.target = target
        self.key = key
        self.sftp = True
        self._transport = transport
        self._channels = threading.BoundedSemaphore(MAX_CHANNELS)
        self._heartbeat = Heartbeat(transport, alive, self._give_up)
        self._heartbeat.start()

    @classmethod
    def connect(
        cls,
        target: SshTarget,
        identity: Identity,
        pins: Pins,
        alias: str,
        *,
        timeout_s: float = 10.0,
        on_first_key: Callable[[str], None] | None = None,
        alive: Alive | None = None,
    ) -> Session:
        """Log in with the host key that is pinned under `alias`; a machine met for the first time gets pinned, and `on_first_key` called

        with the fingerprint. `timeout_s` is for each of: connecting, agreeing on keys, an answer to a login. One attempt, no retry.
        Raises SshFailure, LlmhostError (`state_unwritable`, `state_unreadable`).
        """
        if identity.file is not None:
            check_identity(identity.file)  # before anybody is called
        connection = dial(target, timeout_s)
        transport = handshake.negotiate(connection, target, pins, alias, timeout_s)
        try:
            handshake.check_host_key(transport, target, pins, alias, on_first_key)
            key = handshake.log_in(transport, target, identity)
        except BaseException:
            handshake.end(transport)
            raise
        return cls(transport, target, alive or Alive(), key)

    @property
    def alive(self) -> bool:
        """The connection is there, as far as is known without asking."""
        return bool(self._transport.is_active())

    def run(
        self,
        command: str,
        *,
        stdin: bytes | None = None,
        timeout_s: float = 60.0,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a command by /bin/sh in the home and wait for its end; any exit code is a result.

        `on_line` is called in this thread for each line of its standard output as it comes. After `timeout_s` the command is left to itself
        (its streams are closed). Raises SshFailure: `remote_timeout`, `connection_lost`, `session_refused`; and what `on_line` raises.
        """
        return self._execute(command, None if stdin is None else (stdin,), timeout_s, on_line)

    def stream_in(self, command: str, chunks: Iterable[bytes], timeout_s: float = 600.0) -> Completed:
        """`run` with its standard input taken from `chunks`, in another thread and only as fast as the other side reads.

        When `chunks` raises, the command's channel is closed without a word of the end, and the exception is raised here.
        """
        return self._execute(command, chunks, timeout_s, None)

    def check(self, command: str, *, stdin: bytes | None = None, timeout_s: float = 60.0) -> str:
        """`run`, and its standard output. Raises SshFailure (`remote_command_failed`) with what it complained of when it fails."""
        done = self.run(command, stdin=stdin, timeout_s=timeout_s)
        if done.code:
            said = (done.err.strip() or done.out.strip()).splitlines()
            raise failure("remote_command_failed", self.target, said[-1] if said else f"exit code {done.code}")
        return done.out

    def put(self, file: Path, remote: str, *, on_progress: Callable[[int, int], None] | None = None) -> str:
        """Upload a file to the path `remote` (relative to the home), which appears whole, with mode 0600, or not at all.

        By SFTP, else over a command's standard input: "sftp" or "stream", as it was done. `on_progress(done, total)` in bytes may come
        from another thread. A connection that is lost leaves `remote`.part behind, which the next attempt removes.
        Raises SshFailure: `disk_full`, `remote_unwritable`, `remote_timeout`, `connection_lost`, `session_refused`; OSError of the file.
        """
        return upload.put(self, file, remote, on_progress or (lambda done, total: None))

    def close(self) -> None:
        """Hang up. Commands that are still running on the other side are left to themselves."""
        self._heartbeat.stop()
        handshake.end(self._transport)
        if threading.current_thread() is not self._heartbeat:
            self._heartbeat.join(CLOSE_WITHIN_S)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def channel(self, timeout_s: float) -> Iterator[Channel]:
        """A session channel, closed at the end. Raises SshFailure (`session_refused`, `connection_lost`, `remote_timeout`)."""
        if not self._channels.acquire(timeout=timeout_s):
            raise failure("remote_timeout", self.target, f"{MAX_CHANNELS} others are running on this connection")
        try:
            channel = self._open(timeout_s)
            try:
                yield channel
            finally:
                self._shut(channel)
        finally:
            self._channels.release()

    def _open(self, timeout_s: float) -> Channel:
        from paramiko.ssh_exception import ChannelException

        started, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return self._transport.open_session(timeout=timeout_s)
            except ChannelException as error:
                if time.monotonic() - started > REFUSED_FOR_S:
                    raise self.trouble(error, "session_refused", error.text) from error
            except exchange.gone() as error:  # on a live connection it is a time-out
                raise self.trouble(error, "remote_timeout") from error
            time.sleep(pause)
            pause *= 2

    def trouble(self, error: Exception | None, code: str, detail: str = "") -> SshFailure:
        """The failure with `code`, or `connection_lost` when that is what lies behind it."""
        # paramiko closes the channels of a dead connection a moment before it calls the connection dead
        if isinstance(error, EOFError | ConnectionError) or self._dying():
            return failure("connection_lost", self.target)
        return failure(code, self.target, detail or (str(error) if error else ""))

    def _dying(self) -> bool:
        return not self.alive or isinstance(self._transport.saved_exception, EOFError | OSError)

    def _execute(
        self, command: str, chunks: Iterable[bytes] | None, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> Completed:
        begin, end = Mark(), None if chunks is None else Mark()
        expired = threading.Event()
        with self.channel(timeout_s) as channel, _limit(channel, timeout_s, expired):
            self._start(channel, exchange.wrapped(command, begin, end), expired, timeout_s)
            errors = Stderr(channel, begin, end)
            sender = None if chunks is None else Stdin(channel, chunks, errors.command_ended)
            fence = Fenced(begin)
            out = self._read(channel, fence, on_line)
            code = channel.recv_exit_status()
            # Without either the channel ended with the connection, or by us; some servers close without an end of file.
            complete = channel.eof_received or (code >= 0 and not self._dying())
        errors.join(CLOSE_WITHIN_S)
        if sender is not None and sender.trouble is not None:
            raise sender.trouble
        if expired.is_set():
            raise failure("remote_timeout", self.target, f"{timeout_s:.0f} s")
        if not complete:
            raise failure("connection_lost", self.target)
        return self._result(code, out, errors, fence)

    def _start(self, channel: Channel, line: str, expired: threading.Event, timeout_s: float) -> None:
        try:
            channel.exec_command(line)
        except exchange.gone() as error:
            if expired.is_set():
                raise failure("remote_timeout", self.target, f"{timeout_s:.0f} s") from error
            raise self.trouble(error, "session_refused", "it runs no commands") from error

    def _read(self, channel: Channel, fence: Fenced, on_line: Callable[[str], None] | None) -> bytes:
        lines = Lines(on_line) if on_line else None
        out = bytearray()
        while data := channel.recv(exchange.PIECE):
            own = fence.feed(data)
            out += own
            exchange.keep_end(out)
            if lines and own:
                lines.feed(own)
        if lines:
            lines.feed(b"", last=True)
        return bytes(out)

    def _result(self, code: int, out: bytes, errors: Stderr, fence: Fenced) -> Completed:
        if not fence.begun:
            # a shell that runs nothing (nologin, a restricted one) says so instead
            said = (errors.data + fence.noise).decode(errors="replace").strip()
            raise failure("session_refused", self.target, said or "its shell runs no commands")
        return Completed(code, out.decode(errors="replace"), errors.data.decode(errors="replace"))

    def _shut(self, channel: Channel) -> None:
        """Close a channel; in a thread, because the word of it cannot be sent while the connection hangs."""
        closing = threading.Thread(target=exchange.close, args=(channel,), name="llmhost-ssh-close", daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN_S)

    def _give_up(self) -> None:
        hang_up(self._transport.sock)


@contextlib.contextmanager
def _limit(channel: Channel, timeout_s: float, expired: threading.Event) -> Iterator[None]:
    """Close the channel, which wakes everybody who waits on it, when this takes longer."""

    def expire() -> None:
        expired.set()
        exchange.close(channel)

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
