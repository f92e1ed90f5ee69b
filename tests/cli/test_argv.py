"""The command line before any command sees it."""

from __future__ import annotations

import pytest

from llmhost.cli.argv import Invocation, parse_argv


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Invocation()),
        ("--help", Invocation(help=True)),
        ("-h", Invocation(help=True)),
        ("--version", Invocation(version=True)),
        ("status", Invocation("status")),
        ("--json status", Invocation("status", json=True)),
        ("status --json", Invocation("status", json=True)),
        ("status --watch --json --refresh", Invocation("status", ("--watch", "--refresh"), json=True)),
        ("-y up --model m -y", Invocation("up", ("--model", "m"), yes=True)),
        ("--fleet blue up", Invocation("up", fleet="blue")),
        ("up --fleet=blue --port=9", Invocation("up", ("--port=9",), fleet="blue")),
        ("--fleet a down --fleet b n1", Invocation("down", ("n1",), fleet="b")),
        ("cache --json stats", Invocation("cache", ("stats",), json=True)),
        ("--quiet --verbose --no-color status", Invocation("status", quiet=True, verbose=True, no_color=True)),
        ("up --help", Invocation("up", help=True)),
        ("ssh n1 -- ls --json", Invocation("ssh", ("n1", "--", "ls", "--json"))),
    ],
)
def test_global_options_are_taken_from_both_sides_of_the_command(line, expected):
    assert parse_argv(line.split()) == expected


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["-p", "hello", "--json"],
        ["--", "--yes"],
        ["-p", "", "--fleet", "x"],
        ["-y", "--quiet", "--", "a b", "ünï\tcode\n"],
        ["--settings={}", "--model=opus"],
        ["claude", "up"],
        [],
    ],
)
def test_after_claude_every_argument_is_claudes_own(args):
    found = parse_argv(["--verbose", "claude", *args])
    assert found == Invocation("claude", tuple(args), verbose=True)


def test_json_before_claude_is_ours():
    assert parse_argv(["--json", "claude", "-p", "x"]) == Invocation("claude", ("-p", "x"), json=True)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("--fleet", "--fleet needs a name"),
        ("--fleet= up", "--fleet needs a name"),
        ("up --fleet --json", "--fleet needs a name"),
        ("--json=yes up", "--json takes no value"),
        ("--nope up", "no such option before the command: --nope"),
        ("--model x up", "no such option before the command: --model"),
        ("-- up", "no such option before the command: --"),
    ],
)
def test_a_wrong_global_option_is_a_problem_that_is_told_in_the_form_asked_for(line, problem):
    found = parse_argv([*line.split(), "--json"])
    assert (found.problem, found.json) == (problem, True)
