"""The argv of `claude`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhost.claude.command import Arguments, build_argv, is_session, named_model, needs_gateway, take_settings
from llmhost.claude.launch import KEEP_SETTINGS_S, become, write_settings
from llmhost.claude.user_settings import read_file, settings_files, variables
from llmhost.core.errors import LlmhostError


@pytest.mark.parametrize(
    ("args", "session", "gateway"),
    [
        ([], True, True),
        (["-p", "hello"], True, True),
        (["--model", "opus"], True, True),
        (["what does mcp do"], True, True),
        (["-p", "x", "--", "--help"], True, True),
        (["mcp", "list"], False, False),
        (["update"], False, False),
        (["--version"], False, False),
        (["-p", "x", "--help"], False, False),
        (["agents"], False, True),
    ],
)
def test_only_what_asks_a_model_gets_settings_and_needs_the_gateway(args, session, gateway):
    assert (is_session(args), needs_gateway(args)) == (session, gateway)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], None),
        (["-p", "x", "--model", "qwen2.5-coder:7b"], "qwen2.5-coder:7b"),
        (["--model=opus", "--model", "b:1b"], "b:1b"),
        (["--model"], None),
        (["--", "--model", "b:1b"], None),
    ],
)
def test_the_model_a_user_names(args, named):
    assert named_model(args) == named


@pytest.mark.parametrize("form", [["--settings", "FILE"], ["--settings=FILE"]])
def test_the_users_own_settings_are_taken_out_to_be_merged(form, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"env": {"A": "1"}}))
    args = ["-p", *(word.replace("FILE", "mine.json") for word in form), "hello", "--", "--settings", "prompt"]
    taken = take_settings(args, tmp_path)
    assert taken == Arguments(("-p", "hello", "--", "--settings", "prompt"), {"env": {"A": "1"}})


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["-p", "x"], Arguments(("-p", "x"), {})),
        (["--settings", '{"a": 1}', "x"], Arguments(("x",), {"a": 1})),
        (["--settings", '{"a": 1}', "--settings", '{"b": 2}'], Arguments((), {"b": 2})),
        (["--settings", "no-such-file", "x"], Arguments(("--settings", "no-such-file", "x"), {}, readable=False)),
        (["--settings", "{broken", "x"], Arguments(("--settings", "{broken", "x"), {}, readable=False)),
        (["--settings", "[]"], Arguments(("--settings", "[]"), {}, readable=False)),
        (["--settings"], Arguments(("--settings",), {})),
    ],
)
def test_settings_that_cannot_be_read_stay_where_claude_will_complain_about_them(args, expected, tmp_path):
    assert take_settings(args, tmp_path) == expected


def test_ours_come_before_theirs():
    assert build_argv("/x/claude", ["-p", "hi"], Path("/s.json")) == ["/x/claude", "--settings", "/s.json", "-p", "hi"]
    assert build_argv("/x/claude", ["mcp"], None) == ["/x/claude", "mcp"]


def test_the_settings_file_is_private_shared_by_equal_sessions_and_removed_when_old(tmp_path):
    folder = tmp_path / "claude"
    first = write_settings(folder, {"b": 1, "a": "secret"})
    assert first.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert json.loads(first.read_text()) == {"a": "secret", "b": 1}
    assert write_settings(folder, {"a": "secret", "b": 1}) == first
    other = write_settings(folder, {"a": "other"})
    long_ago = time.time() - KEEP_SETTINGS_S - 60
    os.utime(first, (long_ago, long_ago))
    assert write_settings(folder, {"a": "other"}) == other
    assert list(folder.iterdir()) == [other]


def test_the_program_that_takes_our_place_ignores_no_signal_that_it_would_not_ignore_anyway():
    argv = ["/bin/sh", "-c", "grep SigIgn /proc/self/status"]
    become = f"import os; from llmhost.claude.launch import become; become({argv!r}, os.environ)"
    shown = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (argv, [sys.executable, "-c", become])
    ]
    assert shown[0] == shown[1] != ""


def test_a_program_that_cannot_be_run_is_told_and_leaves_our_signals_as_they_were(tmp_path):
    before = signal.getsignal(signal.SIGPIPE)
    with pytest.raises(LlmhostError) as caught:
        become([str(tmp_path / "nothing")], {})
    assert caught.value.code == "claude_missing"
    assert signal.getsignal(signal.SIGPIPE) == before


def test_the_users_settings_files_are_found_where_claude_looks(tmp_path):
    user, project, local = settings_files({"HOME": "/home/me"}, tmp_path)
    assert user == Path("/home/me/.claude/settings.json")
    assert (project, local) == (tmp_path / ".claude/settings.json", tmp_path / ".claude/settings.local.json")
    assert settings_files({"HOME": "/h", "CLAUDE_CONFIG_DIR": "/c"}, tmp_path)[0] == Path("/c/settings.json")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe", b'{"env": 5}'])
def test_settings_files_that_are_none_count_as_empty(content, tmp_path):
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_bytes(content)
    assert variables(read_file(file) or {}) == {}


def test_variables_of_a_settings_file_are_strings_and_the_key_helper_is_among_them():
    found = variables({"env": {"A": 1, "B": "x"}, "apiKeyHelper": "helper"})
    assert found == {"A": "1", "B": "x", "apiKeyHelper": "helper"}
