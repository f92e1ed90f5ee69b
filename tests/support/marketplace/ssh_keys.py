"""Public keys of the account, and those attached to one instance."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.support.marketplace.answers import Answer, Call, Refusal, error, ok
from tests.support.marketplace.commands import find
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.market import Market


def ssh_keys(market: Market, call: Call) -> Answer:
    """A bare list; the key is under `key` here."""
    return Answer(data=[_shown(each) for each in market.account.ssh_keys.values()])


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    return {("key" if name == "public_key" else name): value for name, value in entry.items()}


def create_ssh_key(market: Market, call: Call) -> Answer:
    """For instances created from now on (vast facts §7)."""
    number = market.next_number()
    market.account.ssh_keys[number] = _entry(market, number, _public_key(call))
    return ok(key=market.account.ssh_keys[number])


def _entry(market: Market, number: int, key: str) -> dict[str, Any]:
    made = datetime.fromtimestamp(market.clock.told(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"id": number, "user_id": market.account.id, "public_key": key, "created_at": made, "deleted_at": None}


def _public_key(call: Call) -> str:
    key = call.fields.get("ssh_key")
    if not isinstance(key, str) or not key.strip():
        raise Refusal(error(400, "no_ssh_key", "No ssh key provided"))
    return key.replace("\0", "").strip()


def update_ssh_key(market: Market, call: Call) -> Answer:
    entry = market.account.ssh_keys.get(call.number)
    if entry is None:
        raise Refusal(error(404, "not_found", "SSH key not found"))
    entry["public_key"] = _public_key(call)
    return ok(key=entry)


def delete_ssh_key(market: Market, call: Call) -> Answer:
    if market.account.ssh_keys.pop(call.number, None) is None:
        raise Refusal(error(404, "not_found", "SSH key not found"))
    return ok()


def attach(market: Market, call: Call) -> Answer:
    """Let a key into an instance that exists."""
    instance, key = find(market, call.number), _public_key(call)
    if key not in instance.keys:
        instance.keys.append(key)
        _authorize(market, instance)
    return ok(msg="SSH key attached successfully")


def attached(market: Market, call: Call) -> Answer:
    """The list is a string of JSON inside the JSON."""
    keys = find(market, call.number).keys
    return ok(ssh_keys=json.dumps([{"id": place, "public_key": key} for place, key in enumerate(keys, 1)]))


def detach(market: Market, call: Call) -> Answer:
    instance, place = find(market, call.number), int(call.params["key"]) - 1
    if not 0 <= place < len(instance.keys):
        raise Refusal(error(404, "not_found", "SSH key not found"))
    del instance.keys[place]
    _authorize(market, instance)
    return ok()


def _authorize(market: Market, instance: Instance) -> None:
    """At once without a lag; with one, when the lag is over (the market sees to that)."""
    instance.authorized_at = market.clock.now()
    if instance.up and not market.settings.key_lag_s:
        instance.machine.authorize(list(instance.keys))
