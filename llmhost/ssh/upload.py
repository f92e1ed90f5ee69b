"""A file to the other side: by SFTP where there is, else over the standard input of a command."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.ssh.exchange import gone
from llmhost.ssh.failures import SshFailure, failure

if TYPE_CHECKING:
    from paramiko import Channel, SFTPClient

    from llmhost.ssh.exchange import Completed
    from llmhost.ssh.session import Session

CHUNK = 262_144
# Longest silence of an SFTP server that is taken for work; slow disks flush now and then.
ANSWER_WITHIN_S = 30.0
COMMAND_WITHIN_S = 60.0
# A slow uplink carries 100 MB in this time at 30 kB/s.
STREAM_WITHIN_S = 3_600.0
_FULL = re.compile(r"No space left on device|[Qq]uota exceeded|File too large|File size limit")

Progress = Callable[[int, int], None]


def put(session: Session, file: Path, remote: str, on_progress: Progress) -> str:
    """See `Session.put`."""
    part = f"{remote}.part"
    size = file.stat().st_size
    with file.open("rb") as source, _removed_on_failure(session, part):
        _must(session, session.run(_prepare(part), timeout_s=COMMAND_WITHIN_S))
        chunks = _chunks(iter(lambda: source.read(CHUNK), b""), size, on_progress)
        how = _send(session, chunks, part)
        _must(session, session.run(_finish(part, remote, size), timeout_s=COMMAND_WITHIN_S))
    return how


def _send(session: Session, chunks: Iterator[bytes], part: str) -> str:
    with _sftp(session) as client:
        if client is not None:
            _by_sftp(session, client, chunks, part)
            return "sftp"
    _must(session, session.stream_in(_in_c(f"cat >> {shlex.quote(part)}"), chunks, STREAM_WITHIN_S))
    return "stream"


def _by_sftp(session: Session, client: SFTPClient, chunks: Iterator[bytes], part: str) -> None:
    """Write into the file that is there already, so that its mode is ours from its first moment."""
    from paramiko import SFTPError

    try:
        with client.open(part, "r+") as target:
            target.set_pipelined(True)
            for chunk in chunks:
                target.write(chunk)
    except (SFTPError, *gone()) as error:
        raise _why(session, part, error) from error


@contextlib.contextmanager
def _sftp(session: Session) -> Iterator[SFTPClient | None]:
    """An SFTP client; None where there is no SFTP, or a shell that prints something spoils it."""
    if not session.sftp:
        yield None
        return
    with session.channel(ANSWER_WITHIN_S) as channel:
        client = _client(session, channel)
        session.sftp = client is not None
        if client is not None:
            yield client
            return
    yield None


def _client(session: Session, channel: Channel) -> SFTPClient | None:
    from paramiko import SFTPClient, SFTPError

    channel.settimeout(ANSWER_WITHIN_S)
    try:
        channel.invoke_subsystem("sftp")
        return SFTPClient(channel)
    except (SFTPError, *gone()):
        if not session.alive:
            raise failure("connection_lost", session.target) from None
        return None


def _why(session: Session, part: str, error: Exception) -> SshFailure:
    """SFTP has no word for a full disk; a shell that tries to write a little more has."""
    if not session.alive:
        return failure("connection_lost", session.target)
    if isinstance(error, TimeoutError):
        return failure("remote_timeout", session.target, f"no word from SFTP for {ANSWER_WITHIN_S:.0f} s")
    tried = session.run(_in_c(f"head -c {CHUNK} /dev/zero >> {shlex.quote(part)}"), timeout_s=COMMAND_WITHIN_S)
    return _complaint(session, tried) if tried.code else failure("remote_unwritable", session.target, str(error))


def _must(session: Session, done: Completed) -> None:
    if done.code:
        raise _complaint(session, done)


def _complaint(session: Session, done: Completed) -> SshFailure:
    said = done.err.strip() or f"exit code {done.code}"
    return failure("disk_full" if _FULL.search(said) else "remote_unwritable", session.target, said.splitlines()[-1])


def _prepare(part: str) -> str:
    """A new empty file that only its owner may read; a left-over is removed, not reused, for it may still be written to."""
    return _in_c(f"umask 077; rm -f -- {shlex.quote(part)} && : > {shlex.quote(part)}")


def _finish(part: str, remote: str, size: int) -> str:
    said = f"the upload has $n of {size} bytes"
    quoted = shlex.quote(part)
    return _in_c(
        f'n=$(wc -c < {quoted}) && [ "$n" -eq {size} ] || {{ echo "{said}" >&2; exit 1; }}; mv -f -- {quoted} {shlex.quote(remote)}'
    )


def _in_c(command: str) -> str:
    """What goes wrong is read, so it must be said in English."""
    return f"LC_ALL=C; export LC_ALL; {command}"


@contextlib.contextmanager
def _removed_on_failure(session: Session, part: str) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        undo.callback(_remove, session, part)
        yield
        undo.pop_all()


def _remove(session: Session, part: str) -> None:
    if session.alive:
        with contextlib.suppress(SshFailure):
            session.run(f"rm -f -- {shlex.quote(part)}", timeout_s=COMMAND_WITHIN_S)


def _chunks(source: Iterator[bytes], size: int, on_progress: Progress) -> Iterator[bytes]:
    done = 0
    on_progress(0, size)
    for chunk in source:
        yield chunk
        done += len(chunk)
        on_progress(done, size)
