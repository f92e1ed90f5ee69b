"""The keys to log in with. Only the file that is named is read, and the agent when asked for; nothing in ~/.ssh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import paramiko

from llmhost.ssh.failures import SshFailure
from llmhost.ssh.identity import check_identity, is_locked, public_blob
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended


def login_keys(identity: str | None) -> Sequence[paramiko.PKey]:
    """The keys to offer, in order: the identity file's, else the agent's. A locked file's key is the agent's copy of it.

    Raises Ended: `key_unreadable`, `key_locked` (and the agent does not hold it), `key_invalid`, `auth_refused` (there is no key).
    """
    try:
        keys = _agents_keys() if identity is None else _keys_of(Path(identity))
    except SshFailure as error:
        raise Ended(error.code, _beyond_sentence(error.message)) from error
    if not keys:
        raise Ended("auth_refused", "there is no key to offer: the SSH agent has none")
    return keys


def _keys_of(path: Path) -> Sequence[paramiko.PKey]:
    check_identity(path)
    if is_locked(path):
        blob = public_blob(path)
        return [key for key in _agents_keys() if key.asbytes() == blob]
    return [paramiko.PKey.from_path(path)]


def _agents_keys() -> Sequence[paramiko.PKey]:
    """The agent's keys; they sign over its connection, which stays open as long as they are kept."""
    try:
        return tuple(paramiko.Agent().get_keys())
    except (paramiko.SSHException, OSError):
        return ()


def _beyond_sentence(message: str) -> str:
    return message.rpartition(": ")[2] if ": " in message else ""
