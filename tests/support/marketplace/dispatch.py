"""One call from its arrival to its answer: record, limit, login, fault, work, fault."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.support.marketplace.answers import Answer, Call, Refusal, html
from tests.support.marketplace.auth import Key, identify, permit
from tests.support.marketplace.exchanges import Exchange
from tests.support.marketplace.fault_kinds import spoil
from tests.support.marketplace.faults import Fault
from tests.support.marketplace.life import tick
from tests.support.marketplace.market import Market
from tests.support.marketplace.routes import Route, route_of

NOBODY = Key("", "nobody", frozenset())


def handle(market: Market, call: Call) -> Answer:
    """The answer, which is recorded with the call."""
    exchange = _exchange(market, call)
    found = route_of(call.method, call.path)
    if found is None:
        answer = html(404, "Not Found")
    else:
        exchange.route, exchange.params = found[0].name, found[1]
        answer = _routed(market, found[0], replace(call, params=found[1]), exchange)
    _finish(exchange, answer)
    return answer


def _exchange(market: Market, call: Call) -> Exchange:
    raw = call.raw.decode(errors="replace")
    exchange = Exchange(market.clock.now(), call.method, call.path, call.query, call.headers, raw, call.body)
    with market.lock:
        market.exchanges.append(exchange)
    return exchange


def _finish(exchange: Exchange, answer: Answer) -> None:
    exchange.status, exchange.content_type = (0 if answer.dropped else answer.status), answer.content_type
    try:
        exchange.answered = json.loads(answer.body)
    except ValueError:
        exchange.answered = None


def _routed(market: Market, route: Route, call: Call, exchange: Exchange) -> Answer:
    key = market.keys.get(call.headers.get("authorization", "").removeprefix("Bearer ").strip()) or NOBODY
    exchange.identity = key.name
    with market.lock:
        limited = market.limits.check(route.name, f"{key.secret} {call.address}")
    if limited is not None:
        exchange.limited = True
        return limited
    fault = market.faults.take(call)
    if fault is None:
        return _work(market, route, call)
    exchange.fault = fault.kind
    return _faulty(market, route, call, fault)


def _faulty(market: Market, route: Route, call: Call, fault: Fault) -> Answer:
    if fault.kind == "slow":
        return _slow(market, route, call, fault)
    if not fault.after:
        return spoil(fault.kind, None, market, fault.options)
    with market.lock:
        return spoil(fault.kind, _work(market, route, call), market, fault.options)


def _slow(market: Market, route: Route, call: Call, fault: Fault) -> Answer:
    """Before: the work itself comes late, and is done even when nobody waits any more. After: only its answer is late."""
    seconds = float(fault.options.get("seconds", 1.0))
    if not fault.after and market.stopping.wait(seconds):
        return Answer(dropped=True)
    answer = _work(market, route, call)
    return answer.but(delay_s=seconds) if fault.after else answer


def _work(market: Market, route: Route, call: Call) -> Answer:
    with market.lock:
        try:
            _admit(market, route, call)
            tick(market)
            answer = route.handler(market, call)
            tick(market)
        except Refusal as refusal:
            answer = refusal.answer
    return _as_sent(answer)


def _as_sent(answer: Answer) -> Answer:
    """What a fault alters must be as JSON would bring it."""
    data: Any = json.loads(json.dumps(answer.data)) if answer.raw is None else None
    return answer.but(data=data)


def _admit(market: Market, route: Route, call: Call) -> None:
    if route.group:
        key = identify(market.keys, call.headers, market.settings.bad_key)
        permit(key, route.group, int(call.params["id"]) if _names_instance(route, call) else None)


def _names_instance(route: Route, call: Call) -> bool:
    return "id" in call.params and route.name not in ("create", "ssh_key_update", "ssh_key_delete", "job_delete")
