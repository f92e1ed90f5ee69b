"""Writing the configuration: whole, private, never over what is there."""

from __future__ import annotations

import os
import signal
import subprocess
import tomllib

import pytest

from llmhost.cli.config_file import render
from tests.support.stack import LLMHOST
from tests.support.terminal import Terminal


def read(home):
    return tomllib.loads(home.config_file.read_text())


def test_options_are_written_and_read_back_as_settings(llmhost, home):
    line = "config init --provider local --model qwen3:8b --context 32768 --gateway-port 8123 --redis-url rediss://u:p%40@h:1"
    code, out, _ = llmhost(*line.split())
    assert (code, out) == (0, f"wrote {home.config_file}\n")
    assert read(home) == {
        "provider": "local",
        "model": "qwen3:8b",
        "context": 32768,
        "gateway": {"port": 8123},
        "redis": {"url": "rediss://u:p%40@h:1"},
    }
    assert home.config_file.stat().st_mode & 0o777 == 0o600
    _, shown, _ = llmhost("config", "show")
    assert "qwen3:8b" in shown
    assert "p%40" not in shown


def test_nothing_given_is_a_file_of_defaults(llmhost, home):
    assert llmhost("config", "init", "--skip-redis", "--yes")[0] == 0
    assert read(home) == {}


def test_a_file_that_is_there_is_left_alone_and_with_force_it_is_kept(llmhost, home):
    home.config_file.parent.mkdir(parents=True)
    home.config_file.write_text("# mine\n")
    code, _, err = llmhost("config", "init", "--model", "m")
    assert code == 1
    assert "--force" in err
    assert home.config_file.read_text() == "# mine\n"
    code, out, _ = llmhost("config", "init", "--model", "m", "--force")
    assert code == 0
    kept = home.config_file.with_suffix(".toml.old")
    assert str(kept) in out
    assert kept.read_text() == "# mine\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read(home) == {"model": "m"}


@pytest.mark.parametrize(
    "option", [("--gateway-port", "0"), ("--backend", "gpt"), ("--ollama-host", "ftp://x"), ("--context", "-1")]
)
def test_a_value_that_could_not_be_read_again_is_never_written(option, llmhost, home):
    assert llmhost("config", "init", *option)[0] == 2
    assert not home.config_file.exists()


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(llmhost, home):
    home.root.joinpath("config").write_text("a file where the folder should be")
    code, _, err = llmhost("config", "init", "--model", "m")
    assert code == 1
    assert "XDG_CONFIG_HOME" in err


def test_a_redis_beyond_this_machine_in_plain_text_is_warned_of(llmhost):
    _, _, err = llmhost("config", "init", "--redis-url", "redis://cache.example:6379")
    assert "unencrypted" in err


def test_the_redis_url_may_come_from_standard_input_so_that_no_argument_shows_it(home):
    done = subprocess.run(
        [LLMHOST, "config", "init", "--redis-url", "-"], input="rediss://:secret@h\n", text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert read(home) == {"redis": {"url": "rediss://:secret@h"}}


def test_no_redis_url_on_standard_input_is_an_error(home):
    done = subprocess.run([LLMHOST, "config", "init", "--redis-url", "-"], input="\n", text=True, capture_output=True)
    assert done.returncode == 2
    assert "standard input" in done.stderr
    assert not home.config_file.exists()


def test_every_file_that_was_replaced_is_kept(llmhost, home):
    home.config_file.parent.mkdir(parents=True)
    home.config_file.write_text("# mine\n")
    for model in ("a", "b", "c"):
        assert llmhost("config", "init", "--model", model, "--force")[0] == 0
    kept = {file.read_text() for file in home.config_file.parent.glob("config.toml.*")}
    assert len(kept) == 3
    assert "# mine\n" in kept


def test_on_a_terminal_it_asks_for_what_no_option_gives(home):
    with Terminal([LLMHOST, "config", "init", "--model", "m:1"], dict(os.environ), home.root) as terminal:
        terminal.wait_for("Where do nodes run")
        terminal.type("\r")
        terminal.wait_for("Where is Ollama? [127.0.0.1:11434]")
        terminal.type("box:1234\r")
        terminal.wait_for("Which port for the gateway")
        terminal.type("8123\r")
        terminal.wait_for("Redis URL")
        terminal.type("redis://:hidden@localhost\r")
        assert terminal.wait_exit() == 0
        assert "hidden" not in terminal.text
    assert read(home) == {
        "provider": "local",
        "model": "m:1",
        "ollama": {"host": "box:1234"},
        "gateway": {"port": 8123},
        "redis": {"url": "redis://:hidden@localhost"},
    }


def test_questions_broken_off_write_nothing(home):
    with Terminal([LLMHOST, "config", "init"], dict(os.environ), home.root) as terminal:
        terminal.wait_for("Where do nodes run")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait_exit() == 130
    assert not home.config_file.exists()


@pytest.mark.parametrize("value", ['a"b', "back\\slash", "ünï ☃ 𝄞", "tab\tnewline\n", "\x7f\x01", "#no comment", "''"])
def test_any_text_survives_the_file(value):
    assert tomllib.loads(render({"model": value, "claude_bin": value})) == {"model": value, "claude": {"bin": value}}
