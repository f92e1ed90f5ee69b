"""The language of `@rehearse` lines."""

from __future__ import annotations

import pytest

from llmhost.backends.rehearsal.directives import (
    Cut,
    DirectiveError,
    Fail,
    Overflow,
    Pace,
    Say,
    Stall,
    Think,
    Tool,
    Words,
    lines_of,
    parse_line,
)


def test_only_lines_that_begin_with_the_word_are_directives():
    text = "do this:\n@rehearse say a\n  @rehearse say b  \nnot @rehearse say c\n@rehearsed say d\n@rehearse\n"
    assert lines_of(text) == ["say a", "say b", ""]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("say hello there", [Say("hello there")]),
        ("think  hmm ", [Think("hmm")]),
        ("words 12; pace 2.5", [Words(12), Pace(0.0025)]),
        ("stall 3 ; fail 529", [Stall(3), Fail(529)]),
        ("cut 4;overflow;", [Cut(4), Overflow()]),
        ("tool Bash", [Tool("Bash", {})]),
        ("tool Bash; tool Read {}", [Tool("Bash", {}), Tool("Read", {})]),
        ('tool mcp__x__y{"a": 1}', [Tool("mcp__x__y", {"a": 1})]),
        ('tool Bash {"command": "a; say b"} ; say c', [Tool("Bash", {"command": "a; say b"}), Say("c")]),
        ('tool Write {"text": "\\"; tool x {}"}; tool B {"n": [1, {"m": ";"}]}',
         [Tool("Write", {"text": '"; tool x {}'}), Tool("B", {"n": [1, {"m": ";"}]})]),
        ('say {"a": "b; say c"}; words 1', [Say('{"a": "b; say c"}'), Words(1)]),
        ('say one; two; say three', [Say("one; two"), Say("three")]),
        ('say don\'t; say "really', [Say("don't"), Say('"really')]),
        ('say the "tool; say" box; pace 5', [Say('the "tool; say" box'), Pace(0.005)]),
        ('say "line\\nline; say \\"x\\""; words 2', [Say('line\nline; say "x"'), Words(2)]),
        ("say sayings; saying more", [Say("sayings; saying more")]),
        ('say ""', [Say("")]),
        ("say", [Say("")]),
        ("say ü; think ß", [Say("ü"), Think("ß")]),
    ],
)  # fmt: skip
def test_lines_are_read(line, expected):
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "expected a directive"),
        ("bogus 3", "'bogus' is none of tool, say"),
        ("tool", "a tool's name"),
        ("tool Bash {oops}", "not JSON"),
        ("tool Bash {", "not JSON"),
        ("tool Bash [1]", "must be a JSON object"),
        ('tool Bash {"a": 1} extra', "expected ';' before 'extra'"),
        ("pace", "a number after 'pace'"),
        ("pace fast", "not 'fast'"),
        ("pace -1", "from 0"),
        ("pace nan", "not 'nan'"),
        ("words 1.5", "whole number"),
        ("words 1e9", "1000000"),
        ("stall inf", "not 'inf'"),
        ("fail 200", "from 400 to 599"),
        ("cut 3 4", "expected ';' before '4'"),
        ("overflow now", "expected ';' before 'now'"),
        ("; say a", "expected a directive"),
    ],
)
def test_a_mistake_is_named_with_its_line(line, why):
    with pytest.raises(DirectiveError) as caught:
        parse_line(line)
    assert why in str(caught.value)
    assert str(caught.value).startswith(f"@rehearse {line[:40]}")


@pytest.mark.parametrize("value", ["[" * 100_000, "[" * 400 + "]" * 400 + "}", '"\\ud800"}', "1" * 30 + "}"])
def test_an_input_that_cannot_be_sent_is_a_mistake_and_not_a_crash(value):
    with pytest.raises(DirectiveError):
        parse_line('tool X {"a": ' + value)


def test_half_a_character_is_replaced():
    assert parse_line('say "a\\ud800b"') == [Say("a\ufffdb")]
