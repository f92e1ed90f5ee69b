"""The metrics, and the dashboard that is built on them."""

from __future__ import annotations

import json
import re

from llmhost.core.templates import template
from tests.proxy.asking import fresh, send, stream
from tests.support.proxy_server import ProxyServer


def exported(server: ProxyServer) -> dict[str, float]:
    lines = server.client.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_every_metric_of_the_dashboard_is_exported(gateway: ProxyServer) -> None:
    body = fresh()
    for _ in range(2):
        stream(gateway.client, body)
    names = {name.split("{")[0] for name in exported(gateway)}
    dashboard = json.loads(template("grafana-dashboard.json"))
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"llmhost_\w+", target["expr"])
    }
    assert asked
    assert asked <= names


def test_figures_follow_what_happened(gateway: ProxyServer) -> None:
    hits = 'llmhost_cache_lookups_total{cache="exact",reason="",result="hit"}'
    before = exported(gateway).get(hits, 0)
    body = fresh()
    for _ in range(3):
        send(gateway.client, body)
    after = exported(gateway)
    assert after[hits] - before == 2
    assert after['llmhost_tokens_total{model="rehearsal",type="output"}'] > 0
    assert after['llmhost_backend_up{node="n1"}'] == 1


def test_labels_never_carry_what_a_client_sent(gateway: ProxyServer) -> None:
    send(gateway.client, fresh(model="claude-made-up-by-a-client"))
    assert "made-up" not in gateway.client.get("/metrics").text


def test_the_pace_of_answers_is_known(gateway: ProxyServer) -> None:
    stream(gateway.client, fresh("@rehearse words 40; pace 10"))
    assert 20 < gateway.status()["requests"]["tokens_per_second"] < 200
