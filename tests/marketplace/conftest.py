"""A marketplace per test, with a clock that the test moves."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx
import pytest

from tests.marketplace.description import Description
from tests.support.marketplace.clock import Clock
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer

START = 1_795_245_139.0
VARIABLE = "LLMHOST_VAST_OPENAPI"
# The vendor's texts are no part of the project: who has them names their folder.
DESCRIPTION = Description.load(Path(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else None
collect_ignore = [] if DESCRIPTION else ["test_description.py"]


class Api(httpx.Client):
    """Calls as the account, or as whoever has `key`."""

    def __init__(self, server: MarketServer, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {server.key if key is None else key}"}
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the usual one takes a while to load, and there is no TLS here
        super().__init__(base_url=server.url, headers=headers if key != "" else {}, timeout=20, verify=plain)
        self.server = server

    def offers(self, **wish):
        return self.post("/api/v0/bundles/", json=wish).json()["offers"]

    def rent(self, offer=None, **wish):
        """The id of a new instance."""
        offer = offer or next(each.id for each in self.server.market.offers if each.rentable)
        body = {
            "client_id": "me",
            "image": "vastai/base-image:cuda-12.8",
            "disk": 60.0,
            "runtype": "ssh_direc ssh_proxy",
        }
        answer = self.put(f"/api/v0/asks/{offer}/", json=body | wish)
        assert answer.status_code == 200, answer.text
        return answer.json()["new_contract"]

    def row(self, number):
        return self.get(f"/api/v0/instances/{number}/", params={"owner": "me"}).json()["instances"]

    def rows(self, **query):
        return self.get("/api/v1/instances/", params=query).json()["instances"]


def unexplained(market):
    """Where calls of this test differ from the vendor's description without being known to."""
    if DESCRIPTION is None:
        return []
    return [text for exchange in market.exchanges if not exchange.fault for text in DESCRIPTION.unexplained(exchange)]


@pytest.fixture
def server():
    """Without rate limits and machines; its time stands still."""
    market = Market(clock=Clock(START, scale=0), limits=False)
    with MarketServer(market) as server:
        yield server
    assert market.trouble == []
    assert unexplained(market) == []


@pytest.fixture
def control(server):
    return server.control


@pytest.fixture
def api(server):
    with Api(server) as api:
        yield api


@pytest.fixture
def vendor_folder():
    """Where the vendor's description lies."""
    return Path(os.environ[VARIABLE])
