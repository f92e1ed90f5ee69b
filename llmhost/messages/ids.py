"""Identifiers in the vendor's shape: a prefix and 24 base62 characters."""

from __future__ import annotations

import os

ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Each of the 256 values of a random byte as one of the 62 letters. Eight letters come up a little more often: 24 of them still hold
# more than 140 bits, and nothing but uniqueness depends on it.
LETTERS = (ALPHABET * 5)[:256]


def _base62(length: int = 24) -> str:
    return os.urandom(length).translate(LETTERS).decode()


def message_id() -> str:
    return f"msg_{_base62()}"


def tool_use_id() -> str:
    return f"toolu_{_base62()}"


def request_id() -> str:
    return f"req_{_base62()}"
