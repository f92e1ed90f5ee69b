"""The benchmark runs and its table has every row; what the numbers are is not a test's business."""

from __future__ import annotations

from tests.bench.run import SMOKE, run, table


def test_the_benchmark_runs():
    text = table(run(SMOKE, with_starts=False))
    for name in (
        "miss, tiny",
        "miss, 80 KB",
        "exact hit",
        "hits per second",
        "streamed token",
        "streams at once",
        "memory",
    ):
        assert name in text
    assert "| 0 | 0 |" in text, "streams failed"
