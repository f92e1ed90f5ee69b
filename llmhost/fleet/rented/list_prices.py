"""What the same tokens would have cost elsewhere: the prices that `llmhost cost` claims a saving against, with their date and source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

AS_OF = "2026-10"
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class ListPrice:
    """USD for a million tokens; `reused` are prompt tokens that a cache of the provider's would have read."""

    name: str
    input_usd: float
    output_usd: float
    reused_usd: float
    source: str


# Anthropic's own pages of these models. Sonnet's price of a cache read was halved on 2026-10-07; what writing to the cache costs is left
# out. Both make the claim smaller.
PRICES = (
    ListPrice("Claude Opus 5.5", 4.0, 20.0, 0.20, "platform.claude.com: models/opus-5-5/overview"),
    ListPrice("Claude Sonnet 5.5", 2.0, 10.0, 0.10, "platform.claude.com: models/sonnet-5-5/overview"),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a gateway has counted since its start: prompt tokens that were read anew, reused ones, and answered ones."""

    input: int = 0
    reused: int = 0
    output: int = 0


def compared(tokens: Tokens, paid_usd: float | None) -> list[dict[str, Any]]:
    """Each list price with what these tokens would have cost, and what is left of that when `paid_usd` is taken off (None = not known)."""
    return [_compared(price, tokens, paid_usd) for price in PRICES]


def _compared(price: ListPrice, tokens: Tokens, paid_usd: float | None) -> dict[str, Any]:
    usd = tokens.input * price.input_usd + tokens.reused * price.reused_usd + tokens.output * price.output_usd
    there = usd / MILLION
    return {
        "name": price.name,
        "input_usd_per_mtok": price.input_usd,
        "reused_usd_per_mtok": price.reused_usd,
        "output_usd_per_mtok": price.output_usd,
        "as_of": AS_OF,
        "source": price.source,
        "would_have_cost_usd": round(there, 6),
        "saved_usd": None if paid_usd is None else round(there - paid_usd, 6),
    }
