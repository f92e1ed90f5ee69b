"""Identifiers in the vendor's shape: a prefix and 24 base62 characters."""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _base62(length: int = 24) -> str:
    number = secrets.randbits(6 * length)
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(digits)


def message_id() -> str:
    return f"msg_{_base62()}"


def tool_use_id() -> str:
    return f"toolu_{_base62()}"


def request_id() -> str:
    return f"req_{_base62()}"
