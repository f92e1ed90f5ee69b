"""The order of log lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmhost.core.paths import Paths
from llmhost.fleet.logs import read_logs


@pytest.fixture
def paths(tmp_path):
    found = Paths.from_environment(
        {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "s"), "XDG_RUNTIME_DIR": str(tmp_path / "r")}
    )
    Path(found.log_dir).mkdir(parents=True)
    return found


def test_times_of_other_offsets_are_put_in_order(paths):
    def line(time, word):
        return json.dumps({"time": time, "message": word}) + "\n"

    (paths.log_dir / "gateway.log").write_text(
        line("2026-11-21T12:00:01+00:00", "b") + "a trace\n" + line("2026-11-21T12:00:03+00:00", "d")
    )
    (paths.log_dir / "node-n1.log").write_text(line("2026-11-21T17:30:00+05:30", "a") + line("no time", "e"))
    (paths.log_dir / "ollama.log").write_text("time=2026-11-21T07:00:02.123456789-05:00 level=INFO msg=c\n")
    texts = [line.text for line in read_logs(paths, None, None, 100)]
    order = [next(word for word in ("trace", "msg=c", '"a"', '"b"', '"d"', '"e"') if word in text) for text in texts]
    assert order == ['"a"', '"e"', '"b"', "trace", "msg=c", '"d"']


def test_a_time_without_an_offset_is_this_machines(paths, monkeypatch):
    (paths.log_dir / "gateway.log").write_text('{"time": "2026-11-21T12:00:00+00:00", "message": "late"}\n')
    (paths.log_dir / "ollama.log").write_text("time=2026-11-20T12:00:00 msg=early\n")
    assert "early" in read_logs(paths, None, None, 10)[0].text
