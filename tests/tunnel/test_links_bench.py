"""The benchmark of the links runs; its numbers are its own affair."""

from __future__ import annotations

from tests.bench import bench_links


def test_every_table_of_the_benchmark_is_filled(capsys):
    bench_links.main(["--smoke"])
    shown = capsys.readouterr().out
    assert shown.count("###") >= 4
    for name in ("direct", "plain `ssh -N -L`", "link", "T1 ", "T6 ", "supervisor with 1 links"):
        assert f"| {name}" in shown
