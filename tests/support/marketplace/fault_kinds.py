"""How a call can go wrong (vast facts §5 "Faults" and §6.1).

`INSTEAD` are answers in the place of the real one, before or after the call was carried out. `CHANGES` alter the real answer, or what was
done, after the call was carried out. The options of each are its function's keyword arguments. `slow` is the server's own (`seconds`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.marketplace.answers import HTML, TEXT, Answer, error, html
from tests.support.marketplace.limits import quota_exceeded, too_frequent

if TYPE_CHECKING:
    from tests.support.marketplace.market import Market

PAGE = b"<!doctype html><html><head><title>Vast.ai</title></head><body><div id='root'></div></body></html>"


def rate_limited(
    _: Answer | None, shape: str = "detail", retry_after: float | None = None, threshold: float = 4.5, now: float = 0.0
) -> Answer:
    """429; `shape` is `text`, `detail`, `error` or `quota`."""
    return quota_exceeded(now) if shape == "quota" else too_frequent(threshold, shape, retry_after)


def server_error(_: Answer | None, status: int = 500, shape: str = "html") -> Answer:
    """500, 502, 503 or 504, as a gateway's page, as text or as JSON."""
    titles = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Time-out"}
    if shape == "json":
        return error(status, "server_error", titles[status])
    return (
        html(status, titles[status])
        if shape == "html"
        else Answer(status, raw=titles[status].encode(), content_type=TEXT)
    )


def auth(_: Answer | None, status: int = 404) -> Answer:
    """The key is not known (404 or 401), lacks a permission (`status=1401`), or no login (403)."""
    if status == 403:
        return error(403, "auth_error", "This action requires login.")
    if status == 1401:
        return error(401, "auth_error", "Your key lacks the instance_write permission group")
    return error(status, "auth_error", "Invalid user key")


def dropped(_: Answer | None) -> Answer:
    """The connection is closed without an answer."""
    return Answer(dropped=True)


def truncated(answer: Answer | None, announced: bool = False) -> Answer:
    """The first half of the body; `announced` promises the rest and closes the connection."""
    body = (answer or Answer(data={"success": True, "offers": [], "instances": []})).body
    half = body[: max(1, len(body) // 2)]
    return Answer(answer.status if answer else 200, raw=half, missing_bytes=len(body) - len(half) if announced else 0)


def html_200(_: Answer | None) -> Answer:
    """The console's own page, as behind a wrong redirect."""
    return Answer(200, raw=PAGE, content_type=HTML)


def empty_200(_: Answer | None) -> Answer:
    return Answer(200, raw=b"")


def redirect(_: Answer | None, to: str = "/") -> Answer:
    return Answer(302, raw=b"", headers={"Location": to})


def unsuccessful(_: Answer | None, code: str = "error", msg: str = "Something went wrong.") -> Answer:
    """200, and yet it says that it did not work."""
    return Answer(200, {"success": False, "error": code, "msg": msg})


def pretend(_: Answer | None) -> Answer:
    """Says that it worked; before the call is carried out, that is a lie."""
    return Answer(200, {"success": True})


def refuse(_: Answer | None, code: str = "no_such_ask", status: int = 0, msg: str = "") -> Answer:
    """One of the refusals a create can meet (vast facts §1.5), by its code."""
    usual = {
        "no_such_ask": (410, "error 410/3907: no_such_ask Instance type is no longer available."),
        "invalid_args": (404, "error 404/3603: no_such_ask Instance type is not available."),
        "insufficient_credit": (400, "Your account lacks credit; see the billing page."),
        "spend_rate_limit": (400, "Your account is limited in what it may spend per hour."),
        "server_error": (400, "error 400/3500: server_error could not inspect the image"),
        "no_such_instance": (404, "Instance not found."),
        "resources_unavailable": (200, "Required resources are currently unavailable, state change queued."),
    }
    usual_status, usual_msg = usual.get(code, (400, code))
    return error(status or usual_status, code, msg or usual_msg)


def no_instance(_: Answer | None) -> Answer:
    """The read of one instance that is there says that it is not."""
    return Answer(200, {"instances": None})


def empty_list(_: Answer | None) -> Answer:
    """A clean answer without any instance, as when the list lags far behind."""
    fields = {"instances_found": 0, "total_instances": 0, "label_counts": {}, "next_token": None, "instances": []}
    return Answer(200, {"success": True, **fields})


def no_id(answer: Answer, _: Market) -> Answer:
    """success, without the id of what was created."""
    return answer.but(data={key: value for key, value in answer.data.items() if key != "new_contract"})


def id_as_text(answer: Answer, _: Market) -> Answer:
    return answer.but(data=answer.data | {"new_contract": str(answer.data.get("new_contract"))})


def refused_with_contract(answer: Answer, market: Market, status: int = 400, code: str = "invalid_price") -> Answer:
    """An error that carries the id of what was created all the same; `status=200` says success false."""
    number = answer.data.get("new_contract")
    if "new_contract" in answer.data and status != 200:
        market.stop_quietly(number)
    return error(status, code, f"error {status}/3470: the instance could not be started", new_contract=number)


def label_lost(answer: Answer, market: Market, label: str | None = None) -> Answer:
    """What was just created has another label, or none (a rename in the console)."""
    market.instances[answer.data["new_contract"]].label = label
    return answer


def fields_set(answer: Answer, _: Market, **fields: Any) -> Answer:
    """These fields of every instance in the answer have these values (`start_date=None`, `extra_env=None` or `{}`)."""
    data = json.loads(answer.body)
    rows = data.get("instances")
    for row in rows if isinstance(rows, list) else [rows]:
        row |= fields
    return answer.but(data=data)


def duplicated(answer: Answer, market: Market) -> Answer:
    """Rows come twice: in the page, and again in the next one."""
    data = json.loads(answer.body)
    last = market.texts.get("last row of a page", [])
    market.texts["last row of a page"] = data["instances"][-1:]
    data["instances"] = [*last, *data["instances"], *data["instances"][:1]]
    return answer.but(data=data | {"instances_found": len(data["instances"])})


def pages_lost(answer: Answer, _: Market) -> Answer:
    """The first page says that it is the last."""
    return answer.but(data=answer.data | {"next_token": None})


def rows_lost(answer: Answer, _: Market, every: int = 2) -> Answer:
    """Every second row is missing, and nothing says so."""
    return answer.but(data=answer.data | {"instances": answer.data["instances"][::every]})


INSTEAD: dict[str, Callable[..., Answer]] = {
    each.__name__: each
    for each in (
        rate_limited,
        server_error,
        auth,
        dropped,
        truncated,
        html_200,
        empty_200,
        redirect,
        unsuccessful,
        pretend,
        refuse,
        no_instance,
        empty_list,
    )
}
CHANGES: dict[str, Callable[..., Answer]] = {
    each.__name__: each
    for each in (
        no_id,
        id_as_text,
        refused_with_contract,
        label_lost,
        fields_set,
        duplicated,
        pages_lost,
        rows_lost,
    )
}


def spoil(kind: str, answer: Answer | None, market: Market, options: dict[str, Any]) -> Answer:
    """The answer that is sent in the place of `answer`, which is None while the call has not been carried out."""
    if kind in CHANGES:
        if answer is None or answer.status != 200 or not isinstance(answer.data, dict):
            return answer or Answer()
        return CHANGES[kind](answer, market, **options)
    more = {"now": market.clock.now()} if kind == "rate_limited" else {}
    return INSTEAD[kind](answer, **options, **more)
