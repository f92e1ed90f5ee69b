"""What the engine still knows of earlier prompts, kept in our own books.

Ollama counts a prompt's tokens but not how many of them it had to read: `prompt_eval_count` includes those it found in its cache. So we
remember what each slot of the engine holds, and with how many tokens, and compare. The same memory makes good estimates: of
a prompt that continues one already counted, only the new part has to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from llmhost.backends.ollama.codec import Encoded, Segment

REMEMBERED = 8
MOST_PIECES = 4_096
# Tokens for each byte of JSON, before anything was counted: Claude Code's first request, 47,654 bytes, has about 11.2 K, and code has more.
FIRST_GUESS = 0.28
SPARSEST = 0.1
GUESS_WEIGHT = 0.3  # of the newest count in the running average
OPENING = len('{"role":"user","content":"')  # what any two messages have in common
WORTH_COUNTING = 2_000  # bytes below which the template's own tokens outweigh the text


@dataclass(frozen=True, slots=True)
class Counted:
    """A prompt that Ollama has read, and what it wrote after it: `answer` as it would come back in the history. Tokens as Ollama counts."""

    segments: tuple[Segment, ...]
    size: int
    tokens: int
    answer: Segment | None = None
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Shared:
    """What a prompt has in common with an earlier one: bytes and tokens of its prompt, and tokens of its answer."""

    size: int = 0
    tokens: int = 0
    answer_tokens: int = 0
    whole: bool = False


NOTHING = Shared()
SIZE = attrgetter("size")


@dataclass(slots=True)
class PrefixBook:
    """Books over an engine with `slots` slots. `ratio` is tokens for each byte, `calibrated` once it was measured."""

    slots: int = 1
    ratio: float = FIRST_GUESS
    calibrated: bool = False
    _held: list[Counted] = field(default_factory=list)
    _recent: list[Counted] = field(default_factory=list)
    _asked: tuple[Encoded, Shared] | None = None
    _pieces: dict[bytes, Segment] = field(default_factory=dict)

    def known(self, encoded: Encoded) -> Encoded:
        """The same prompt made of the very objects that earlier ones are made of, where the pieces are equal.

        Conversations are compared several times a request; comparing an object with itself costs nothing, comparing 80 KB of text does.
        """
        return replace(encoded, segments=tuple([self._pieces.get(piece.key, piece) for piece in encoded.segments]))

    def estimate(self, encoded: Encoded) -> int:
        """Tokens of a prompt: of the part that was counted before, exactly; of the rest, by its size."""
        shared = self._nearest(encoded)
        return shared.tokens + round((encoded.size - shared.size) * self.ratio)

    def at_least(self, encoded: Encoded) -> int:
        """Tokens that a prompt has for certain, or as good as: no text that is not mostly blanks has fewer for its size."""
        shared = self._nearest(encoded)
        if not shared.whole:  # the tokens of a part of a counted prompt are only its share by size
            return round(encoded.size * SPARSEST)
        return shared.tokens + round((encoded.size - shared.size) * SPARSEST)

    def counted(self, encoded: Encoded) -> int | None:
        """The count of this very prompt, if it was counted before."""
        return next((entry.tokens for entry in self._recent if entry.segments == encoded.segments), None)

    def reused(self, encoded: Encoded, tokens: int) -> int:
        """Of a prompt's `tokens`, those the engine holds at this moment. It always reads at least one anew."""
        shared = _best(self._held, encoded)
        return max(0, min(shared.tokens + shared.answer_tokens, tokens - 1))

    def record(
        self,
        encoded: Encoded,
        tokens: int,
        answer: Segment | None = None,
        answer_tokens: int = 0,
        *,
        exact: bool = True,
    ) -> None:
        """The engine has read this prompt and now holds it. `exact` False: `tokens` is our own estimate."""
        entry = Counted(encoded.segments, encoded.size, tokens, answer, answer_tokens)
        continued = next((old for old in self._held if _continues(encoded, old)), None)
        self._held = [*(old for old in self._held if old is not continued), entry][-self.slots :]
        if not exact:
            return
        # A prompt that this one continues has served its purpose; so one conversation takes one place.
        self._recent = [*(old for old in self._recent if not _continues(encoded, old)), entry][-REMEMBERED:]
        self._asked = None
        self._learn(encoded)
        if encoded.size >= WORTH_COUNTING:
            self._calibrate(tokens / encoded.size)

    def forget(self) -> None:
        """The engine was restarted or has loaded the model anew: its cache is empty. What was counted stays right."""
        self._held = []

    def _learn(self, encoded: Encoded) -> None:
        if len(self._pieces) > MOST_PIECES:
            self._pieces = {piece.key: piece for entry in self._recent for piece in entry.segments}
        self._pieces.update((piece.key, piece) for piece in encoded.segments)

    def _nearest(self, encoded: Encoded) -> Shared:
        """The best of what was counted; the same prompt is asked about several times before it is sent."""
        if self._asked is None or self._asked[0] is not encoded:
            self._asked = (encoded, _best(self._recent, encoded))
        return self._asked[1]

    def _calibrate(self, ratio: float) -> None:
        self.ratio = ratio if not self.calibrated else self.ratio + GUESS_WEIGHT * (ratio - self.ratio)
        self.calibrated = True


def _continues(encoded: Encoded, entry: Counted) -> bool:
    return encoded.segments[: len(entry.segments)] == entry.segments


def _best(entries: list[Counted], encoded: Encoded) -> Shared:
    """Of the entry with the most whole pieces in common; only for that one is the piece that differs looked into."""
    if not entries:
        return NOTHING
    return _shared(max(entries, key=lambda entry: common_length(entry.segments, encoded.segments)), encoded)


def _shared(entry: Counted, encoded: Encoded) -> Shared:
    """Whole pieces in common, then the common beginning of the first piece that differs."""
    old, new = entry.segments, encoded.segments
    count = common_length(old, new)
    size = sum(map(SIZE, new[:count]))
    if count < len(old):
        if count < len(new):
            size += max(0, common_length(old[count].key, new[count].key) - OPENING)
        return Shared(size, round(entry.tokens * size / max(1, entry.size)))
    following = new[count].key if count < len(new) else b""
    return Shared(size, entry.tokens, _echoed(entry, following), whole=True)


def _echoed(entry: Counted, following: bytes) -> int:
    """Tokens of the answer that the next piece repeats: the engine wrote them itself and so need not read them."""
    if entry.answer is None:
        return 0
    common = common_length(entry.answer.key, following)
    return round(entry.answer_tokens * common / max(1, len(entry.answer.key)))


def common_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common beginning, found by halving: comparing slices is C, comparing item by item is not."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
