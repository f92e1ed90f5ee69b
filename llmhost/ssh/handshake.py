"""From a TCP connection to a login, by paramiko, with this program's own rules: the pinned host key, the given keys, and typed failures.

Nothing of ~/.ssh is read. The host key is compared before any word about the user is sent (tunnel facts D7).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from llmhost.ssh.dial import hang_up
from llmhost.ssh.failures import SshFailure, failure
from llmhost.ssh.identity import Identity, agent_keys, is_locked, public_blob
from llmhost.ssh.pins import Pins, fingerprint
from llmhost.ssh.target import SshTarget

if TYPE_CHECKING:
    from paramiko import PKey, Transport

# sshd hangs up after six keys that it does not know (MaxAuthTries of sshd_config(5)).
MAX_KEYS = 6
MAX_BANNER_LINES = 20
# What sshd says in place of its version when it takes nobody more: MaxStartups, and the penalties of 9.8 and later.
_BUSY = ("Exceeded MaxStartups", "Not allowed at this time")


@cache
def silence() -> None:
    """Paramiko's own log goes nowhere: without a handler, logging would print its warnings and tracebacks on standard error."""
    logger = logging.getLogger("paramiko")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)


def negotiate(connection: socket.socket, target: SshTarget, pins: Pins, alias: str, timeout_s: float) -> Transport:
    """Agree on keys with the server; nobody is logged in yet. A host key of a pinned type is asked for first.

    Raises SshFailure: `not_ssh`, `ssh_incompatible`, `session_refused`, `connect_timeout`, `connection_lost`.
    """
    from paramiko.ssh_exception import SSHException

    silence()
    heard: list[str] = []
    transport = _transport(connection, heard, timeout_s)
    _prefer(transport, [key_type for key_type, _ in pins.keys(alias)])
    started = time.monotonic()
    try:
        transport.start_client(timeout=timeout_s)
        if not transport.initial_kex_done:
            raise _no_answer(target, heard)
    except (SSHException, OSError, EOFError) as error:
        late = time.monotonic() - started >= timeout_s
        end(transport)
        raise _no_agreement(error, target, heard, late) from error
    except BaseException:
        end(transport)
        raise
    return transport


def check_host_key(
    transport: Transport, target: SshTarget, pins: Pins, alias: str, on_first_key: Callable[[str], None] | None
) -> None:
    """Compare the host key with the pinned ones; a machine met for the first time gets pinned and told.

    Raises SshFailure (`host_key_changed`, `host_key_unknown`), LlmhostError (`state_unwritable`).
    """
    key = transport.get_remote_server_key()
    shown = (key.get_name(), key.get_base64())
    if pins.damaged(alias):
        raise failure("host_key_unknown", target, f"{pins.path(alias)} holds no key")
    if not pins.keys(alias) and pins.pin_first(alias, *shown):
        if on_first_key is not None:
            on_first_key(fingerprint(shown[1]))
        return
    if shown not in pins.keys(alias):
        known = " or ".join(pins.known(alias))
        raise failure("host_key_changed", target, f"{fingerprint(shown[1])} instead of {known}")


def log_in(transport: Transport, target: SshTarget, identity: Identity) -> bytes:
    """Offer the identity's keys, one after the other; the public half of the one that was taken, as it goes over the wire.

    Raises SshFailure: `auth_refused`, `password_only`, `connect_timeout`, `connection_lost`, and those of the key's file.
    """
    with _keys(identity) as keys:
        for number, key in enumerate(keys[:MAX_KEYS]):
            if _offer(transport, target, key, number, identity):
                return bytes(key.asbytes())
    raise _refused(target, identity, "" if keys else "there is none to offer")


def end(transport: Transport) -> None:
    """Close it, whatever it is doing. No thread or timer stays."""
    hang_up(transport.sock)
    transport.packetizer.complete_handshake()  # its timer would keep the program from ending
    transport.close()
    if transport.ident is not None:
        transport.join(5.0)
    transport.sock.close()


def _transport(connection: socket.socket, heard: list[str], timeout_s: float) -> Transport:
    from paramiko import Packetizer, Transport

    class Listening(Packetizer):  # type: ignore[misc]  # paramiko carries no types
        """Notes the lines before the version, and does not wait for the hundred that paramiko would."""

        def readline(self, timeout: float) -> Any:
            try:
                line = super().readline(timeout)
            except UnicodeDecodeError:
                heard.append("(no text)")
                raise
            heard.append(line)
            if line.startswith(("HTTP/", *_BUSY)) or len(heard) > MAX_BANNER_LINES:
                raise EOFError
            return line

    transport = Transport(connection, packetizer_class=Listening)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout_s
    return transport


