from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.bootstrap.place import Place


@pytest.fixture(scope="session")
def bundles():
    """Bundles are made once a worker."""
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def standing(bundles):
    """A node that is up, and must be up again, with the same wish, at the end of each test."""
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    with Place(folder, bundles) as place:
        place.installed = place.up()
        yield place
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place(short_tmp, bundles):
    """A machine as most are."""
    with Place(short_tmp, bundles) as place:
        yield place


@pytest.fixture
def make_place(short_tmp, bundles):
    """Machines with peculiarities."""
    places = []

    def make(**options):
        made = Place(short_tmp / str(len(places)), bundles, **options)
        places.append(made)
        return made.__enter__()

    yield make
    for made in places:
        made.__exit__()
