from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from llmhost.core.paths import Paths
from llmhost.ssh.failures import SshFailure
from llmhost.ssh.identity import Identity
from llmhost.ssh.pins import Pins
from llmhost.ssh.session import Session
from tests.support.sshd import Sshd

ALIAS = "llmhost-01234567-main-n1"


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "config", tmp_path / "state", tmp_path / "run")


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "hosts")


@pytest.fixture
def make_sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Servers of the test's own, started; keyword arguments are Sshd's."""
    servers: list[Sshd] = []

    def make(**options: object) -> Sshd:
        servers.append(Sshd(tmp_path / f"sshd{len(servers)}", **options))  # type: ignore[arg-type]
        return servers[-1].start()

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def sshd(make_sshd: Callable[..., Sshd]) -> Sshd:
    return make_sshd()


@pytest.fixture
def connect(pins: Pins) -> Iterator[Callable[..., Session]]:
    """Sessions on a server with its client key, closed with the test."""
    sessions: list[Session] = []

    def make(sshd: Sshd, **options: object) -> Session:
        identity = options.pop("identity", None) or Identity(sshd.client_key, agent=False)
        options.setdefault("timeout_s", 20.0)
        sessions.append(Session.connect(sshd.target, identity, pins, ALIAS, **options))  # type: ignore[arg-type]
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def session(sshd: Sshd, connect: Callable[..., Session]) -> Session:
    return connect(sshd)


def failing(code: str, says: str = "") -> AbstractContextManager[pytest.ExceptionInfo[SshFailure]]:
    """The block ends with this failure, whose sentence holds `says`."""
    return pytest.raises(SshFailure, check=lambda error: error.code == code and says in error.message)
