"""Lengths of time as users write them."""

from __future__ import annotations

import pytest

from llmhost.core import durations
from llmhost.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("4h", 14_400),
        ("2d", 172_800),
        ("1.5h", 5400),
        (" 4H ", 14_400),
        ("none", None),
        ("off", None),
    ],
)
def test_it_is_read(text, seconds):
    assert durations.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "h", "4 h", "-4h", "4w", "1h30m", "1e3s", "inf", "٤h"])
def test_anything_else_is_refused_with_examples(text):
    with pytest.raises(UsageError) as error:
        durations.seconds(text)
    assert error.value.code == "bad_duration"
    assert "4h" in error.value.hint


@pytest.mark.parametrize("text", ["90s", "30m", "4h", "2d", "none", "5400s"])
def test_what_is_written_is_read_again(text):
    assert durations.seconds(durations.words(durations.seconds(text))) == durations.seconds(text)


def test_it_is_written_in_the_largest_unit():
    assert [durations.words(each) for each in (5400, 7200, 86_400, 61, 0.5, None)] == [
        "90m",
        "2h",
        "1d",
        "61s",
        "0.5s",
        "none",
    ]
