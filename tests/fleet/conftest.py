from __future__ import annotations

import pytest

from tests.support.installation import installation


@pytest.fixture
def place():
    """A fresh installation; whatever was started in it is ended after the test."""
    with installation() as made:
        yield made
