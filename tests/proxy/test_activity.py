"""The file that tells a rented machine that somebody has work for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmhost.core.guard_files import EVERY_S, Touch
from tests.proxy.asking import ask, send
from tests.support.proxy_server import ProxyServer, proxy, short_dir
from tests.support.system import wait_until

LONG_AGO = 1_000_000_000


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ProxyServer, Path]]:
    """A node proxy and its file."""
    with short_dir() as path, proxy(path, name="n1", activity_file=str(path / "active")) as server:
        yield server, path / "active"


class Aged:
    """The file, as if it had not been touched for long. What was touched in the second before would hide a touch: so that passes first."""

    def __init__(self, server: ProxyServer, file: Path) -> None:
        self.file = file
        wait_until(lambda: self._renewed_by(server), "a request to renew the file", 20)

    def _renewed_by(self, server: ProxyServer) -> bool:
        self.age()
        send(server.client, ask("hello"))
        return self.renewed()

    def age(self) -> None:
        if self.file.exists():
            os.utime(self.file, (LONG_AGO, LONG_AGO))

    def renewed(self) -> bool:
        return self.file.exists() and self.file.stat().st_mtime > LONG_AGO + 1


def test_messages_renew_it_and_nothing_else_does(served: tuple[ProxyServer, Path]) -> None:
    server, file = served
    aged = Aged(server, file)
    for path in ("/health", "/ready", "/v1/models", "/internal/status", "/metrics", "/"):
        aged.age()
        for _ in range(3):
            server.client.get(path)
        assert not aged.renewed(), path
    wait_until(lambda: count(server) and aged.renewed(), "counting tokens to renew it", 20)


def count(server: ProxyServer) -> bool:
    return server.client.post("/v1/messages/count_tokens", json=ask("hello")).status_code == 200


def test_it_is_renewed_while_an_answer_streams_and_at_its_end(served: tuple[ProxyServer, Path]) -> None:
    server, file = served
    aged = Aged(server, file)
    body = ask("@rehearse words 35; pace 100") | {"stream": True}
    renewed = 0
    with server.client.stream("POST", "/v1/messages", json=body) as answer:
        for _ in answer.iter_bytes():
            renewed += aged.renewed()
            aged.age()
    assert 2 <= renewed <= 8  # three and a half seconds, once in each


def test_a_server_without_one_and_one_whose_folder_is_not_there(short_tmp: Path) -> None:
    for name, file in (("n1", None), ("n2", str(short_tmp / "nowhere" / "active"))):
        with proxy(short_tmp, name=name, activity_file=file) as server:
            assert send(server.client, ask("hello")).status_code == 200
    assert not (short_tmp / "nowhere").exists()


def test_at_most_once_a_second(short_tmp: Path) -> None:
    now = [100.0]
    file = short_tmp / "active"
    touch = Touch(str(file), clock=lambda: now[0])
    touch.touch()
    assert file.exists()
    os.utime(file, (LONG_AGO, LONG_AGO))
    now[0] += EVERY_S - 0.01
    touch.touch()
    assert file.stat().st_mtime == LONG_AGO
    now[0] += 0.02
    touch.touch()
    assert file.stat().st_mtime > LONG_AGO


def test_a_relative_one_is_below_the_home(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(short_tmp))
    Touch("active").touch()
    assert (short_tmp / "active").exists()
