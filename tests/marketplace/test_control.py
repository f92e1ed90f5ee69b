"""Steering the marketplace, from the same process and from another."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.marketplace.conftest import Api
from tests.support.marketplace.clock import Clock
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer

ROOT = Path(__file__).parents[2]


def test_faults_over_http(api):
    rule = {"kind": "server_error", "method": "GET", "path": "users", "options": {"status": 503}}
    assert api.post("/__faults", json=rule).json()["hits"] == 0
    assert api.get("/api/v0/users/current/").status_code == 503
    assert [each["hits"] for each in api.get("/__faults").json()] == [1]
    assert api.delete("/__faults").json() == []
    assert api.get("/api/v0/users/current/").status_code == 200
    assert api.post("/__faults", json={"kind": "nonsense"}).status_code == 400


def test_requests_over_http(server, api):
    api.rent(label="x")
    [call] = api.get("/__requests", params={"route": "create"}).json()
    assert (call["method"], call["body"]["label"], call["status"]) == ("PUT", "x", 200)
    assert server.key not in json.dumps(api.get("/__requests").json())


def test_instances_over_http(api):
    number = api.rent(label="x")
    assert api.post("/__instances", json={"do": "rename", "number": number, "label": None}).status_code == 200
    [row] = api.get("/__instances").json()
    assert (row["id"], row["label"], row["alive"]) == (number, None, True)
    api.post("/__instances", json={"do": "destroy", "number": number})
    assert api.get("/__instances").json()[0]["alive"] is False
    other = api.post("/__instances", json={"do": "rent", "offer": 32493635, "label": "theirs"}).json()["result"]
    assert [each["id"] for each in api.get("/__billing").json()["now"]] == [other]
    assert api.post("/__instances", json={"do": "market"}).status_code == 400


def test_plans_over_http(api):
    assert api.post("/__instances", json={"do": "plan", "args": ["dead_host"]}).status_code == 200
    number = api.rent()
    api.post("/__clock", json={"advance": 30})
    assert api.row(number)["intended_status"] == "stopped"


def test_clock_over_http(api):
    before = api.get("/__clock").json()["now"]
    assert api.post("/__clock", json={"advance": 50, "skew_s": -7}).json() == {
        "now": before + 50,
        "scale": 0,
        "skew_s": -7.0,
    }
    assert api.post("/__clock", json={"scale": 100}).json()["scale"] == 100


def test_settings_over_http(api):
    assert api.post("/__settings", json={"list_lag_s": 5, "credit": 1.5, "limits": True}).json()["list_lag_s"] == 5
    assert api.get("/api/v0/users/current/").json()["credit"] == 1.5
    assert api.post("/__settings", json={"nonsense": 5}).status_code == 400
    api.rent()
    assert api.rows() == []
    assert api.get("/api/v1/instances/").status_code == 429


def test_reset(server, api, control):
    api.rent()
    control.fault("server_error")
    api.post("/__reset")
    assert control.billing_now() == control.instances() == control.requests() == []
    assert api.get("/api/v0/users/current/").json()["credit"] == 25.0


def test_others_on_the_account(api, control):
    number = control.rent(32493628, label="somebody's")
    assert api.rows()[0]["label"] == "somebody's"
    control.do(number, "dearer")
    assert api.get("/api/v0/instances/pending-price-increases/").json()["pending_price_increases"]


def test_the_server_away_for_a_while_keeps_everything(server, api):
    number = api.rent()
    url = server.url
    server.pause()
    with (
        pytest.raises(OSError, match="refused"),
        __import__("socket").create_connection(("127.0.0.1", int(url[-5:].strip(":"))), 2),
    ):
        pass
    server.start()
    assert server.url == url
    assert api.row(number)["id"] == number


def test_time_that_runs_fast():
    with MarketServer(Market(clock=Clock(scale=200), limits=False)) as server, Api(server) as api:
        number, deadline = api.rent(), time.monotonic() + 20
        while api.row(number)["actual_status"] != "running":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_process_of_its_own():
    command = [sys.executable, "-m", "tests.support.marketplace", "--pace", "0.01", "--no-limits"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin:
        told = json.loads(process.stdout.readline())
        answer = subprocess.run(
            ["curl", "-sf", "-H", f"Authorization: Bearer {told['key']}", f"{told['url']}/api/v0/users/current/"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert json.loads(answer.stdout)["credit"] == 25.0
        process.stdin.close()
        assert process.wait(20) == 0
