"""Who may call what: the account's key, keys of limited scope, and the key inside a container (vast facts §0.5 and §1.5)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from tests.support.marketplace.answers import Answer, Refusal, error

GROUPS = ("misc", "user_read", "user_write", "instance_read", "instance_write", "billing_read", "billing_write")
CONTAINER_GROUPS = frozenset({"instance_read", "instance_write"})


@dataclass(frozen=True)
class Key:
    """`groups` are the permission groups it has; with `instance` it reaches that one instance only. `name` is fit to be recorded."""

    secret: str
    name: str
    groups: frozenset[str] = frozenset(GROUPS)
    instance: int | None = None


class Keys:
    """All keys. `account` is the one with every permission."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self.account = self._add(Key(secrets.token_hex(32), "account"))

    def scoped(self, permissions: dict[str, Any], name: str = "scoped") -> Key:
        """A key with the groups of `{"api": {GROUP: {}, …}}`."""
        return self._add(Key(secrets.token_hex(32), name, frozenset(permissions.get("api", permissions))))

    def container(self, secret: str, instance: int) -> Key:
        """The key that an instance finds in its own environment."""
        return self._add(Key(secret, f"container {instance}", CONTAINER_GROUPS, instance))

    def revoke(self, secret: str) -> None:
        self._keys.pop(secret, None)

    def get(self, secret: str) -> Key | None:
        return self._keys.get(secret)

    def _add(self, key: Key) -> Key:
        self._keys[key.secret] = key
        return key


def identify(keys: Keys, headers: dict[str, str], bad_key: int) -> Key:
    """The caller; raises Refusal: 403 without a header, `bad_key` (404 or 401) for a key nobody has."""
    header = headers.get("authorization")
    if header is None:
        raise Refusal(error(403, "auth_error", "This action requires login."))
    kind, _, secret = header.partition(" ")
    key = keys.get(secret.strip()) if kind == "Bearer" else None
    if key is None:
        raise Refusal(invalid_key(bad_key))
    return key


def permit(key: Key, group: str, instance: int | None) -> None:
    """Raises Refusal (401) when the key lacks the group, or is bound to another instance than the one in the path."""
    if group not in key.groups:
        raise Refusal(error(401, "auth_error", f"Your key lacks the {group} permission group"))
    if key.instance is not None and key.instance != instance:
        raise Refusal(error(401, "auth_error", "Your key is not authorized for this request due to a constraint on id"))


def invalid_key(status: int) -> Answer:
    return error(status, "auth_error", "Invalid user key")
