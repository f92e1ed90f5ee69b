"""The marketplace on loopback: HTTP around `Market`, and the thread that lets its time pass."""

from __future__ import annotations

import json
import socket
import sys
import threading
import traceback
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.marketplace.answers import Answer, Call
from tests.support.marketplace.control import Control
from tests.support.marketplace.control_http import control_answer
from tests.support.marketplace.dispatch import handle
from tests.support.marketplace.life import tick
from tests.support.marketplace.market import Market

TICK_S = 0.03


class MarketServer:
    """`with MarketServer(Market()) as server:` serves until the end of the block; then every machine is ended.

    `url` is the base address (for `VAST_URL`), `key` the account's key (for `VAST_API_KEY`), `control` what a test steers it by.
    """

    def __init__(self, market: Market | None = None, *, port: int = 0) -> None:
        self.market = market or Market()
        self.control = Control(self.market)
        self._port = port
        self._http: _Http | None = None
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return self.market.url

    @property
    def key(self) -> str:
        return self.market.keys.account.secret

    def start(self) -> MarketServer:
        self._http = _Http(("127.0.0.1", self._port), self.market, self.control)
        self._port = self._http.server_address[1]
        self.market.url = f"http://127.0.0.1:{self._port}"
        self.market.stopping.clear()
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.02,), name="market-http"),
            threading.Thread(target=self._let_time_pass, name="market-time"),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def pause(self) -> None:
        """Nobody answers at the address until `start`; time stands still for scripts, not for the clock."""
        self.market.stopping.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """End the server and every machine."""
        self.pause()
        self.control.end_machines()
        self.market.pool.shutdown(wait=True)

    def __enter__(self) -> MarketServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _let_time_pass(self) -> None:
        while not self.market.stopping.wait(TICK_S):
            with self.market.lock:
                tick(self.market)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], market: Market, control: Control) -> None:
        self.market, self.control = market, control
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is a mistake of ours, which a test should see."""
        problem = sys.exc_info()[1]
        if not isinstance(problem, OSError):
            self.market.trouble.append("".join(traceback.format_exception(problem)))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    sys_version = ""
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True
    server: _Http

    def handle_any(self) -> None:
        call = self._call()
        if call.path.startswith("/__"):
            self._send(control_answer(self.server.control, call))
            return
        answer = handle(self.server.market, call)
        if answer.delay_s and self.server.market.stopping.wait(answer.delay_s):
            answer = Answer(dropped=True)
        self._send(answer)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def _call(self) -> Call:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = None
        if raw:
            with suppress(ValueError):
                body = json.loads(raw)
        # Something that is no JSON must not pass for nothing.
        body = raw.decode(errors="replace") if raw and body is None else body
        return Call(self.command, parts.path, query, headers, raw, body, address=self.client_address[0])

    def _send(self, answer: Answer) -> None:
        if answer.dropped:
            self._drop()
            return
        body = answer.body
        self.send_response_only(answer.status)
        headers = {
            "Date": formatdate(self.server.market.clock.told(), usegmt=True),
            "Content-Type": answer.content_type,
        }
        for name, value in {**headers, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + answer.missing_bytes))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if answer.missing_bytes:
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Every call is in `Market.exchanges`."""
