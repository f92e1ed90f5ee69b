"""The host keys that are trusted: one known_hosts file per node, which this program and ssh itself both read."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmhost.core.errors import LlmhostError

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_TYPE = re.compile(r"[a-z0-9@.-]+")


def fingerprint(key_b64: str) -> str:
    """`SHA256:…` of a public key in base64, as ssh-keygen says it. Raises ValueError for what is no base64."""
    digest = hashlib.sha256(base64.b64decode(key_b64, validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class Pins:
    """The folder of these files. An alias names a node and its file; the machine's address may change under it (tunnel facts D7)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, alias: str) -> Path:
        """The known_hosts file of a node. Raises LlmhostError (`bad_alias`) for what cannot be a file's name."""
        if not _ALIAS.fullmatch(alias):
            raise LlmhostError(f"{alias!r} cannot name a host key's file.", code="bad_alias")
        return self.folder / alias

    def keys(self, alias: str) -> list[tuple[str, str]]:
        """Type and base64 of every key that is trusted for this alias, in the file's order. Hashed names are understood; lines with a

        marker (@revoked, @cert-authority) or of other hosts trust nothing. Raises LlmhostError (`state_unreadable`).
        """
        path = self.path(alias)
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LlmhostError(f"cannot read {path}: {error.strerror or error}.", code="state_unreadable") from error
        return [key for key in (_trusted(line, alias) for line in text.splitlines()) if key is not None]

    def known(self, alias: str) -> list[str]:
        """The fingerprints of these keys."""
        return [fingerprint(key) for _, key in self.keys(alias)]

    def damaged(self, alias: str) -> bool:
        """There is a file, and no key in it: not a machine that is met for the first time."""
        return self.path(alias).exists() and not self.keys(alias)

    def pin(self, alias: str, key_type: str, key_b64: str) -> None:
        """Trust this key too. Raises ValueError for what is no key, LlmhostError (`state_unwritable`)."""
        self._check(key_type, key_b64)
        with self._changing(alias):
            keys = self.keys(alias)
            if (key_type, key_b64) not in keys:
                self._write(alias, [*keys, (key_type, key_b64)])

    def pin_first(self, alias: str, key_type: str, key_b64: str) -> bool:
        """Trust this key when none is known yet; whether it is the one that was just made known. Of two at once one gets True."""
        self._check(key_type, key_b64)
        with self._changing(alias):
            if self.path(alias).exists():
                return False
            self._write(alias, [(key_type, key_b64)])
            return True

    def forget(self, alias: str) -> None:
        """Trust nothing under this alias any more; the next connection meets the machine for the first time."""
        try:
            self.path(alias).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _check(self, key_type: str, key_b64: str) -> None:
        if not _TYPE.fullmatch(key_type) or _body(key_b64) is None:
            raise ValueError(f"no public key: {key_type!r}")

    @contextlib.contextmanager
    def _changing(self, alias: str) -> Iterator[None]:
        """One change at a time, over processes: the folder itself is the lock."""
        self.path(alias)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, alias: str, keys: list[tuple[str, str]]) -> None:
        """Whole or not at all, so that a full disk never makes a pinned machine a new one."""
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=f".{alias}.")
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.writelines(f"{alias} {key_type} {key}\n" for key_type, key in keys)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path(alias))
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> LlmhostError:
        return LlmhostError(
            f"cannot keep a host key in {self.folder}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable.",
            code="state_unwritable",
        )


def _trusted(line: str, alias: str) -> tuple[str, str] | None:
    """Type and key of a known_hosts line that speaks of `alias` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); None for any other."""
    fields = line.split()
    if len(fields) < 3 or fields[0][0] in "#@" or not _names(fields[0], alias):
        return None
    return (fields[1], fields[2]) if _body(fields[2]) is not None else None


def _names(hosts: str, alias: str) -> bool:
    if hosts.startswith("|1|"):
        return _hashed(hosts, alias)
    return alias in hosts.split(",")


def _hashed(hosts: str, alias: str) -> bool:
    """`|1|SALT|HMAC-SHA1(SALT, name)`, both in base64."""
    parts = hosts.split("|")
    salt, digest = (_body(part) for part in parts[2:4]) if len(parts) == 4 else (None, None)
    if salt is None or digest is None:
        return False
    return hmac.compare_digest(hmac.new(salt, alias.encode(), hashlib.sha1).digest(), digest)


def _body(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        return None