def _prefer(transport: Transport, pinned: list[str]) -> None:
    """Ask for a key of a pinned type first, so that a host with several kinds shows the one that is known."""
    options = transport.get_security_options()
    # an RSA key is pinned as ssh-rsa and asked for by the names of its signatures (RFC 8332 §3)
    wanted = [name for key in pinned for name in (("rsa-sha2-512", "rsa-sha2-256") if key == "ssh-rsa" else (key,))]
    first = [name for name in dict.fromkeys(wanted) if name in options.key_types]
    options.key_types = (*first, *(name for name in options.key_types if name not in first))


def _no_agreement(error: Exception, target: SshTarget, heard: list[str], late: bool) -> SshFailure:
    from paramiko.ssh_exception import IncompatiblePeer

    if isinstance(error, IncompatiblePeer):
        return failure("ssh_incompatible", target, str(error))
    busy = next((line for line in heard if line.startswith(_BUSY)), None)
    if busy is not None:
        return failure("session_refused", target, busy)
    if heard and not any(line.startswith("SSH-2.0-") for line in heard):
        return failure("not_ssh", target, f"it says {heard[0][:60]!r}")
    if late or _timed_out(error):
        return _no_answer(target, heard)
    said = str(error)
    # paramiko's own words for it; whatever else it says is about the protocol
    hung_up = not said or said.startswith("Error reading SSH protocol banner")
    return failure("connection_lost", target, "it hung up before the login" if hung_up else said)


def _no_answer(target: SshTarget, heard: list[str]) -> SshFailure:
    silent = "the port is open, and no SSH server speaks"
    return failure("connect_timeout", target, "it stopped answering while keys were agreed on" if heard else silent)


def _timed_out(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _offer(transport: Transport, target: SshTarget, key: PKey, number: int, identity: Identity) -> bool:
    """Whether this key lets us in; False: try the next."""
    from paramiko.ssh_exception import AuthenticationException, BadAuthenticationType, SSHException

    try:
        further = transport.auth_publickey(target.user, key)
    except BadAuthenticationType as error:
        passwords = {"password", "keyboard-interactive"} & set(error.allowed_types)
        code = "password_only" if passwords else "auth_refused"
        raise failure(code, target, key=_named(identity)) from error
    except AuthenticationException as error:
        if transport.is_active() and "timeout" not in str(error):
            return False
        raise _cut(transport, target, number, identity) from error
    except (SSHException, OSError, EOFError) as error:
        raise failure("connection_lost", target, "during the login") from error
    if further:
        raise _refused(target, identity, f"the key is good, and it wants {' or '.join(further)} too")
    return True


def _cut(transport: Transport, target: SshTarget, number: int, identity: Identity) -> SshFailure:
    if transport.is_active():
        return failure("connect_timeout", target, "it does not answer the login")
    if number:  # sshd does so after MaxAuthTries
        return _refused(target, identity, f"it hung up after {number} of them")
    return failure("connection_lost", target, "during the login")


def _refused(target: SshTarget, identity: Identity, detail: str) -> SshFailure:
    return failure("auth_refused", target, detail, key=_named(identity))


def _named(identity: Identity) -> str:
    return str(identity.file) if identity.file else "KEY"


@contextlib.contextmanager
def _keys(identity: Identity) -> Iterator[list[PKey]]:
    """The keys to offer, in order; those of the agent work while this is open."""
    own, only = _from_file(identity)
    if not identity.agent:
        yield own
        return
    with agent_keys() as held:
        if only is not None:
            held = tuple(key for key in held if key.asbytes() == only)
        yield [*own, *(key for key in held if key.asbytes() not in [mine.asbytes() for mine in own])]


def _from_file(identity: Identity) -> tuple[list[PKey], bytes | None]:
    """The file's key; or, of a locked file, its public half, which the agent is to be asked for."""
    from paramiko import PKey

    if identity.file is None:
        return [], None
    if is_locked(identity.file):
        return [], public_blob(identity.file)
    return [PKey.from_path(identity.file)], None
