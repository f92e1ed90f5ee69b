"""Something else than the marketplace answers at its address."""

import socket
import threading

import pytest

from llmhost.core.errors import Unavailable
from llmhost.core.settings import Settings
from llmhost.providers.market import Unknown
from llmhost.providers.vast import rows
from llmhost.providers.vast.market import open_market
from tests.rented.vast.test_rows import OFFER

KEY = "0123456789abcdef" * 4


class Garbage:
    """Answers every connection with the same bytes and closes it; `heard` are the first lines of what came in."""

    def __init__(self, answer):
        self.answer, self.heard = answer, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(10)
                line = connection.recv(65536).split(b"\r\n")[0]
                if line == b"enough":
                    return
                self.heard.append(line.decode())
                connection.sendall(self.answer)

    def close(self):
        with socket.create_connection(self.listener.getsockname()) as last:
            last.sendall(b"enough")
        self.thread.join()
        self.listener.close()


ANSWERS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\noops",
    "a long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n{}",
    "broken gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "no text": b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"\xff\xfe"',
    "deep": b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + b"[" * 90_000,
    "a number": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7",
}


@pytest.fixture(params=sorted(ANSWERS))
def garbage(request):
    garbage = Garbage(ANSWERS[request.param])
    yield garbage
    garbage.close()


@pytest.fixture
def market(garbage):
    settings = Settings(vast_api_key=KEY, vast_url=garbage.url, vast_pace=0.001, vast_read_timeout_s=5)
    return open_market(settings, {})


def test_a_rent_is_unknown_and_asked_once(garbage, market, order):
    found = market.rent(rows.offer(OFFER, 60.0), order)
    assert isinstance(found, Unknown)
    assert KEY not in found.why
    assert [line.split()[0] for line in garbage.heard] == ["PUT"]


@pytest.mark.parametrize("call", ["account", "instances"])
def test_a_read_is_unavailable(market, call):
    with pytest.raises(Unavailable) as missing:
        getattr(market, call)()
    assert KEY not in repr(missing.value)


def test_a_destroy_is_unavailable_and_asked_once(garbage, market):
    with pytest.raises(Unavailable):
        market.destroy(7)
    assert [line.split()[0] for line in garbage.heard] == ["DELETE"]
