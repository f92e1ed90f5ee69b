from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.installation import installation
from tests.support.sshd import Sshd


@pytest.fixture
def place():
    """A fresh installation; whatever was started in it is ended after the test."""
    with installation() as made:
        yield made


@pytest.fixture
def machines(short_tmp) -> Iterator:
    """Makes machines with an sshd; whatever was left running on them is ended after the test."""
    with ExitStack() as stack:
        number = iter(range(1, 100))

        def make(**options) -> Sshd:
            return stack.enter_context(Sshd(short_tmp / f"m{next(number)}", **options))

        yield make


@pytest.fixture
def machine(machines) -> Sshd:
    return machines()
