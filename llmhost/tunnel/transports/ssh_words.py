"""What OpenSSH's client says when it gives up, read into the codes of `llmhost.ssh.failures`.

The texts are those of OpenSSH 7.4 to 10 in the C locale; what is not known counts as a lost connection, which is tried again.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from llmhost.core.errors import LlmhostError
from llmhost.ssh.failures import failure
from llmhost.ssh.identity import check_identity
from llmhost.tunnel.base import Reason
from llmhost.tunnel.spec import LinkSpec

SOCKET_FAILED = "socket_unusable"

# In this order: the first that is found counts, and the host key's texts come with "Permission denied" in some versions.
_WORDS: tuple[tuple[str, str], ...] = (
    ("host_key_changed", r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed"),
    ("host_key_unknown", r"No \S+ host key is known for|Host key verification failed"),
    ("password_only", r"Permission denied \((?!.*publickey).*(?:password|keyboard-interactive).*\)"),
    ("auth_refused", r"Permission denied \(|Too many authentication failures|No supported authentication methods"),
    ("name_unresolved", r"Could not resolve hostname"),
    (SOCKET_FAILED, r"Could not request local forwarding|cannot bind to path|unix_listener: "),
    ("connect_timeout", r"timed out|Timeout, server \S+ not responding before"),
    ("connection_refused", r"Connection refused"),
    ("host_unreachable", r"No route to host|Network is unreachable|Host is down|Can't assign requested address"),
    ("ssh_incompatible", r"Unable to negotiate"),
    ("not_ssh", r"banner line|protocol version|Protocol major versions differ|[Bb]ad packet length"),
    (
        "session_refused",
        r"exec request failed|session request failed|channel 1: open failed|open failed: resource shortage",
    ),
    ("forwarding_refused", r"administratively prohibited"),
)
_NOT_STARTED = (126, 127)  # the shell's words for a program that it cannot run
_ALIVE_LOST = re.compile(r"Timeout, server \S+ not responding")
_READABLE = re.compile(r"[^\x20-\x7e]+")


def explain(code: int | None, stderr: str, spec: LinkSpec) -> Reason:
    """Why ssh ended with `code` (None = it was killed because it did not connect in time)."""
    if code in _NOT_STARTED and shutil.which(spec.ssh_program) is None:
        return Reason("no_ssh", f"there is no program {spec.ssh_program!r} here; install OpenSSH's client.", True)
    found = _code_of(stderr) if code is not None else "connect_timeout"
    if found == SOCKET_FAILED:
        return Reason(SOCKET_FAILED, f"ssh cannot listen on the local socket: {_last_line(stderr)}.", False)
    if found == "auth_refused" and spec.identity and not spec.agent:  # an agent may hold what the file locks
        trouble = _key_trouble(spec.identity)
        if trouble is not None:
            return Reason(trouble.code, trouble.message, True)
    known = failure(found, spec.target, _last_line(stderr), key=spec.identity or "in the agent")
    return Reason(known.code, known.message, known.fatal)


def _code_of(stderr: str) -> str:
    if _ALIVE_LOST.search(stderr):
        return "connection_lost"
    return next((code for code, words in _WORDS if re.search(words, stderr)), "connection_lost")


def _key_trouble(identity: str) -> LlmhostError | None:
    """A locked key looks exactly like a refused one under BatchMode (tunnel facts §2.3): the file itself is asked."""
    try:
        check_identity(Path(identity))
    except LlmhostError as error:
        return error
    return None


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return _READABLE.sub(" ", lines[-1])[:200].rstrip(".") if lines else ""
