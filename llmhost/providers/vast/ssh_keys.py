"""Public keys: those of the account, which machines rented from now on accept, and those of one machine (vast facts §7)."""

from __future__ import annotations

from typing import Any

from llmhost.providers.vast import failures
from llmhost.providers.vast.api import Api


def register(api: Api, public_key: str) -> None:
    """Raises AuthenticationNeeded (`no_permission`: listing takes user_read, adding user_write) or Unavailable."""
    if same(public_key) not in {same(each) for each in listed(api.read("ssh_keys", "GET", "/ssh/"))}:
        _add(api, "ssh_keys", "/ssh/", public_key)


def attach(api: Api, instance_id: int, public_key: str) -> None:
    """Raises AuthenticationNeeded or Unavailable."""
    _add(api, "attach", f"/instances/{instance_id}/ssh/", public_key)


def listed(data: Any) -> list[str]:
    """The keys of an answer: a bare list, or one in an object; the text is under `key` or `public_key` (vast facts §5)."""
    entries = data.get("ssh_keys") or data.get("keys") if isinstance(data, dict) else data
    named = [each.get("key") or each.get("public_key") for each in entries or [] if isinstance(each, dict)]
    return [each for each in named if isinstance(each, str)]


def same(public_key: str) -> tuple[str, ...]:
    """What makes two written keys the same one: type and key, not the comment."""
    return tuple(public_key.split()[:2])


def _add(api: Api, endpoint: str, path: str, public_key: str) -> None:
    answer = api.insist(endpoint, "POST", path, {"ssh_key": public_key.strip()})
    trouble = api.trouble(answer)
    if trouble is not None and "already" not in failures.said(answer.fields).lower():
        raise trouble
