"""Calls of the market: paced, reads repeated within a bound, writes made once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.providers.vast import failures
from llmhost.providers.vast.answer import Answer
from llmhost.providers.vast.client import Wire
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.pace import Pace

READ_ATTEMPTS = 4
FIRST_BACKOFF_S = 0.5


class Api:
    """`patience_s` bounds a read with all its repetitions (its last attempt may still run into its own timeout); `secrets` are never
    shown. Endpoints are named as in `pace`."""

    def __init__(self, wire: Wire, pace: Pace, patience_s: float, secrets: Sequence[str] = ()) -> None:
        self.wire, self.pace, self.patience_s, self.secrets = wire, pace, patience_s, tuple(secrets)

    def read(
        self,
        endpoint: str,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Any:
        """The JSON object or list of a success. Raises AuthenticationNeeded, or VastTrouble after a few attempts."""
        give_up = time.monotonic() + self.patience_s
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return self._read_once(endpoint, method, path, query, body)
            except VastTrouble as trouble:
                wait = self._wait(endpoint, trouble, attempt)
                if not trouble.passing or attempt == READ_ATTEMPTS or time.monotonic() + wait > give_up:
                    raise
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def read_object(self, endpoint: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """`read`, where a list is no answer."""
        data = self.read(endpoint, method, path, **options)
        if not isinstance(data, dict):
            raise VastTrouble("vast.ai's answer cannot be understood.", code="vast_answer")
        return data

    def write(self, endpoint: str, method: str, path: str, body: dict[str, Any]) -> Answer:
        """One attempt; whatever the market answers. Raises VastTrouble when no whole answer came."""
        with self.pace.turn(endpoint):
            answer = self.wire.send(method, path, body=body, writes=True)
        if answer.status == 429:
            self.pace.too_soon(endpoint, answer.retry_after_s)
        return answer

    def trouble(self, answer: Answer) -> LlmhostError | None:
        """What a write's answer means when it is no `success: true`."""
        found = failures.trouble(answer, self.secrets)
        if found is None and (answer.fields or {}).get("success") is not True:
            return VastTrouble("vast.ai does not say whether it did what it was told.", code="vast_answer")
        return found

    def _read_once(self, endpoint: str, method: str, path: str, query: Any, body: Any) -> Any:
        with self.pace.turn(endpoint):
            answer = self.wire.send(method, path, query=query, body=body)
        found = failures.trouble(answer, self.secrets)
        if found is not None:
            raise found
        return answer.data

    def _wait(self, endpoint: str, trouble: VastTrouble, attempt: int) -> float:
        """Seconds until the next attempt."""
        if trouble.too_frequent:
            return self.pace.too_soon(endpoint, trouble.retry_after_s)
        return float(FIRST_BACKOFF_S * 2 ** (attempt - 1) * self.pace.factor)
