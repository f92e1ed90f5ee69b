"""Real servers, one of each kind per test process; tests keep apart by their namespaces."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import FLAVOURS, RedisServer, make_certificates, need_binary, running


def _serve(flavour: str) -> Iterator[RedisServer]:
    binary = need_binary(flavour)
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    with running(RedisServer(binary, folder)) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=list(FLAVOURS))
def any_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of every flavour, shared: do not hurt it."""
    yield from _serve(request.param)


@pytest.fixture(scope="session")
def redis_7() -> Iterator[RedisServer]:
    """A shared Redis 7: do not hurt it."""
    yield from _serve("redis-7")


@pytest.fixture(params=list(FLAVOURS))
def any_binary(request: pytest.FixtureRequest) -> Path:
    return need_binary(request.param)


@pytest.fixture
def redis_7_binary() -> Path:
    return need_binary("redis-7")


@pytest.fixture(scope="session")
def certificates() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    yield make_certificates(folder)
    shutil.rmtree(folder, ignore_errors=True)
