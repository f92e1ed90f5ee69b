"""A conversation that outgrows the window is compacted, in time or at the last moment, and goes on."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.claude import Run
from tests.support.stack import Stack

# The rehearsal counts four bytes as a token: one such file is about 21,000 of the 65,536 tokens of the window. Claude Code's
# own Read takes no file of more than 25,000 tokens.
LINE = "the quick brown fox jumps over the lazy dog, again and again, until the window is full of foxes\n"
FILE_BYTES = 80_000


def reads(*files: Path) -> str:
    return "@rehearse " + "; ".join(f"tool Read {json.dumps({'file_path': str(file)})}" for file in files)


def big_files(folder: Path, count: int) -> list[Path]:
    files = [folder / f"big{number}.txt" for number in range(count)]
    for number, file in enumerate(files):
        file.write_text(f"file {number}\n" + LINE * (FILE_BYTES // len(LINE)))
    return files


def compactions(run: Run) -> list[dict[str, object]]:
    return [event["compact_metadata"] for event in run.events if event.get("subtype") == "compact_boundary"]


def test_is_compacted_before_the_window_is_full(stack: Stack) -> None:
    folder = stack.folder("proactive")
    first, second = big_files(folder, 2)
    errors = stack.status()["requests"]["errors"]
    run = stack.stream("\n".join([reads(first), reads(second)]), "--allowedTools", "Read", cwd=folder)
    (compaction,) = compactions(run)
    assert compaction["trigger"] == "auto"
    assert 50_000 < compaction["pre_tokens"] < 65_536
    assert run.result["is_error"] is False
    assert stack.status()["requests"]["errors"] == errors, "no request had to be refused for it"

    later = stack.stream("@rehearse say and on it goes", "-c", cwd=folder)
    assert later.result["result"] == "and on it goes"
    usage = later.result["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] < 40_000


def test_is_compacted_when_one_step_overflows_the_window(stack: Stack) -> None:
    folder = stack.folder("reactive")
    first, second, third = big_files(folder, 3)
    run = stack.stream("\n".join([reads(first), reads(second, third)]), "--allowedTools", "Read", cwd=folder)
    assert compactions(run)
    assert run.result["is_error"] is False


def test_the_window_claude_works_with_is_the_one_that_is_loaded(stack: Stack) -> None:
    run = stack.stream("hello")
    (usage,) = run.result["modelUsage"].values()
    assert usage["contextWindow"] == stack.status()["gateway"]["context"] == 65_536
