"""Stop sequences in a text that comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.backends.ollama.stops import StopMatcher


def shown(stops: tuple[str, ...], *pieces: str) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    text = "".join(map(matcher.feed, pieces))
    return text + matcher.rest(), matcher.matched


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["one</block>two"], ("one", "</block>")),
        (["one</bl", "ock>two"], ("one", "</block>")),
        (["<", "/", "block", ">"], ("", "</block>")),
        (["</blo", "x"], ("</blox", None)),
        (["</block"], ("</block", None)),
        (["a</</block>b", "c"], ("a</", "</block>")),
        (["one STOP two</block>"], ("one ", "STOP")),
    ],
)
def test_examples(pieces: list[str], expected: tuple[str, str | None]) -> None:
    assert shown(("</block>", "STOP"), *pieces) == expected


def test_without_stops_everything_passes_at_once() -> None:
    assert StopMatcher(()).feed("any") == "any"


def test_what_cannot_be_a_stop_is_not_held_back() -> None:
    assert StopMatcher(("</block>",)).feed("hello") == "hello"


letters = st.text("ab", max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(letters, max_size=6), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_where_the_text_is_cut_into_pieces_hides_no_stop(pieces: list[str], stops: list[str]) -> None:
    text, matched = shown(tuple(stops), *pieces)
    whole = "".join(pieces)
    if matched is None:
        assert text == whole
        assert not any(stop in whole for stop in stops)
    else:
        assert whole.startswith(text + matched)
        assert not any(stop in text for stop in stops)
