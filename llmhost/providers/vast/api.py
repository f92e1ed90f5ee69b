"""Calls of the market: paced; reads repeated within a bound, and of writes those that were refused and are safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.core.progress import Progress
from llmhost.providers.vast import failures
from llmhost.providers.vast.answer import Answer
from llmhost.providers.vast.client import Wire
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.pace import Pace

ATTEMPTS = 4
FIRST_BACKOFF_S = 0.5
# Searches are counted by the minute: after a refusal it may take that long until one is let through, whoever made the others.
SEARCH_ATTEMPTS, SEARCH_PATIENCE_S = 9, 60.0
# A shorter wait is not worth a line.
TOLD_FROM_S = 3.0


class Api:
    """`patience_s` bounds a call with all its repetitions (its last attempt may still run into its own timeout; a search's begins at its
    first failure, as its turn alone may take a minute). `secrets` are never shown; `progress` is told of long waits for a search.
    Endpoints are named as in `pace`."""

    def __init__(
        self,
        wire: Wire,
        pace: Pace,
        patience_s: float,
        secrets: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self.wire, self.pace, self.patience_s, self.secrets = wire, pace, patience_s, tuple(secrets)
        self.progress = progress

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
        give_up = None if endpoint == "search" else time.monotonic() + self.patience_s
        for attempt in count(1):
            try:
                return self._read_once(endpoint, method, path, query, body)
            except VastTrouble as trouble:
                wait = self._wait(endpoint, trouble, attempt)
                if give_up is None:
                    give_up = time.monotonic() + max(self.patience_s, SEARCH_PATIENCE_S * self.pace.factor)
                if not trouble.passing or attempt >= _most(endpoint, trouble) or time.monotonic() + wait > give_up:
                    raise
            self._tell(endpoint, wait)
            time.sleep(wait)
        raise AssertionError("an attempt returns or raises")

    def read_object(self, endpoint: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """`read`, where a list is no answer."""
        data = self.read(endpoint, method, path, **options)
        if not isinstance(data, dict):
            raise VastTrouble("vast.ai's answer cannot be understood.", code="vast_answer")
        return data

    def write(self, endpoint: str, method: str, path: str, body: dict[str, Any]) -> Answer:
        """One attempt; whatever the market answers. Raises VastTrouble when no whole answer came."""
        return self._write_once(endpoint, method, path, body)[0]

    def insist(self, endpoint: str, method: str, path: str, body: dict[str, Any]) -> Answer:
        """`write`, again after a 429: then the market did nothing. For what may be done twice, so never for a rent."""
        give_up = time.monotonic() + self.patience_s
        for _ in range(ATTEMPTS - 1):
            answer, wait = self._write_once(endpoint, method, path, body)
            if wait is None or time.monotonic() + wait > give_up:
                return answer
            time.sleep(wait)
        return self.write(endpoint, method, path, body)

    def trouble(self, answer: Answer) -> LlmhostError | None:
        """What a write's answer means when it is no `success: true`."""
        found = failures.trouble(answer, self.secrets)
        if found is None and (answer.fields or {}).get("success") is not True:
            return VastTrouble("vast.ai does not say whether it did what it was told.", code="vast_answer")
        return found

    def _write_once(self, endpoint: str, method: str, path: str, body: dict[str, Any]) -> tuple[Answer, float | None]:
        """The answer, and in how many seconds to ask again when it was asked too often."""
        with self.pace.turn(endpoint):
            answer = self.wire.send(method, path, body=body, writes=True)
        return answer, self.pace.too_soon(endpoint, answer.retry_after_s) if answer.status == 429 else None

    def _read_once(self, endpoint: str, method: str, path: str, query: Any, body: Any) -> Any:
        with self.pace.turn(endpoint, lambda wait: self._tell(endpoint, wait)):
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

    def _tell(self, endpoint: str, wait: float) -> None:
        if endpoint == "search" and self.progress is not None and wait >= TOLD_FROM_S * self.pace.factor:
            self.progress.note(f"waiting for the market's rate limit: {wait:.0f} s")


def _most(endpoint: str, trouble: VastTrouble) -> int:
    """How many attempts a call that fails so gets."""
    return SEARCH_ATTEMPTS if endpoint == "search" and trouble.too_frequent else ATTEMPTS
