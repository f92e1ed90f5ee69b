"""A world for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rented.money.world import World, world


@pytest.fixture
def rented() -> Iterator[World]:
    with world() as made:
        yield made
