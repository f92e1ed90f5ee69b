"""Where things are kept, and that two installations never meet on one socket."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from llmhost.core import secrets
from llmhost.core.errors import LlmhostError
from llmhost.core.paths import MAX_SOCKET_PATH, Paths

ROOT = Path(__file__).parents[2]
HOME = pwd.getpwuid(os.getuid()).pw_dir


def paths_of(**environ):
    return Paths.from_environment({"HOME": HOME, **{name: str(value) for name, value in environ.items()}})


def test_the_usual_state_directory_has_its_sockets_where_the_contract_says():
    assert paths_of(XDG_RUNTIME_DIR="/run/user/7").control_socket == Path("/run/user/7/llmhost/supervisor.sock")


@pytest.mark.parametrize("other", [{"XDG_STATE_HOME": "/elsewhere"}, {"HOME": "/home/of-a-test"}])
def test_another_state_directory_has_other_sockets_under_the_same_runtime_folder(other):
    usual, another = paths_of(XDG_RUNTIME_DIR="/run/user/7"), paths_of(XDG_RUNTIME_DIR="/run/user/7", **other)
    assert another.control_socket != usual.control_socket
    assert another.node_socket("n1") != usual.node_socket("n1")
    assert another.control_socket.is_relative_to("/run/user/7/llmhost")


def test_a_state_directory_has_the_same_sockets_by_whichever_name(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "name").symlink_to("real")
    for runtime in ({}, {"XDG_RUNTIME_DIR": "/run/user/7"}):
        found = {paths_of(XDG_STATE_HOME=tmp_path / name, **runtime).control_socket for name in ("real", "name")}
        assert len(found) == 1


def test_a_long_path_gets_a_short_stand_in_that_does_not_depend_on_tmpdir(tmp_path):
    environ = {"HOME": HOME, "XDG_RUNTIME_DIR": "/run/" + "x" * 80}
    here = Paths.from_environment(environ).node_socket("0123456789")
    code = "from llmhost.core.paths import Paths; print(Paths.from_environment().node_socket('0123456789'), end='')"
    argv, environ = [sys.executable, "-c", code], {**environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    there = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True).stdout
    assert there == str(here)
    assert len(os.fsencode(here)) <= MAX_SOCKET_PATH


def test_a_socket_under_the_longest_folder_that_is_used_still_fits():
    for length in range(1, 90):
        node = paths_of(XDG_RUNTIME_DIR="/" + "x" * length, XDG_STATE_HOME="/elsewhere").node_socket("0123456789")
        assert len(os.fsencode(node)) <= MAX_SOCKET_PATH


def test_a_relative_folder_is_ignored():
    relative = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"), "here")
    assert paths_of(**relative) == paths_of()


def test_a_state_directory_that_is_a_link_works(short_tmp):
    (short_tmp / "real").mkdir()
    (short_tmp / "s").mkdir()
    (short_tmp / "s" / "llmhost").symlink_to(short_tmp / "real")
    paths_of(XDG_STATE_HOME=short_tmp / "s").create()
    assert (short_tmp / "real" / "logs").is_dir()
    assert (short_tmp / "real").stat().st_mode & 0o777 == 0o700


def test_a_runtime_folder_that_is_a_link_is_refused_with_the_true_reason(short_tmp):
    paths = paths_of(XDG_STATE_HOME=short_tmp / "s", XDG_RUNTIME_DIR=short_tmp)
    paths.runtime_dir.parent.mkdir()
    paths.runtime_dir.symlink_to(short_tmp)
    with pytest.raises(LlmhostError) as failure:
        paths.create()
    assert failure.value.code == "state_unsafe"
    assert f"{paths.runtime_dir} is a symbolic link" in failure.value.message


def test_a_folder_named_like_ours_above_the_state_is_not_touched(short_tmp):
    theirs = short_tmp / "llmhost"
    theirs.mkdir(mode=0o755)
    theirs.chmod(0o755)
    paths_of(XDG_STATE_HOME=theirs).create()
    assert theirs.stat().st_mode & 0o777 == 0o755


def test_a_secret_that_is_no_text_is_a_clear_error(tmp_path):
    (tmp_path / "token").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LlmhostError) as failure:
        secrets.read(tmp_path / "token")
    assert (failure.value.code, failure.value.exit_code) == ("state_unreadable", 1)
    assert str(tmp_path / "token") in failure.value.message
