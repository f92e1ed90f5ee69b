"""Every error a command can end with.

    LlmhostError            exit 1   failed
    ├── UsageError          exit 2   usage
    ├── NothingSuitable     exit 3   nothing suitable, or over budget
    ├── AuthenticationNeeded exit 4
    ├── Unavailable         exit 5   provider or network
    ├── StillBilling        exit 6   something still bills
    ├── NotReady            exit 7   not ready, or timed out
    └── Interrupted         exit 130

An error says what happened (`message`), how to get out (`hint`, ideally one command) and carries a stable `code` for scripts.
The exit codes are those of the public contract.
"""

from __future__ import annotations

from typing import ClassVar


class LlmhostError(Exception):
    """Base of all errors that are shown to a user. `code` is stable, `message` and `hint` are for people."""

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def as_dict(self) -> dict[str, str]:
        """The shape of one element of the JSON envelope's `errors`."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def parts(self) -> list[LlmhostError]:
        """The errors it is made of: itself, unless several things failed at once."""
        return [self]


class UsageError(LlmhostError):
    exit_code = 2
    default_code = "usage"


class NothingSuitable(LlmhostError):
    exit_code = 3
    default_code = "nothing_suitable"


class AuthenticationNeeded(LlmhostError):
    exit_code = 4
    default_code = "authentication_needed"


class Unavailable(LlmhostError):
    exit_code = 5
    default_code = "unavailable"


class StillBilling(LlmhostError):
    exit_code = 6
    default_code = "still_billing"


class NotReady(LlmhostError):
    exit_code = 7
    default_code = "not_ready"


class Interrupted(LlmhostError):
    exit_code = 130
    default_code = "interrupted"
