"""The books over what the engine holds."""

from __future__ import annotations

import pytest

from llmhost.backends.ollama.codec import Encoded, Segment
from llmhost.backends.ollama.prefixes import FIRST_GUESS, PrefixBook, common_length


def prompt(*pieces: str) -> Encoded:
    keys = [piece.encode() * 100 for piece in pieces]
    return Encoded("/api/chat", b"", tuple(Segment(key, len(key)) for key in keys), 100)


def answer(words: str) -> Segment:
    return Segment(words.encode() * 100, len(words) * 100)


def test_a_continued_conversation_reuses_its_prompt_and_its_answer() -> None:
    book = PrefixBook()
    assert book.reused(prompt("system", "question"), 50) == 0
    book.record(prompt("system", "question"), 50, answer("reply"), 9)
    assert book.reused(prompt("system", "question", "reply", "more"), 90) == 59


def test_an_answer_that_comes_back_changed_is_partly_reused() -> None:
    book = PrefixBook()
    book.record(prompt("system", "question"), 50, answer("x"), 10)
    assert book.reused(prompt("system", "question", "other"), 90) == 50
    half = Encoded("", b"", (*prompt("system", "question").segments, Segment(b"x" * 50 + b"y", 51)), 1)
    assert book.reused(half, 90) == 55


def test_the_same_prompt_again_leaves_one_token_to_read() -> None:
    book = PrefixBook()
    book.record(prompt("system"), 50)
    assert book.reused(prompt("system"), 50) == 49


def test_one_slot_holds_one_conversation() -> None:
    book = PrefixBook(slots=1)
    book.record(prompt("a", "1"), 50)
    book.record(prompt("b", "1"), 50)
    assert book.reused(prompt("a", "1", "2"), 70) == 0
    assert book.reused(prompt("b", "1", "2"), 70) == 50


def test_two_slots_hold_two() -> None:
    book = PrefixBook(slots=2)
    book.record(prompt("a", "1"), 50)
    book.record(prompt("b", "1"), 50)
    book.record(prompt("b", "1", "2"), 70)
    assert book.reused(prompt("a", "1", "2"), 70) == 50
    assert book.reused(prompt("b", "1", "2", "3"), 90) == 70


def test_a_prompt_that_differs_in_the_middle_shares_its_beginning() -> None:
    book = PrefixBook()
    book.record(prompt("system", "abcdef"), 120)
    assert book.reused(prompt("system", "other"), 100) == 60


def test_a_restarted_engine_holds_nothing_but_counts_stay_right() -> None:
    book = PrefixBook()
    book.record(prompt("system"), 50)
    book.forget()
    assert book.reused(prompt("system"), 50) == 0
    assert book.counted(prompt("system")) == 50


def test_estimates_learn_from_counts() -> None:
    book = PrefixBook()
    long = prompt("a" * 40)
    assert book.estimate(long) == round(4000 * FIRST_GUESS)
    book.record(prompt("b" * 40), 1000)
    assert book.estimate(long) == 1000
    assert book.estimate(prompt("b" * 40, "c" * 4)) == 1100
    assert book.counted(prompt("b" * 40)) == 1000
    assert book.counted(long) is None


def test_our_own_guesses_are_not_learned_from() -> None:
    book = PrefixBook()
    book.record(prompt("b" * 40), 7, exact=False)
    assert book.counted(prompt("b" * 40)) is None
    assert not book.calibrated


def test_a_lower_bound_is_below_any_real_text() -> None:
    book = PrefixBook()
    assert book.at_least(prompt("a" * 40)) == 400
    book.record(prompt("a" * 40), 1300)
    assert book.at_least(prompt("a" * 40, "b" * 10)) == 1400


@pytest.mark.parametrize(
    ("one", "other", "length"), [(b"", b"x", 0), (b"abc", b"abd", 2), (b"ab", b"abc", 2), (b"x", b"y", 0)]
)
def test_common_length(one: bytes, other: bytes, length: int) -> None:
    assert common_length(one, other) == common_length(other, one) == length
