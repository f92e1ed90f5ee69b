"""Rented machines."""

from __future__ import annotations

import pytest

from tests.onstart.box import Box
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer


@pytest.fixture
def open_market(short_tmp):
    """A marketplace whose machines come up in a fraction of a second; `options` are those of `sandboxes`."""
    opened = []

    def make(**options):
        market = Market(machines=sandboxes(short_tmp / "m", **options), limits=False, pace=0.005)
        opened.append(MarketServer(market).start())
        return opened[-1]

    yield make
    for server in opened:
        server.stop()
        assert server.market.trouble == []


@pytest.fixture
def market(open_market):
    return open_market()


@pytest.fixture
def rent(market):
    """Rents a machine; the arguments are fields of BootScript."""
    return lambda **changes: Box.of(market, **changes)
