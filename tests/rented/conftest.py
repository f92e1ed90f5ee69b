"""A marketplace on loopback or in memory, an installation of its own, its ledger, and a desk that waits for milliseconds."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.fleet.installation import installation_id
from llmhost.fleet.rented.clock import Clock
from llmhost.fleet.rented.ending import end, end_orphans
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.transaction import Deal, RentDesk, rent
from llmhost.providers.market import Order
from llmhost.providers.vast.market import open_market
from tests.rented.memory_market import MemoryMarket, offer
from tests.support.installation import installation
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer
from tests.support.told import Told

PACE = 0.01
QUICK = RentTiming(settle_s=0.1, settle_answers=3, poll_s=0.02, verify_s=20.0, pace=0.0, write_timeout_s=0.2)
# Of a desk whose machines do not end: nothing is gained by waiting long for that.
BRIEF = replace(QUICK, verify_s=0.3)
# The same for settings, against the server on loopback.
QUICK_SETTINGS = {
    "provider": "vast",
    "vast_pace": PACE,
    "vast_settle_s": 0.3,
    "vast_poll_s": 0.05,
    "vast_verify_s": 20.0,
    "vast_read_timeout_s": 5.0,
    "vast_write_timeout_s": 5.0,
}


@pytest.fixture
def market_server():
    """vast.ai's stand-in: a hundred times as fast as the real one, its rate limits on, machines without sshd."""
    market = Market(pace=PACE)
    market.limits.factor = PACE
    with MarketServer(market) as server:
        yield server
    assert market.trouble == []


@pytest.fixture
def home():
    """A fresh installation of llmhost (tests.support.installation.Installation), its folders made."""
    with installation() as made:
        made.paths.create()
        yield made


@pytest.fixture
def ledger(home):
    with Ledger.open(home.paths.ledger_file) as ledger:
        yield ledger


@pytest.fixture
def vast_settings(home, market_server):
    """As an installation would load them that rents at `market_server`."""
    home.environ |= {"VAST_URL": market_server.url, "VAST_API_KEY": market_server.key}
    return home.settings(**QUICK_SETTINGS)


@pytest.fixture
def vast_desk(home, ledger, vast_settings):
    """A desk at `market_server`, through the real provider."""
    market = open_market(vast_settings, home.environ)
    return RentDesk(market, ledger, installation_id(home.paths), RentTiming.of(vast_settings), Told())


@pytest.fixture
def memory():
    return MemoryMarket()


@pytest.fixture
def desk(home, ledger, memory):
    """A desk at the market in memory."""
    return RentDesk(memory, ledger, installation_id(home.paths), QUICK, Told())


class Later(Clock):
    """The time of day in some seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def now(self):
        return super().now() + timedelta(seconds=self.seconds)


def later(desk, seconds):
    """The desk, so many seconds later."""
    return replace(desk, clock=Later(seconds))


def a_deal(number=1, node_uuid=None, given=None, fleet="default"):
    """One offer of the market in memory, or the given one, for one node."""
    order = Order("", "vastai/base-image:cuda-12.8", 60.0, "#!/bin/sh\n", {"MODE": "test"})
    return Deal(given or offer(number), order, fleet, "n1", node_uuid or uuid.uuid4().hex[:12], 1, {"disk_gb": 60.0})


def try_rent(deal, desk):
    """The rental, or the error."""
    try:
        return rent(deal, desk)
    except LlmhostError as error:
        return error


def known(desk, instances):
    """Which of these instances the ledger knows as open: by id, or by the label of an attempt that may have made more than one."""
    rows = desk.ledger.rentals.all(open_only=True)
    ids = {row.instance_id for row in rows}
    labels = {row.label for row in rows}
    return {each.id for each in instances if each.id in ids or {each.label, each.claim} & labels}


def end_everything(desk):
    """What `down --all` and `gc` do together: reconcile, end what is open and what is an orphan."""
    found = reconcile(desk)
    ended = end(desk.ledger.rentals.all(open_only=True), desk, "the test is over")
    ended += end_orphans([orphan.instance for orphan in found.orphans], desk)
    assert [each.error for each in ended] == [None] * len(ended)
    assert all(each.verified for each in ended)
    assert desk.ledger.rentals.all(open_only=True) == []
    return ended
