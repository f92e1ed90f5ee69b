"""Who is called back when a node is found silent, and who is still on the way to it."""

from __future__ import annotations

import asyncio

import pytest

from llmhost.backends.patience import UPLINK_BYTES_S, CalledBack, Waiting, upload_s


async def wait(waiting: Waiting, body: bytes) -> None:
    async with waiting.on(body):
        await asyncio.Event().wait()


async def test_only_what_was_read_by_now_is_called_back_and_only_once() -> None:
    waiting = Waiting()
    small = asyncio.create_task(wait(waiting, b""))
    big = asyncio.create_task(wait(waiting, bytes(60 * UPLINK_BYTES_S)))
    await asyncio.sleep(0)
    waiting.call_back()
    waiting.call_back()  # the next look finds the node silent too, before the first has been noticed
    with pytest.raises(CalledBack):
        await small
    assert not big.done()
    big.cancel()
    with pytest.raises(asyncio.CancelledError):
        await big
    waiting.call_back()


def test_the_time_to_send_a_big_request_counts_extra() -> None:
    assert upload_s(bytes(20_000_000)) == 160
