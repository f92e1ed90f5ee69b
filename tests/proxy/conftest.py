"""Servers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmhost.core.server_config import CacheConfig, Timing
from tests.support.proxy_server import ProxyServer, gateway_of, proxy, short_dir


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_dir() as path:
        yield path


@pytest.fixture(scope="module")
def node() -> Iterator[ProxyServer]:
    """A node proxy with the rehearsal backend and short intervals."""
    with short_dir() as path, proxy(path, name="n1", timing=Timing(first_byte=0.3, ping=0.2, heartbeat=0.8)) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(node: ProxyServer) -> Iterator[ProxyServer]:
    """A gateway with an exact cache in memory, in front of `node`."""
    timing = Timing(first_byte=0.5, ping=0.2, heartbeat=60)
    with short_dir() as path, gateway_of(node, path, cache=CacheConfig(), timing=timing) as server:
        yield server
