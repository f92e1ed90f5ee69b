"""The whole of `llmhost`, command by command, against a market on which things go wrong."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.rented.matrix.house import House
from tests.rented.matrix.running import Commands
from tests.support.marketplace.server import MarketServer
from tests.support.rented_stack import quick_market


@pytest.fixture(scope="session")
def bundles() -> Iterator[str]:
    """Where what is copied to nodes is packed once for all tests."""
    folder = tempfile.mkdtemp(prefix="lh-bundles-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    with Commands() as made:
        yield made


@pytest.fixture
def sandboxed(short_tmp: Path) -> Iterator[MarketServer]:
    """A market with a real machine behind every instance."""
    with quick_market(short_tmp, vanish_s=0.5) as server:
        yield server


@pytest.fixture
def paper() -> Iterator[MarketServer]:
    """A market whose instances are rows, and never let anybody in."""
    with quick_market(scenario="never_leaves_loading", vanish_s=0.5) as server:
        yield server


@pytest.fixture
def new_house(commands: Commands, bundles: str) -> Iterator:
    """Makes installations with an account; they are taken down after the test."""
    with ExitStack() as stack:

        def make(server: MarketServer, **settings: str) -> House:
            made = House(server, commands, **{"XDG_CACHE_HOME": bundles, **settings})
            stack.callback(made.remove)
            return made

        yield make
