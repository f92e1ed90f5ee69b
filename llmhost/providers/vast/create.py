"""What is sent to rent an offer, and what the answer means. Pure, but for the vendor's builder of the body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.providers.market import Order, RefusalReason, Refused, Rented, RentOutcome, Unknown
from llmhost.providers.vast import failures
from llmhost.providers.vast.answer import Answer
from llmhost.providers.vast.client import load
from llmhost.providers.vast.rows import CLAIM
from llmhost.providers.vast.values import whole

# A longer one is taken, and the instance never starts (vast facts §0.7).
LONGEST_ONSTART_BYTES = 4_000
# Shorter ones would be found in any text.
SHORTEST_SECRET = 6
# By a word of `error` or `msg`, the first that fits (vast facts §1.5 "Create answers").
_REASONS: tuple[tuple[str, RefusalReason], ...] = (
    ("no_such_ask", "offer_gone"),
    ("resources_unavailable", "offer_gone"),
    ("insufficient_credit", "insufficient_credit"),
    ("lacks credit", "insufficient_credit"),
    ("spend_rate_limit", "spend_limit"),
    ("rate_limit_exceeded", "rate_limited"),
    ("too frequent", "rate_limited"),
    ("server_error", "server"),
)
_BY_STATUS: dict[int, RefusalReason] = {402: "insufficient_credit", 410: "offer_gone"}


def payload(order: Order, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """The body of the create, as the vendor's client sends it for sshd reached directly or through the proxy.

    Raises LlmhostError: `secret_in_order` when one of `secrets` occurs in it, which the market and the host could read (vast facts §4.6);
    `onstart_too_long`.
    """
    if len(order.onstart.encode()) > LONGEST_ONSTART_BYTES:
        raise LlmhostError(
            f"the start script has {len(order.onstart.encode())} bytes, and vast.ai starts none above {LONGEST_ONSTART_BYTES}.",
            hint="Shorten what was put into it (ollama.install?).",
            code="onstart_too_long",
        )
    body: dict[str, Any] = load().build_payload(
        image=order.image,
        disk=order.disk_gb,
        env={**order.env, CLAIM: order.label},
        label=order.label,
        onstart_cmd=order.onstart,
        cancel_unavail=True,
        ssh=True,
        direct=True,
    )
    body["target_state"] = "running"
    _refuse_secrets(body, secrets)
    return body


def outcome(status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str] = ()) -> RentOutcome:
    """What an answer to a create means. `headers` by lower-case name.

    Rented and Refused need the market's own words, as a JSON object; whatever else comes, something may have been rented.
    """
    answer = Answer(status, headers, body)
    data = answer.fields
    if data is None or not (200 <= status < 300 or 400 <= status < 500):
        return _without_words(answer, data, secrets)
    made = instance_id(data)
    if 200 <= status < 300 and data.get("success") is not False:
        if made is not None:
            return Rented(made)
        return Unknown(f"vast.ai answered {status} without the id of what it rented")
    if status == 408 and made is None:
        return Unknown("vast.ai gave up waiting for the request")
    return _refused(answer, data, made, secrets)


def instance_id(data: Mapping[str, Any]) -> int | None:
    """`new_contract`, in a success as in an error."""
    made = whole(data.get("new_contract"))
    return made if made is not None and made > 0 else None


def _without_words(answer: Answer, data: dict[str, Any] | None, secrets: Iterable[str]) -> RentOutcome:
    if data is not None and (made := instance_id(data)) is not None:
        return _refused(answer, data, made, secrets)
    if answer.status == 429:
        return Refused("rate_limited", "vast.ai says that it is asked too often", answer.retry_after_s)
    if 300 <= answer.status < 400:
        return Unknown(f"vast.ai answered {answer.status}: it sent the request somewhere else")
    if answer.status >= 500:
        return Unknown(f"vast.ai answered {answer.status}")
    return Unknown(f"vast.ai answered {answer.status} with something that cannot be understood")


def _refused(answer: Answer, data: dict[str, Any], made: int | None, secrets: Iterable[str]) -> RentOutcome:
    reason = _reason(answer.status, data)
    words = failures.said(data, secrets)
    if reason is None and made is None:
        return Unknown(f"vast.ai answered {answer.status} without saying why")
    message = f"vast.ai answered {answer.status}" + (f": {words}" if words else "")
    wait = answer.retry_after_s if reason == "rate_limited" else None
    return Refused(reason or "server", message, wait, made)


def _reason(status: int, data: dict[str, Any]) -> RefusalReason | None:
    """None when the answer has neither a word nor a status that says it."""
    login = failures.login_trouble(status, data)
    if login is not None:
        return "permission" if login.code == "no_permission" else "auth"
    if status == 429:
        return "rate_limited"
    said = f"{data.get('error')} {data.get('msg')} {data.get('detail')}".lower()
    for word, reason in _REASONS:
        if word in said:
            return reason
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500 or status < 300:
        return "server"
    return "invalid_request" if failures.said(data) else None


def _refuse_secrets(body: dict[str, Any], secrets: Iterable[str]) -> None:
    wanted = [each for each in secrets if each and len(each) >= SHORTEST_SECRET]
    for name, value in body.items():
        if any(secret in text for text in _texts(value) for secret in wanted):
            raise LlmhostError(
                f"nothing was rented: a secret of this installation is in the order ({name}).",
                hint="Take it out of the settings it came from; vast.ai and the machine's owner could read it.",
                code="secret_in_order",
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)
