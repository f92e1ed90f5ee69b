"""Where output goes when its reader is gone or there is no room: no traceback, and an exit code that tells the truth."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.stack import LLMHOST


@pytest.fixture
def broken():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def start(home):
    def run(*args, **streams):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.run([LLMHOST, *args], text=True, stdin=subprocess.DEVNULL, timeout=60, **streams)

    return run


ANSWERS = ["status", "status --json", "config show", "doctor", "--help", "up --provider local --dry-run"]


@pytest.mark.parametrize("line", ANSWERS)
def test_a_full_disk_is_one_line_and_an_error(line, start):
    with open("/dev/full", "w") as full:
        done = start(*line.split(), stdout=full)
    assert done.returncode == 1
    assert "error: the answer cannot be written: No space left on device." in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize("line", ["status", "status --json", "config show", "--version"])
def test_a_reader_that_has_seen_enough_is_no_error(line, start, broken):
    done = start(*line.split(), stdout=broken)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failed_command_stays_failed_when_nobody_reads_its_answer(start, broken):
    assert start("env", "--json", stdout=broken).returncode == 7


@pytest.mark.parametrize("both", [False, True])
def test_a_failed_command_stays_failed_when_nobody_reads_its_errors(both, start, broken):
    streams = {"stderr": broken, **({"stdout": broken} if both else {})}
    assert start("up", "--provider", "local", "--backend", "ollama", "--yes", **streams).returncode == 5


def test_a_command_goes_on_when_nobody_reads_its_progress(start, home, broken):
    done = start("up", "--provider", "local", "--backend", "rehearsal", "--yes", stderr=broken)
    try:
        assert done.returncode == 0
        assert "llmhost claude" in done.stdout
    finally:
        start("down")
