"""Stacks for the live tests: one that is shared by those that only use it, and fresh ones for those that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.claude import claude_binary
from tests.support.redis_server import RedisServer, need_binary, running
from tests.support.stack import Stack

StackFactory = Callable[..., Stack]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A local fleet on the rehearsal backend, up for the whole session."""
    claude_binary()
    stack = Stack(LLMHOST_BACKEND="rehearsal")
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def new_stack() -> Iterator[StackFactory]:
    """Makes installations that are not up yet; all of them are taken down afterwards."""
    claude_binary()
    made: list[Stack] = []

    def make(**settings: str) -> Stack:
        made.append(Stack(**{"LLMHOST_BACKEND": "rehearsal", **settings}))
        return made[-1]

    yield make
    for stack in made:
        stack.remove()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis 8 with an odd password, on a free port."""
    with running(RedisServer(need_binary("redis-8.2"), tmp_path, tcp=True, password="pass:word%2F@100")) as server:
        yield server
