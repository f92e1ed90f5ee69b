"""Brings a bundle to a node, whole or not at all."""

from __future__ import annotations

import json
import secrets
import shlex
from typing import TYPE_CHECKING, Any

from llmhost.bootstrap import remote_unpack
from llmhost.bootstrap.bundle import PHASE, Bundle
from llmhost.bootstrap.machine import disk_full, is_full, source_of
from llmhost.core.errors import LlmhostError
from llmhost.core.progress import Progress

if TYPE_CHECKING:
    from llmhost.ssh.session import Session

ASK_S = 60.0
UNPACK_S = 300.0
DAMAGED = "bundle_damaged"
MIB = 1024 * 1024


def push(
    session: Session, bundle: Bundle, folder: str, python: str, progress: Progress, free_mb: int | None = None
) -> bool:
    """Make the bundle the node's current release; False when its code was there already. `folder` is absolute, or below the remote home.

    `free_mb` is the space on the node where it is known, so that nothing is sent that cannot be kept.

    The file goes to a name of its own, is checked against its digest over there, unpacked beside its place and renamed, and only then
    `current` is swapped; so an end at any point changes nothing, several pushes at once do no harm, and the release before stays. Raises
    LlmhostError (`disk_full`, `node_unwritable`, `bundle_damaged`), SshFailure.
    """
    _make_folder(session, folder)
    if "current" in _unpack(session, python, folder, bundle.name):
        return False
    _check_space(bundle, free_mb)
    part = f"{bundle.name}.{secrets.token_hex(4)}{remote_unpack.PART_END}"
    progress.phase(PHASE, f"copying the server to the node ({bundle.size // MIB + 1} MB)")

    def show(done: int, total: int) -> None:
        progress.transfer(PHASE, "copying the server", done, total)

    remote = f"{folder}/releases/{part}"
    try:
        session.put(bundle.file, remote, on_progress=show)
        progress.phase(PHASE, "unpacking the server on the node")
        done = _unpack(session, python, folder, bundle.name, part, bundle.sha256)
    except LlmhostError as error:
        _give_up(session, remote, error)
        if error.code == DAMAGED:
            bundle.file.unlink(missing_ok=True)  # so that the next try makes it anew, should it be our own copy
        raise
    if "current" not in done:
        raise _damaged(str(done))
    return True


def _check_space(bundle: Bundle, free_mb: int | None) -> None:
    need_mb = (bundle.size + bundle.unpacked) // MIB + 1
    if free_mb is not None and free_mb < need_mb:
        raise disk_full(f"the server needs {need_mb} MB, and {free_mb} MB are free")


def _make_folder(session: Session, folder: str) -> None:
    done = session.run(
        f"LC_ALL=C; export LC_ALL; umask 077 && mkdir -p {shlex.quote(folder)}/releases", timeout_s=ASK_S
    )
    if done.code == 0:
        return
    said = done.err.strip().splitlines()[-1] if done.err.strip() else f"exit code {done.code}"
    if is_full(said):
        raise disk_full(f"{folder} cannot be made")
    raise _unwritable(said)


def _unpack(session: Session, python: str, folder: str, *arguments: str) -> dict[str, Any]:
    """What remote_unpack answers. Raises LlmhostError."""
    command = shlex.join([python, "-I", "-S", "-X", "utf8", "-", folder, *arguments])
    done = session.run(command, stdin=source_of(remote_unpack), timeout_s=UNPACK_S)
    answer = _parse(done.out)
    if "error" not in answer:
        return answer
    detail = str(answer.get("detail") or done.err.strip()[-300:])
    if answer["error"] == "disk_full" or is_full(detail):
        raise disk_full(f"the server does not fit ({detail})")
    raise _unwritable(detail) if answer["error"] == "node_unwritable" else _damaged(detail)


def _parse(shown: str) -> dict[str, Any]:
    try:
        answer = json.loads(shown.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": "no_answer"}
    return answer if isinstance(answer, dict) else {"error": "no_answer"}


def _give_up(session: Session, remote: str, error: LlmhostError) -> None:
    """Take the upload away. Where even that cannot be done, the next push will, an hour later."""
    try:
        session.run(f"rm -f {shlex.quote(remote)}", timeout_s=ASK_S)
    except LlmhostError as second:  # the connection is gone: the first error says so
        error.add_note(second.message)


def _unwritable(why: str) -> LlmhostError:
    return LlmhostError(
        f"the node's folder cannot be written to: {why}.",
        hint="See whose it is: llmhost ssh -- ls -la .llmhost",
        code="node_unwritable",
    )


def _damaged(why: str) -> LlmhostError:
    return LlmhostError(
        f"the server did not arrive whole on the node: {why}.",
        hint="Run it again; what was there before still runs.",
        code=DAMAGED,
    )
