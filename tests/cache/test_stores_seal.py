"""Values in a shared server: what others changed there is never opened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.sealing import MAC_BYTES, Seal

SEAL = Seal(b"secret")


@given(
    key=st.text(max_size=40),
    value=st.binary(max_size=3_000) | st.binary(min_size=1, max_size=20).map(lambda part: part * 200),
)
def test_what_is_closed_can_be_opened(key: str, value: bytes) -> None:
    assert SEAL.open(key, SEAL.close(key, value)) == value


@given(position=st.integers(0, 2_000), flip=st.integers(1, 255), value=st.binary(max_size=600))
def test_one_changed_byte_and_it_stays_closed(position: int, flip: int, value: bytes) -> None:
    sealed = bytearray(SEAL.close("key", value))
    sealed[position % len(sealed)] ^= flip
    assert SEAL.open("key", bytes(sealed)) is None


@given(junk=st.binary(max_size=200))
def test_junk_stays_closed(junk: bytes) -> None:
    assert SEAL.open("key", junk) is None


def test_a_value_opens_under_its_own_key_only() -> None:
    sealed = SEAL.close("key", b"value")
    assert SEAL.open("yek", sealed) is None
    assert SEAL.open("", sealed) is None


def test_another_secret_opens_nothing() -> None:
    assert Seal(b"another").open("key", SEAL.close("key", b"value")) is None


def test_text_is_compressed_and_noise_is_not() -> None:
    text, noise = b"the same words again and again " * 100, bytes(range(256)) * 2
    assert len(SEAL.close("key", text)) < len(text) / 2
    assert len(SEAL.close("key", noise[:300])) == 300 + MAC_BYTES + 1


def test_the_secret_does_not_show() -> None:
    assert "secret" not in repr(SEAL)
