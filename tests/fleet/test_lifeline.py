"""The wrapper around programs that ignore their standard input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from llmhost.supervisor.process import alive, wait_gone
from tests.support.system import wait_until

# A program with a child of its own, as Ollama has runners; both say who they are.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}\\n")
time.sleep(60)
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PARENT


def start(*command):
    argv = [sys.executable, "-P", "-m", "llmhost.supervisor.lifeline", "--", *command]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)


def finish(wrapper):
    wrapper.stdin.close()
    wrapper.stderr.close()
    return wrapper.wait(10)


def family(tmp_path, program):
    """A running wrapper, and the process ids of the program and its child."""
    file = tmp_path / "pids"
    wrapper = start(sys.executable, "-c", program, str(file))
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"), "the program to start")
    return wrapper, [int(pid) for pid in file.read_text().split()]


@pytest.mark.parametrize("program", [PARENT, DEAF])
def test_the_end_of_standard_input_ends_the_whole_group(tmp_path, program):
    wrapper, pids = family(tmp_path, program)
    assert all(alive(pid) for pid in pids)
    finish(wrapper)
    assert wait_gone(pids, 2) == []


def test_sigterm_ends_the_whole_group(tmp_path):
    wrapper, pids = family(tmp_path, PARENT)
    wrapper.send_signal(signal.SIGTERM)
    assert wait_gone(pids, 5) == []
    wrapper.wait(10)
    finish(wrapper)


def test_when_the_program_ends_its_children_do_and_its_code_is_ours(tmp_path):
    wrapper, pids = family(tmp_path, PARENT)
    os.kill(pids[0], signal.SIGINT)
    assert wait_gone(pids, 5) == []
    wrapper.wait(10)
    assert finish(wrapper) == 128 + signal.SIGINT


def test_an_exit_code_is_passed_on():
    wrapper = start(sys.executable, "-c", "raise SystemExit(9)")
    wrapper.wait(10)
    assert finish(wrapper) == 9


def test_a_program_that_is_not_there_is_named():
    wrapper = start("/nonexistent/ollama")
    said = wrapper.stderr.read().decode()
    assert finish(wrapper) == 127
    assert "cannot start /nonexistent/ollama: No such file or directory" in said
