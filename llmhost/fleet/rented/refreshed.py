"""What came of asking the market anew."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmhost.fleet.rented.books import Books


@dataclass(frozen=True, slots=True)
class Refreshed:
    """`warnings` are sentences about what was in the way; `books` what is known now, where no ledger could keep it."""

    warnings: list[str] = field(default_factory=list)
    books: Books | None = None
