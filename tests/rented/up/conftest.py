"""`llmhost up` and `down` as a user runs them, on a market whose machines are either real (`sandboxed`) or only on paper (`paper`)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.marketplace.server import MarketServer
from tests.support.rented_stack import RentedStack, quick_market


@pytest.fixture(scope="session")
def bundles() -> Iterator[str]:
    """Where what is copied to nodes is packed once for all tests."""
    folder = tempfile.mkdtemp(prefix="lh-bundles-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sandboxed(short_tmp: Path) -> Iterator[MarketServer]:
    """A market with a real machine behind every instance."""
    with quick_market(short_tmp) as server:
        yield server


@pytest.fixture
def paper() -> Iterator[MarketServer]:
    """A market whose instances are rows, and never let anybody in."""
    with quick_market(scenario="never_leaves_loading") as server:
        yield server


@pytest.fixture
def new_stack(bundles: str) -> Iterator:
    """Makes installations with an account; they are taken down after the test."""
    with ExitStack() as stack:

        def make(server: MarketServer, **settings: str) -> RentedStack:
            made = RentedStack(server, **{"XDG_CACHE_HOME": bundles, **settings})
            stack.callback(made.remove)
            return made

        yield make
