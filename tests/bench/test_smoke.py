"""The benchmark runs and its table has every row; what the numbers are is not a test's business."""

from __future__ import annotations

from tests.bench import bench_router
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


def test_the_router_s_benchmark_runs():
    text = bench_router.routing_cost(bench_router.SMOKE)
    for name in ("a node directly", "gateway, 1 node", "gateway, 8 nodes"):
        assert name in text


def test_the_benchmark_of_prefix_reuse_runs():
    text = bench_router.prefix_reuse(turns=2)
    assert "| affinity" in text
    assert "| without affinity" in text
