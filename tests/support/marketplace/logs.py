"""Logs and commands: the answer names an address where the text appears a little later, without a login (vast facts §1.5)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tests.support.marketplace.answers import TEXT, Answer, Call, Refusal, error, ok
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.market import Market

COMMANDS = ("ls", "rm", "du")
COMMAND_LENGTH = 512
DENIED = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)


@dataclass
class Text:
    """`refusals` more reads say 403 before the text is there."""

    text: str
    refusals: int


def request_logs(market: Market, call: Call) -> Answer:
    """`PUT /instances/request_logs/{id}`: the container's output, or the daemon's log; `tail` and `filter` as grep would."""
    instance, wish = _instance(market, call), call.fields
    daemon = str(wish.get("daemon_logs") or "").lower() == "true"
    text = "".join(f"{line}\n" for line in instance.daemon_log) if daemon else instance.machine.output()
    lines = [line for line in text.splitlines() if str(wish.get("filter") or "") in line]
    tail = str(wish.get("tail") or "1000")
    shown = lines[-int(tail) :] if tail.isdigit() and int(tail) else lines
    url = _published(market, instance, "".join(f"{line}\n" for line in shown))
    return ok(
        **{market.settings.log_url_name: url, "msg": "Log is being uploaded, wait a few seconds and then fetch it."}
    )


def _instance(market: Market, call: Call) -> Instance:
    instance = market.instances.get(call.number)
    if instance is None or not instance.alive:
        raise Refusal(Answer(404, {"error": "invalid_id", "msg": "Invalid instance id."}))
    return instance


def execute(market: Market, call: Call) -> Answer:
    """`PUT /instances/command/{id}/`: three harmless commands."""
    command = str(call.fields.get("command") or "")
    instance = market.instances.get(call.number)
    if instance is None or not instance.alive:
        raise Refusal(error(400, "invalid_container_id", "Invalid container id."))
    if not command or len(command) > COMMAND_LENGTH or command.split()[0] not in COMMANDS:
        raise Refusal(error(400, "invalid_args", "Invalid command given."))
    url = _published(market, instance, instance.machine.run(command))
    msg = "Command is executing, wait a few seconds and then view the result_url"
    return ok(writeable_path="/root", result_url=url, msg=msg)


def _published(market: Market, instance: Instance, text: str) -> str:
    name = hashlib.sha256(f"{instance.id} {market.next_number()}".encode()).hexdigest()
    refusals = market.settings.log_refusals if market.settings.logs_ready else 1_000_000
    market.texts[name] = [Text(text, refusals)]
    return f"{market.url}/s3/{name}.log"


def fetch(market: Market, call: Call) -> Answer:
    """`GET /s3/….log`: 403 until it is there."""
    found = market.texts.get(call.params["name"])
    if not found:
        return Answer(403, raw=DENIED, content_type="application/xml")
    if found[0].refusals > 0:
        found[0].refusals -= 1
        return Answer(403, raw=DENIED, content_type="application/xml")
    return Answer(raw=found[0].text.encode(), content_type=TEXT)
