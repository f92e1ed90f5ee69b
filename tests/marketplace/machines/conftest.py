"""Instances with a real sshd and a real onstart behind them."""

from __future__ import annotations

import pytest

from tests.marketplace.conftest import unexplained
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer
from tests.support.sshd import make_key
from tests.support.system import wait_until

ONSTART = """
echo "start of $CONTAINER_ID on $PUBLIC_IPADDR:$VAST_TCP_PORT_22 wish=$WISH"
echo "LLMHOST-HOSTKEY $(cat "$LLMHOST_ROOT/etc/ssh/ssh_host_ed25519_key.pub")"
echo again >>"$HOME/starts"
(setsid sleep 600 &)
"""


@pytest.fixture
def server(short_tmp):
    """Every instance is up in a fraction of a second."""
    machines = sandboxes(
        short_tmp / "m", environment={"FROM_TEST": "1"}, programs={"hello": "#!/bin/sh\necho fake $1\n"}
    )
    market = Market(machines=machines, limits=False, pace=0.005)
    with MarketServer(market) as server:
        yield server
    assert market.trouble == []
    assert not list((short_tmp / "m").glob("*"))
    assert unexplained(market) == []


@pytest.fixture
def key(short_tmp, api):
    """A private key whose public half the account has."""
    key = make_key(short_tmp / "key")
    api.post("/api/v0/ssh/", json={"ssh_key": key.with_suffix(".pub").read_text()})
    return key


@pytest.fixture
def running(api, key):
    """Rents and waits until there are ports."""

    def rent(**wish):
        number = api.rent(onstart=ONSTART, env={"WISH": "yes"}, **wish)
        row = wait_until(lambda: (row := api.row(number))["ports"] and row, "the instance to run", 30)
        assert row["actual_status"] == "running"
        return number, row

    return rent
