"""What is said when there is nothing to rent: why, and what to ask for instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from llmhost.core.errors import LlmhostError, NothingSuitable, UsageError
from llmhost.fleet.rented import gpu_names
from llmhost.fleet.rented.ranking import Rejected
from llmhost.fleet.rented.relax import Relaxation
from llmhost.providers.market import OfferWish

# So many ways out in one hint.
SHOWN = 3
SHOWN_REASONS = 4
# Of how many offers: by the code of what speaks against them.
REASONS = {
    "other_offer": "other offers",
    "gpu": "another card",
    "gpus": "with several cards",
    "not_rentable": "not to be had now",
    "rented": "rented already",
    "vram": "with too little graphics memory",
    "cuda": "with too old a driver",
    "no_port": "without an open port",
    "memory": "with too little memory",
    "down": "with too slow a line",
    "static_ip": "without a fixed address",
    "reliability": "too unreliable",
    "trust": "not trusted enough",
    "region": "elsewhere",
    "price": "too dear",
    "ends": "not for so long",
    "disk": "with too small a disk",
    "failed_lately": "failed lately",
    "same_machine": "on a machine that has a better one",
}


def described(wish: OfferWish) -> str:
    """`RTX 4090`, `H100 PCIE, H100 SXM or H100 NVL`, `any card`, `offer 123`."""
    if wish.offer_id is not None:
        return f"offer {wish.offer_id}"
    *first, last = wish.gpus or ("any card",)
    return f"{', '.join(first)} or {last}" if first else last


def why_not(rejected: Sequence[Rejected]) -> list[dict[str, Any]]:
    """`{"code", "offers", "text", "example"}` for each thing that speaks against any, the most frequent first.

    An offer counts for everything against it.
    """
    counts = Counter(reason.code for each in rejected for reason in each.reasons)
    example = {reason.code: reason.text for each in reversed(rejected) for reason in each.reasons}
    return [
        {"code": code, "offers": number, "text": REASONS.get(code, code), "example": example[code]}
        for code, number in counts.most_common()
    ]


def counted(rejected: Sequence[Rejected]) -> str:
    """`12 too unreliable, 3 too dear`."""
    found = why_not(rejected)
    more = ["…"] if len(found) > SHOWN_REASONS else []
    return ", ".join([f"{each['offers']} {each['text']}" for each in found[:SHOWN_REASONS]] + more)


def none_fits(wish: OfferWish, rejected: Sequence[Rejected], relax: Sequence[Relaxation]) -> NothingSuitable:
    """`no_offer`: there are some, and none is as wished; the hint has the nearest."""
    hint = "; ".join(each.text for each in relax[:SHOWN]) or _elsewhere(wish, "No single wish given up would help; try")
    if wish.offer_id is not None:
        why = "; ".join(reason.text for each in rejected for reason in each.reasons)
        return NothingSuitable(f"offer {wish.offer_id} {why}.", hint=hint, code="no_offer")
    return NothingSuitable(
        f"none of {len(rejected)} offers for {described(wish)} is as wished: {counted(rejected)}.",
        hint=hint,
        code="no_offer",
    )


def none_there(wish: OfferWish, gpu: str | None) -> LlmhostError:
    """`no_offer`, or UsageError (`unknown_gpu`) for a card (`gpu` as it was written) that neither the market nor we know."""
    if wish.offer_id is not None:
        return _gone(wish)
    if gpu and not gpu_names.is_known(gpu):
        return _unknown(gpu)
    return NothingSuitable(f"nobody offers {described(wish)} now.", hint=_elsewhere(wish, "Try"), code="no_offer")


def _gone(wish: OfferWish) -> NothingSuitable:
    return NothingSuitable(
        f"offer {wish.offer_id} is not on the market (any more).", hint="See what is: llmhost offers", code="no_offer"
    )


def _unknown(gpu: str) -> UsageError:
    near = gpu_names.near_names(gpu)
    hint = f"Did you mean --gpu {' or '.join(near)}?" if near else "Write it as the market does: RTX_4090, H100, L40S."
    return UsageError(
        f"nobody offers a card called {gpu}, and none is known by that name.", hint=hint, code="unknown_gpu"
    )


def _elsewhere(wish: OfferWish, words: str) -> str:
    cards = gpu_names.at_least(wish.min_vram_mb)
    other = next((name for name in cards if not set(gpu_names.market_names(name)) & set(wish.gpus)), None)
    return f"{words}: llmhost offers --gpu {other}" if other else "See the others: llmhost offers --all"
