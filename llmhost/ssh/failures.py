"""Everything that can go wrong between here and a machine reached over SSH: one code, one sentence and one way out each."""

from __future__ import annotations

import re
from typing import NamedTuple

from llmhost.core.errors import LlmhostError
from llmhost.ssh.target import DEFAULT_PORT, SshTarget


class SshFailure(LlmhostError):
    """A connection that could not be made, was lost, or did not do what it was asked. `code` is a key of this module's table."""

    exit_code = 5
    default_code = "connection_lost"

    @property
    def fatal(self) -> bool:
        """Trying again cannot help: somebody must change something first (tunnel facts §3)."""
        words = _WORDS.get(self.code)
        return words is not None and words.fatal


class SshLoginFailure(SshFailure):
    """Nobody was let in: a key or a host key is not what it must be."""

    exit_code = 4
    default_code = "auth_refused"


class SshCommandFailure(SshFailure):
    """The connection is well; what was to be done over it failed."""

    exit_code = 1
    default_code = "remote_command_failed"


class _Words(NamedTuple):
    message: str
    hint: str
    kind: type[SshFailure] = SshFailure
    fatal: bool = False


# {target} is user@host:port, {ssh} an ssh command line to it, {host} the bare name, {key} a key file.
_WORDS = {
    "name_unresolved": _Words(
        "the name {host} does not resolve.", "Check the spelling, or give the address itself: --host {user}@ADDRESS"
    ),
    "connection_refused": _Words(
        "{host} refuses connections on port {port}.", "Start sshd there, or give its port: --host {user}@{host}:PORT"
    ),
    "host_unreachable": _Words("there is no way to {host} from here.", "Check the network (a VPN?), then try: {ssh}"),
    "connect_timeout": _Words(
        "{target} does not answer.", "Check that the machine is up and its firewall lets port {port} in: {ssh}"
    ),
    "not_ssh": _Words(
        "what answers on port {port} of {host} is not an SSH server.", "Give sshd's port: --host {user}@{host}:PORT"
    ),
    "ssh_incompatible": _Words(
        "{target} and this program have no protocol in common.", "Upgrade sshd there.", SshFailure, True
    ),
    "auth_refused": _Words(
        "{target} accepts none of the keys offered.",
        "Let the key in: ssh-copy-id -f -i {key}.pub{port_option} {login}",
        SshLoginFailure,
        True,
    ),
    "password_only": _Words(
        "{target} lets nobody in with a key, only with a password.",
        "Allow keys in its sshd_config (PubkeyAuthentication yes); llmhost never asks for a password.",
        SshLoginFailure,
        True,
    ),
    "key_unreadable": _Words("the key {key} cannot be used.", "ls -l {key}", SshLoginFailure, True),
    "key_locked": _Words(
        "the key {key} has a passphrase.", "Unlock it in the agent: ssh-add {key}", SshLoginFailure, True
    ),
    "key_invalid": _Words(
        "{key} is no private key that can be used here.",
        "Make one: ssh-keygen -t ed25519 -f FILE",
        SshLoginFailure,
        True,
    ),
    "host_key_changed": _Words(
        "{target} shows another host key than the one that is pinned; nothing was sent to it.",
        "If the machine was set up anew, trust its new key: llmhost tunnel --repin NODE",
        SshLoginFailure,
        True,
    ),
    "host_key_unknown": _Words(
        "the pinned host key of {target} cannot be read, so the machine cannot be told from another.",
        "Trust the key that it shows now: llmhost tunnel --repin NODE",
        SshLoginFailure,
        True,
    ),
    "forwarding_refused": _Words(
        "{target} forbids forwarding.",
        "Allow it in its sshd_config: AllowTcpForwarding yes, AllowStreamLocalForwarding yes",
        SshFailure,
        True,
    ),
    "session_refused": _Words(
        "{target} refuses a session.", "It may be busy (MaxSessions, MaxStartups); try: {ssh} true"
    ),
    "connection_lost": _Words("the connection to {target} was lost.", "Run it again; what was done already is kept."),
    "remote_timeout": _Words(
        "a command on {target} did not end in time.", "See what the machine is busy with: {ssh} top", SshCommandFailure
    ),
    "remote_command_failed": _Words("a command on {target} failed.", "Try it by hand: {ssh}", SshCommandFailure),
    "disk_full": _Words("the disk of {target} is full.", "Free space there: {ssh} df -h", SshCommandFailure),
    "remote_unwritable": _Words(
        "a file cannot be written on {target}.", "See whose the folder is: {ssh} ls -la", SshCommandFailure
    ),
}
_DEFAULT = "connection_lost"
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\uffff]+")
MAX_DETAIL = 300


def failure(code: str, target: SshTarget, detail: str = "", *, key: str = "KEY") -> SshFailure:
    """The failure with this code in words: the one place that words them.

    `detail` (what the other side or the system said) is made one printable line and follows the sentence; `key` is the key file the
    hint is about. An unknown code reads as a lost connection.
    """
    code = code if code in _WORDS else _DEFAULT
    words = _WORDS[code]
    places = _places(target, key)
    said = _one_line(detail)
    message = words.message.format(**places)
    return words.kind(f"{message[:-1]}: {said}." if said else message, hint=words.hint.format(**places), code=code)


def key_failure(code: str, key: str, detail: str = "", *, hint: str | None = None) -> SshFailure:
    """A failure of a key file itself (`key_unreadable`, `key_locked`, `key_invalid`), before any machine is asked."""
    error = failure(code, SshTarget("", DEFAULT_PORT, ""), detail, key=key)
    error.hint = error.hint if hint is None else hint
    return error


def _places(target: SshTarget, key: str) -> dict[str, str]:
    option = "" if target.port == DEFAULT_PORT else f" -p {target.port}"
    login = f"{target.user}@{target.host}"
    return {
        "target": str(target),
        "user": target.user,
        "host": target.host,
        "port": str(target.port),
        "port_option": option,
        "login": login,
        "ssh": f"ssh{option} {login}",
        "key": key,
    }


def _one_line(detail: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", detail).split())[:MAX_DETAIL].rstrip(".")
