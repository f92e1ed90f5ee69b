"""Reading and following logs."""

from __future__ import annotations

import json
import threading

import pytest

from llmhost.core.errors import UsageError
from llmhost.core.paths import Paths
from llmhost.fleet.logs import follow_logs, read_logs
from llmhost.supervisor import logfile


@pytest.fixture
def paths(tmp_path):
    made = Paths(tmp_path, tmp_path, tmp_path)
    made.log_dir.mkdir()
    return made


def write(paths, name, *lines):
    with paths.log_file(name).open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def said(time, message):
    return json.dumps({"time": f"2026-01-01T00:00:{time:02}.000+00:00", "message": message})


def test_lines_of_all_sources_come_in_the_order_of_their_times(paths):
    write(paths, "gateway", said(3, "c"), "  part of c's trace", said(5, "e"))
    write(paths, "node-n1", said(1, "a"), said(4, "d"))
    write(paths, "supervisor", said(2, "b"))
    found = read_logs(paths, None, None, 10)
    assert [(line.source, line.node) for line in found] == [
        *(("proxy", "n1"), ("tunnel", None), ("gateway", None), ("gateway", None), ("proxy", "n1"), ("gateway", None))
    ]
    assert found[3].text == "  part of c's trace"
    assert [line.text for line in read_logs(paths, None, None, 2)] == [said(4, "d"), said(5, "e")]
    assert read_logs(paths, None, None, 0) == []


def test_ollamas_own_times_are_understood(paths):
    write(paths, "ollama", 'time=2026-01-01T00:00:02.000Z level=INFO msg="listening"')
    assert read_logs(paths, None, "ollama", 5)[0].time == "2026-01-01T00:00:02.000Z"


def test_only_the_source_or_the_node_that_is_asked_for(paths):
    write(paths, "gateway", said(1, "a"))
    write(paths, "node-n1", said(2, "b"))
    assert [line.source for line in read_logs(paths, None, "gateway", 5)] == ["gateway"]
    assert [line.node for line in read_logs(paths, "n1", None, 5)] == ["n1"]
    assert read_logs(paths, None, "onstart", 5) == []


def test_a_name_that_is_none_is_a_usage_error(paths):
    for node, source in (("n9", None), (None, "nonsense")):
        with pytest.raises(UsageError):
            read_logs(paths, node, source, 5)


def test_without_any_log_there_is_nothing(tmp_path):
    assert read_logs(Paths(tmp_path, tmp_path / "none", tmp_path), None, None, 5) == []


def test_following_goes_on_with_new_lines_new_files_and_after_rotation(paths):
    write(paths, "gateway", said(1, "old"))
    lines = follow_logs(paths, None, None, 5)
    assert next(lines).text == said(1, "old")
    later = threading.Timer(0.1, lambda: write(paths, "gateway", said(2, "new")))
    later.start()
    assert next(lines).text == said(2, "new")
    write(paths, "node-n1", said(3, "another file"))
    assert next(lines).node == "n1"
    assert logfile.rotate(paths.log_file("gateway"), cap_bytes=10)
    write(paths, "gateway", said(4, "x"))
    assert next(lines).text == said(4, "x")
    lines.close()


def test_a_log_over_its_cap_is_moved_aside_and_its_writer_goes_on(paths):
    path = paths.log_file("gateway")
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 1000)
        assert not logfile.rotate(path, cap_bytes=1000)
        writer.write(b"y")
        assert logfile.rotate(path, cap_bytes=1000)
        writer.write(b"fresh\n")
    assert path.read_bytes() == b"fresh\n"
    assert path.with_name("gateway.log.1").read_bytes() == b"x" * 1000 + b"y"


def test_the_tail_of_a_large_file_is_read_from_its_end(paths):
    write(paths, "gateway", *(f"line {number}" for number in range(20_000)))
    assert logfile.tail(paths.log_file("gateway"), 2) == ["line 19998", "line 19999"]
