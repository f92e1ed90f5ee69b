"""Listening, and leaving nothing behind."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from llmhost.core.server_config import ServerConfig
from tests.support.proxy_server import REHEARSAL, TOKEN, ProxyServer, proxy


def refused(path: Path, folder: Path) -> str:
    """What a server says that was told to listen at `path` and could not."""
    config = ServerConfig("second", TOKEN, REHEARSAL, socket=str(path), lifeline=True)
    server = ProxyServer(config, folder)
    assert server.process.wait(20) == 1
    server.stop()
    return server.log()


def test_the_socket_is_for_its_owner_only(folder: Path) -> None:
    with proxy(folder) as server:
        assert stat.S_IMODE(Path(str(server.config.socket)).stat().st_mode) == 0o600


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_cleanly(folder: Path, how: signal.Signals, code: int) -> None:
    with proxy(folder) as server:
        server.process.send_signal(how)
        assert server.process.wait(10) == code
        assert not Path(str(server.config.socket)).exists()


def test_a_file_that_is_in_the_way_is_left_alone(folder: Path) -> None:
    path = folder / "file"
    path.write_text("keep me")
    assert "is not a socket" in refused(path, folder)
    assert path.read_text() == "keep me"


def test_another_server_s_socket_is_left_alone(folder: Path) -> None:
    with proxy(folder) as first:
        assert "another server listens" in refused(Path(str(first.config.socket)), folder)
        assert first.client.get("/ready").status_code == 200


def test_a_socket_left_by_a_crash_is_replaced(folder: Path) -> None:
    with proxy(folder) as crashed:
        crashed.process.kill()
        crashed.process.wait()
        assert Path(str(crashed.config.socket)).exists()
        with proxy(folder) as server:
            assert answers(server)


def answers(server: ProxyServer) -> bool:
    return server.client.get("/health").status_code == 200
