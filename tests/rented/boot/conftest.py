from __future__ import annotations

import pytest

from tests.rented.boot.shop import Shop
from tests.support.installation import installation
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer


@pytest.fixture
def place():
    with installation() as made:
        yield made


@pytest.fixture
def paper(place):
    """A shop whose machines cannot be logged in to."""
    with MarketServer(Market(limits=False, pace=0.02, log_refusals=0)) as server:
        shop = Shop(server, place)
        yield shop
        shop.close()
    assert server.market.trouble == []


@pytest.fixture
def shop(place, short_tmp):
    """A shop with a real sshd behind every instance."""
    market = Market(machines=sandboxes(short_tmp / "m"), limits=False, pace=0.01, log_refusals=0)
    with MarketServer(market) as server:
        shop = Shop(server, place)
        shop.ready_key()
        yield shop
        shop.close()
    assert market.trouble == []
