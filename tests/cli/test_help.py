"""Help and version: complete, with examples, and at no cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmhost.cli.registry import COMMANDS, LATER
from tests.support.stack import LLMHOST

HEAVY = (
    "vastai",
    "paramiko",
    "fastapi",
    "redis",
    "pydantic",
    "httpx",
    "rich",
    "typer",
    "asyncio",
    "uvicorn",
    "aiohttp",
)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["--json", "--version"], ["stauts"], ["scale"]])
def test_the_cheap_answers_import_nothing_heavy(args):
    loaded = modules_after(*args)
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)
    assert "llmhost.cli.main" in loaded


def modules_after(*args):
    """The modules that are loaded when a command line has run."""
    code = "import sys; from llmhost.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "claude"])
def test_no_help_of_a_command_imports_what_the_command_needs(name):
    loaded = modules_after(*name.split(), "--help")
    assert loaded.isdisjoint({"fastapi", "redis", "httpx", "rich", "uvicorn"})  # pydantic is typer's own wish


def test_help_goes_to_standard_output_and_lists_what_is_there_and_nothing_else(llmhost):
    code, out, err = llmhost("--help")
    assert (code, err) == (0, "")
    listed = out.partition("Commands:")[2].partition("Options,")[0]
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert not any(f"  {name} " in listed for name in LATER)
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) <= 100


def test_no_command_at_all_is_the_help(llmhost):
    assert llmhost()[:2] == llmhost("--help")[:2]


def test_the_version_is_one_line(llmhost):
    code, out, _ = llmhost("--version")
    assert (code, out.split()[0], out.count("\n")) == (0, "llmhost", 1)
    assert llmhost("status", "--version")[1] == out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "claude"])
def test_every_command_has_a_help_with_examples(name, llmhost):
    code, out, _ = llmhost(*name.split(), "--help")
    assert code == 0
    assert out.startswith(f"Usage: llmhost {name}")
    examples = out.partition("Examples:\n")[2].splitlines()
    assert 1 <= len(examples) <= 3
    assert all("llmhost" in example for example in examples)


def test_the_help_of_claude_is_ours_only_before_the_word(llmhost):
    _, out, _ = llmhost("--help", "claude")
    assert out.startswith("Usage: llmhost claude")


@pytest.mark.parametrize(
    ("line", "meant"), [("stauts", "status"), ("dwon", "down"), ("config shwo", "config show"), ("cahce", "cache")]
)
def test_a_typo_gets_the_command_that_was_meant(line, meant, llmhost):
    code, out, err = llmhost(*line.split())
    assert (code, out) == (2, "")
    assert f"Did you mean `llmhost {meant}`?" in err


@pytest.mark.parametrize("name", LATER)
def test_what_comes_later_says_so_in_one_line(name, llmhost):
    code, out, err = llmhost(*name.split(), "x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "later release" in err
    assert name in err


def test_a_mistyped_option_names_the_help(llmhost):
    code, _, err = llmhost("status", "--refrseh")
    assert code == 2
    assert "--refresh" in err
    assert "llmhost status --help" in err


@pytest.mark.parametrize("module", [False, True])
def test_the_program_and_the_module_are_the_same(module):
    command = [sys.executable, "-m", "llmhost"] if module else [LLMHOST]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.startswith("llmhost ")) == (0, True)


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(f"'{LLMHOST}' --help | head -1", shell=True, capture_output=True, text=True)
    assert (done.stdout.startswith("llmhost"), done.stderr) == (True, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_crash(closed, home):
    done = subprocess.run(f"'{LLMHOST}' config path {closed}", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
