"""The wire to the market: one request per call through the vendor's client, its raw answer, and typed trouble when there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from llmhost.providers.vast.answer import Answer
from llmhost.providers.vast.failures import VastTrouble

METHODS = ("GET", "POST", "PUT", "DELETE")
_WHY = {
    "ConnectTimeout": "no connection in time",
    "ReadTimeout": "no answer in time",
    "SSLError": "its certificate cannot be trusted",
    "ProxyError": "the proxy of this network does not let it through",
    "ConnectionError": "the connection failed or broke off",
    "ChunkedEncodingError": "the answer broke off",
    "MissingSchema": "VAST_URL is no address",
    "InvalidSchema": "VAST_URL is no address",
    "InvalidURL": "VAST_URL is no address",
}


class Wire:
    """`url` None = the vendor's own address. Nothing is imported or opened before the first call."""

    def __init__(self, key: str, url: str | None, *, read_timeout_s: float, write_timeout_s: float) -> None:
        self._key, self._url = key, url
        self._timeouts = {True: write_timeout_s, False: read_timeout_s}

    def send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        writes: bool = False,
    ) -> Answer:
        """One request. Raises VastTrouble (`vast_unreachable`) when no whole answer came; then a write may have been carried out."""
        sdk = load()
        url = (self._url or sdk.DEFAULT_URL).rstrip("/")
        client = sdk.OneRequest(self._key, url, self._timeouts[writes])
        call = getattr(client, method.lower())
        return _answer(lambda: call(path, query_args=query, json_data=body), "vast.ai")

    def fetch(self, url: str) -> Answer:
        """GET an address that the market named, without the key. Raises VastTrouble."""
        sdk = load()
        if urlsplit(url).scheme not in ("http", "https"):
            raise VastTrouble("vast.ai names an address that is none.", code="vast_answer")
        return _answer(lambda: sdk.fetch(url, self._timeouts[False]), "the storage of vast.ai's logs")


def load() -> Any:
    """The module over the vendor's package, imported now; it says nothing on any stream."""
    _silence()
    from llmhost.providers.vast import sdk

    _silence()
    return sdk


def _silence() -> None:
    """The package hangs a handler to stderr on its logger, unless one is there when it is imported (vast facts §1.1)."""
    log = logging.getLogger("vastai")
    log.propagate = False
    if [type(handler) for handler in log.handlers] != [logging.NullHandler]:
        log.handlers[:] = [logging.NullHandler()]


def _answer(call: Callable[[], Any], whom: str) -> Answer:
    """The vendor's errors carry the request with its key: none of them leaves this function, not even as a cause."""
    from http.client import HTTPException

    from urllib3.exceptions import HTTPError

    try:
        response = call()
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)
    except (OSError, ValueError, HTTPError, HTTPException) as error:
        kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _WHY), "")
    why = _WHY.get(kind, "the call failed")
    raise VastTrouble(f"{whom} cannot be reached: {why}.", code="vast_unreachable", passing=True)
