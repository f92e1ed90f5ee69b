"""The marketplace without machines, a hundred times as fast, its rate limits on; and the real VastMarket on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmhost.core.settings import Settings
from llmhost.providers.market import OfferWish, Order
from llmhost.providers.vast.market import open_market
from tests.marketplace.description import Description
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer
from tests.support.system import wait_until

PACE = 0.01
VARIABLE = "LLMHOST_VAST_OPENAPI"
# The vendor's texts are no part of the project: who has them names their folder, and every call is held against them.
DESCRIPTION = Description.load(Path(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else None


@pytest.fixture
def server():
    market = Market(pace=PACE)
    market.limits.factor = PACE
    with MarketServer(market) as server:
        yield server
    assert market.trouble == []
    if DESCRIPTION is not None:
        assert [text for each in market.exchanges if not each.fault for text in DESCRIPTION.unexplained(each)] == []


@pytest.fixture
def control(server):
    return server.control


@pytest.fixture
def state(tmp_path_factory):
    """Where its processes remember what they asked."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def opened(server, state):
    """A function: the VastMarket under further settings, `elsewhere` with a memory of its own."""

    def opened(elsewhere=None, **settings):
        usual = {"vast_api_key": server.key, "vast_url": server.url, "vast_pace": PACE, "vast_read_timeout_s": 10}
        return open_market(Settings(**usual | settings), {"XDG_STATE_HOME": str(elsewhere or state)})

    return opened


@pytest.fixture
def market(opened):
    return opened()


@pytest.fixture
def wish():
    return OfferWish(("RTX 4090",), disk_gb=60.0, hours=3.0)


@pytest.fixture
def order():
    return Order("llmhost/1/0123/default/abcdef012345/1", "vastai/base-image:cuda-12.8", 60.0, "echo hello", {"A": "1"})


@pytest.fixture
def settled():
    return lambda condition: wait_until(condition, "the market to settle", 30)
