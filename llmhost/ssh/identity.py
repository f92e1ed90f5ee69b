"""Which key a connection may use: the file that was named, else llmhost's own and then what the agent holds. Never what ~/.ssh holds."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.core import secrets
from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.ssh.failures import SshFailure, key_failure

if TYPE_CHECKING:
    from paramiko.agent import AgentKey

KEY_NAME = "id_ed25519"
COMMENT = "llmhost"
AGENT_SOCKET = "SSH_AUTH_SOCK"
# PROTOCOL.key of OpenSSH: the magic, then strings: cipher, kdf, kdf options; a count; the public key. No passphrase is needed for these.
_MAGIC = b"openssh-key-v1\0"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a connection may log in with: a private key's file, the agent's keys, or both (the file first).

    A file that only the agent can open comes with `agent`; then the agent is asked for that one key.
    """

    file: Path | None
    agent: bool


def identities(paths: Paths, identity_file: str | None) -> Identity:
    """What to log in with: `identity_file` and nothing else when it is given. Raises what `check_identity` and `own_key` raise."""
    if identity_file is not None:
        file = Path(identity_file).expanduser().absolute()
        check_identity(file)
        return Identity(file, agent=is_locked(file))
    return Identity(own_key(paths), agent=bool(os.environ.get(AGENT_SOCKET)))


def own_key(paths: Paths) -> Path:
    """llmhost's own key (Ed25519, 0600, no passphrase), made at first use; of many callers at once all get the same.

    Raises SshFailure for one that is there and cannot be used, LlmhostError (`state_unwritable`).
    """
    path = paths.state_dir / "keys" / KEY_NAME
    if secrets.read(path) is None:
        secrets.read_or_create(path, _new_key())
    try:
        _keep_public(path)
    except SshFailure as error:
        if error.code == "key_invalid":
            error.hint = f"Remove it, and a new one is made: rm {path}"
        raise
    return path


def public_key(identity: Path) -> str:
    """`TYPE BASE64 COMMENT` of the public half, without the passphrase where there is one. Raises what `check_identity` raises."""
    blob = public_blob(identity)
    beside = _line_beside(identity)
    comment = beside[2] if len(beside) == 3 and _decoded(beside[1]) == blob else COMMENT
    return f"{_type_of(blob)} {base64.b64encode(blob).decode()} {comment}"


def check_identity(path: Path) -> None:
    """Whether this key can be logged in with. Raises SshFailure: `key_unreadable` (also for one that others may read: ssh refuses it),

    `key_invalid`, or `key_locked` when it has a passphrase and the agent does not hold it.
    """
    if is_locked(path) and not _agent_holds(public_blob(path)):
        raise key_failure("key_locked", str(path), "and no agent holds it")


def is_locked(path: Path) -> bool:
    """Whether it takes a passphrase to open the file. Raises SshFailure (`key_unreadable`, `key_invalid`)."""
    return _load(path) is None


def public_blob(path: Path) -> bytes:
    """The public half in the form that goes over the wire. Raises SshFailure (`key_unreadable`, `key_invalid`)."""
    loaded = _load(path)
    if loaded is not None:
        return loaded
    inside = _openssh_public(_read(path))
    if inside is not None:
        return inside
    beside = _line_beside(path)
    blob = _decoded(beside[1]) if len(beside) > 1 else None
    if blob is None:
        raise key_failure("key_locked", str(path), f"and its public half is not beside it ({path.name}.pub)")
    return blob


@contextlib.contextmanager
def agent_keys() -> Iterator[tuple[AgentKey, ...]]:
    """The agent's keys while its connection is open; none when there is no agent or it does not speak as one."""
    from paramiko.agent import Agent
    from paramiko.ssh_exception import SSHException

    try:
        agent = Agent() if _agent_answers() else None
    except (SSHException, OSError):
        agent = None
    if agent is None:
        yield ()
        return
    try:
        yield agent.get_keys()
    finally:
        agent.close()


def _agent_answers() -> bool:
    """Asked first, because paramiko forgets its socket when nobody answers there."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ.get(AGENT_SOCKET, ""))
    except OSError:
        return False
    return True


def _agent_holds(blob: bytes) -> bool:
    with agent_keys() as keys:
        return any(key.asbytes() == blob for key in keys)


def _load(path: Path) -> bytes | None:
    """The public half of a key that opens without a passphrase; None when it has one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    data = _read(path)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        key = load(data, None)
    except TypeError:  # how cryptography says that a passphrase is needed
        return None
    except (ValueError, UnsupportedAlgorithm):
        # Not `from` it: such an error may quote the file.
        raise key_failure("key_invalid", str(path), _what_else(data)) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise key_failure("key_invalid", str(path), "only Ed25519, ECDSA and RSA keys are")
    return _blob_of(key)


def _blob_of(key: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key()  # type: ignore[attr-defined]
    return base64.b64decode(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def _what_else(data: bytes) -> str:
    return "this is the public half" if data.startswith((b"ssh-", b"ecdsa-", b"sk-")) else ""


def _read(path: Path) -> bytes:
    try:
        info = path.stat()
        data = path.read_bytes()
    except OSError as error:
        raise key_failure("key_unreadable", str(path), error.strerror or str(error)) from error
    if info.st_uid == os.getuid() and info.st_mode & 0o077:
        raise key_failure(
            "key_unreadable", str(path), "others may read it, so ssh refuses it", hint=f"chmod 600 {path}"
        )
    return data


def _openssh_public(data: bytes) -> bytes | None:
    """The public key in the clear part of an OpenSSH private key."""
    body = b"".join(line for line in data.splitlines() if line and not line.startswith(b"-"))
    raw = _decoded(body.decode(errors="replace"))
    if raw is None or not raw.startswith(_MAGIC):
        return None
    try:
        rest = raw[len(_MAGIC) :]
        for _ in range(3):  # cipher, kdf, kdf options
            _, rest = _string(rest)
        return _string(rest[4:])[0]  # after the number of keys, which is 1
    except struct.error:
        return None


def _string(data: bytes) -> tuple[bytes, bytes]:
    """An SSH string (RFC 4251 §5) and what follows it. Raises struct.error when it is cut."""
    (length,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + length:
        raise struct.error("cut")
    return data[4 : 4 + length], data[4 + length :]


def _type_of(blob: bytes) -> str:
    return _string(blob)[0].decode(errors="replace")


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _line_beside(path: Path) -> list[str]:
    try:
        return path.with_name(path.name + ".pub").read_text(errors="replace").strip().split(maxsplit=2)
    except OSError:
        return []


def _new_key() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _keep_public(path: Path) -> None:
    """The public half beside the key, for people to copy; written again when it is lost or another's."""
    wanted = public_key(path)
    public = path.with_name(path.name + ".pub")
    if _line_beside(path)[:2] == wanted.split()[:2]:
        return
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{public.name}.")
        with os.fdopen(descriptor, "w") as file:
            file.write(wanted + "\n")
        os.replace(temporary, public)
    except OSError as error:
        raise LlmhostError(
            f"cannot keep {public}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable.",
            code="state_unwritable",
        ) from error
