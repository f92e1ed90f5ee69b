"""A container's output: asked for, then uploaded by the host to an address where it appears a while later (vast facts §1.5 and §1.6)."""

from __future__ import annotations

import time
from typing import Any

from llmhost.core.errors import Unavailable
from llmhost.providers.vast.api import Api
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.values import text

# It may take 30 to 60 s (vast facts §1.6).
APPEARS_WITHIN_S = 60.0
FIRST_POLL_S, LONGEST_POLL_S = 0.3, 3.0
MOST_BYTES = 1_000_000


def fetch(api: Api, instance_id: int, lines: int, contains: str | None) -> str:
    """The last `lines` lines, of those that contain `contains`. Raises AuthenticationNeeded or Unavailable (`no_logs`)."""
    path = f"/instances/request_logs/{instance_id}/"
    address = result_address(api.read_object("logs", "PUT", path, body=wish(lines, contains)))
    give_up = time.monotonic() + APPEARS_WITHIN_S * api.pace.factor
    pause = FIRST_POLL_S
    while (found := _uploaded(api, address)) is None:
        wait = min(pause * api.pace.factor, give_up - time.monotonic())
        if wait <= 0:
            raise Unavailable(f"the log of instance {instance_id} did not appear in time.", code="no_logs")
        time.sleep(wait)
        pause = min(pause * 1.5, LONGEST_POLL_S)
    return found


def wish(lines: int, contains: str | None) -> dict[str, str]:
    """The body of the request; the market takes the number as a text."""
    body = {"tail": str(max(1, lines))}
    return body | {"filter": contains} if contains else body


def result_address(data: dict[str, Any]) -> str:
    """Where the text will be. Raises VastTrouble when the answer does not say."""
    address = text(data.get("result_url")) or text(data.get("temp_download_url"))
    if address is None:
        raise VastTrouble("vast.ai does not say where the log will be.", code="no_logs")
    return address


def _uploaded(api: Api, address: str) -> str | None:
    """None while it is not there: the storage says 403 or 404 then."""
    try:
        answer = api.wire.fetch(address)
    except VastTrouble as trouble:
        if trouble.passing:
            return None
        raise
    return answer.body[-MOST_BYTES:].decode(errors="replace") if answer.status == 200 else None
