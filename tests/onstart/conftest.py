"""Rented machines."""

from __future__ import annotations

import pytest

from llmhost.ssh.identity import Identity
from llmhost.ssh.pins import Pins
from llmhost.ssh.session import Session
from tests.onstart.box import Box
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer
from tests.support.sshd import make_key


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Bundles are made once a worker."""
    return tmp_path_factory.mktemp("bundles")


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


@pytest.fixture
def log_in(short_tmp):
    """Opens sessions to a box."""
    sessions = []

    def make(box):
        key = make_key(short_tmp / f"key{len(sessions)}")
        box.machine.authorize([key.with_suffix(".pub").read_text()])
        pins = Pins(short_tmp / "pins")
        sessions.append(Session.connect(box.machine.sshd.target, Identity(key, False), pins, "llmhost-box"))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()
