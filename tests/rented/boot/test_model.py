"""The model of a rented node: it comes, it stands still, it does not exist."""

from __future__ import annotations

import re

import pytest

from llmhost.fleet.rented.boot import BootFailed
from llmhost.fleet.rented.node import become_node
from llmhost.providers.base import BackendChoice
from tests.rented.boot.pulling_ollama import script
from tests.rented.boot.shop import Shop
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer
from tests.support.system import wait_until
from tests.support.told import Told


@pytest.fixture
def shop(place, short_tmp):
    """Its machines have an Ollama on PATH."""
    market = Market(
        machines=sandboxes(short_tmp / "m", programs={"ollama": script()}), limits=False, pace=0.01, log_refusals=0
    )
    with MarketServer(market) as server:
        shop = Shop(server, place)
        shop.ready_key()
        yield shop
        shop.close()
    assert market.trouble == []


class Kept(Told):
    """Remembers what the ledger said meanwhile."""

    def __init__(self, shop, rental):
        super().__init__()
        self.shop, self.rental, self.details = shop, rental, []

    def transfer(self, code, text, done, total):
        super().transfer(code, text, done, total)
        kept = self.shop.kept(self.rental)
        self.details.append((kept.phase, kept.detail))


def becomes(shop, booted, model, **more):
    choice = BackendChoice("ollama", "asked for by name", model, 16_384, missing=True)
    return become_node(booted, choice, shop.desk, shop.told, **more)


def test_it_comes_and_is_told_in_percent(shop):
    booted = shop.boot(shop.rent())
    shop.told = Kept(shop, booted.rental)
    environment = {"OLLAMA_MAX_LOADED_MODELS": "2"}
    node = becomes(shop, booted, "moves:1b", needs_vram_mb=23_000, ollama_env=environment)
    assert (node.backend, node.model, node.context) == ("ollama", "moves:1b", 16_384)
    assert list(dict.fromkeys(shop.told.phases)) == ["check", "bundle", "ollama", "pull", "start", "ready"]
    told = [detail for phase, detail in shop.told.details if phase == "model"]
    assert any(re.fullmatch(r"pulling moves:1b \d+ %", detail) for detail in told)
    assert shop.note(booted.rental).down_mbps > 0
    assert shop.kept(booted.rental).phase == "proxy"
    machine = shop.control.instance(booted.instance.id).machine
    [pid] = [pid for pid, argv in machine.processes().items() if "pulling_ollama serve" in argv]
    with open(f"/proc/{pid}/environ", "rb") as file:
        assert b"OLLAMA_MAX_LOADED_MODELS=2" in file.read()


def test_one_that_stands_still_is_given_up(shop):
    shop.use(vast_pull_stall_s=2.0)
    booted = shop.boot(shop.rent())
    with pytest.raises(BootFailed) as caught:
        becomes(shop, booted, "stalls:1b")
    assert (caught.value.code, caught.value.blame) == ("pull_stalled", "network")
    assert "stands still for 2 s" in caught.value.message
    assert shop.kept(booted.rental).phase == "model"
    assert shop.note(booted.rental).why.startswith("pull_stalled")


def test_one_that_does_not_exist_is_nobody_else_s_fault(shop):
    booted = shop.boot(shop.rent())
    with pytest.raises(BootFailed) as caught:
        becomes(shop, booted, "no-such-model:1b")
    assert (caught.value.code, caught.value.blame) == ("model_unknown", "ours")
    assert shop.note(booted.rental).failed_at is None
    wait_until(lambda: booted.session.alive, "the session, which is well", 5)
