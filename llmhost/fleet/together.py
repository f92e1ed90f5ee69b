"""One piece of work on several nodes at once, its failures gathered, its interruption not waited for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from llmhost.core.errors import LlmhostError

T = TypeVar("T")
R = TypeVar("R")
# How long work that was told to stop may take to notice.
ABORT_S = 5.0


class SeveralFailed(LlmhostError):
    """More than one of them failed; in the order of the work. The exit code is the first one's."""

    def __init__(self, each: list[LlmhostError]) -> None:
        first = each[0]
        super().__init__(" ".join(error.message for error in each), hint=first.hint, code=first.code)
        self._each = each
        self.exit_code = first.exit_code  # type: ignore[misc]

    def parts(self) -> list[LlmhostError]:
        return self._each


def at_once(
    items: Sequence[T], work: Callable[[T], R], abort: Callable[[], None] = lambda: None
) -> list[R | LlmhostError]:
    """What `work` made of each item, in their order; an LlmhostError in place of a result.

    Another exception is raised here, when all are through. On an interruption `abort` is called, which should make the work end soon.
    """
    done: queue.SimpleQueue[tuple[int, R | BaseException]] = queue.SimpleQueue()

    def run(index: int) -> None:
        try:
            done.put((index, work(items[index])))
        except BaseException as error:  # noqa: BLE001 - a thread's exception is the caller's
            done.put((index, error))

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(items))]
    for thread in threads:
        thread.start()
    try:
        results = dict(done.get() for _ in threads)
    except BaseException:
        abort()
        for thread in threads:
            thread.join(ABORT_S)
        raise
    return [_result(results[index]) for index in range(len(items))]


def _result(result: R | BaseException) -> R | LlmhostError:
    if isinstance(result, BaseException) and not isinstance(result, LlmhostError):
        raise result
    return result


def all_or_raise(results: Sequence[R | LlmhostError]) -> list[R]:
    """The results when all went well. Raises the one error, or SeveralFailed."""
    errors = [one for one in results if isinstance(one, LlmhostError)]
    if errors:
        raise errors[0] if len(errors) == 1 else SeveralFailed(errors)
    return [one for one in results if not isinstance(one, LlmhostError)]
