"""What is asked for of a fleet that may be up already: what was not said is as it was asked for then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmhost.core import durations
from llmhost.core.rentals import Terms
from llmhost.fleet.plan import INHERITED, UpRequest
from llmhost.fleet.rented.request import RentWish, from_settings

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# A wish's fields, by the setting that holds each.
SETTINGS = {
    "gpu": "gpu",
    "backend": "backend",
    "model": "model",
    "context": "context",
    "max_price": "max_price",
    "budget": "budget",
    "lease_s": "lease",
    "idle_s": "idle",
    "regions": "regions",
    "trust": "trust",
    "min_reliability": "min_reliability",
    "disk_gb": "disk",
    "image": "image",
}
# What only says which machine is rented, and so is nothing for one that is: a field, and its option.
OF_THE_OFFER = {
    "max_price": "--max-price",
    "regions": "--region",
    "trust": "--trust",
    "min_reliability": "--min-reliability",
    "disk_gb": "--disk",
    "image": "--image",
}
# Another backend brings its own model, another model its own window and disk.
_BRINGS = {"backend": ("model", "context", "disk_gb", "gpu"), "model": ("context", "disk_gb", "backend")}


def wish_for(request: UpRequest, settings: Settings, terms: Terms | None, there: int) -> RentWish:
    """The wish. `terms` are those of the fleet that is up (None = none is), which has `there` nodes: fewer are not asked for here."""
    count = max(request.count or there or 1, there)
    wish = from_settings(settings, request.offer_id, count)
    if terms is None:
        return wish
    known = _known(terms.wish)
    inherited = {name: known[name] for name in SETTINGS if name in known and not _is_said(name, settings, known)}
    return replace(wish, **inherited)


def sources_of(request: UpRequest, settings: Settings, terms: Terms | None) -> dict[str, str]:
    """Who wants each value, by the setting's name."""
    known = _known(terms.wish) if terms else {}
    return {
        setting: INHERITED if name in known and not _is_said(name, settings, known) else settings.source(setting)
        for name, setting in SETTINGS.items()
    } | {"count": "flag" if request.count is not None else "default"}


def terms_for(
    fleet: str, wish: RentWish, settings: Settings, there: Terms | None, now: float
) -> tuple[Terms, tuple[str, ...]]:
    """The terms that hold from now on, and sentences about what `up` does not change. `now` in seconds since 1970."""
    if there is None:
        ends = None if wish.lease_s is None else _time(now + wish.lease_s)
        return Terms(fleet, ends, wish.budget, wish.idle_s, wish.max_price, wish=wish.as_dict()), ()
    known = _known(there.wish)
    notes = []
    if settings.source("lease") != "default" and wish.lease_s != known.get("lease_s"):
        notes.append(f"the lease's end stays as it is; to move it: llmhost extend {durations.words(wish.lease_s)}")
    if wish.idle_s != there.idle_s:
        notes.append(
            "the idle time of machines that are rented stays as it is; new ones get the one that was asked for."
        )
    others = [option for name, option in OF_THE_OFFER.items() if name in known and known[name] != getattr(wish, name)]
    if others:
        notes.append(
            f"{', '.join(others)}: what is rented already stays as it is; that holds for what is rented from now on."
        )
    kept = {**wish.as_dict(), "lease_s": known.get("lease_s", wish.lease_s)}
    return going_on(replace(there, budget_usd=wish.budget, max_price=wish.max_price, wish=kept), there), tuple(notes)


def begun_now(terms: Terms, wish: RentWish, now: float, *, anew: bool = True) -> Terms:
    """The terms of machines that are rented now: a prompt that was open for long takes nothing of the lease.

    `anew` = there are no others of the fleet, so its budget begins, too.
    """
    ends = None if wish.lease_s is None else _time(now + wish.lease_s)
    return replace(terms, lease_ends_at=ends, since=_time(now) if anew else terms.since)


def going_on(terms: Terms, there: Terms) -> Terms:
    """The terms of a fleet that has something rented under others: what it spent counts, and what was told of that is not told again."""
    alerted = there.alerted if there.budget_usd == terms.budget_usd else ()
    return replace(terms, since=there.since, alerted=alerted)


def changes_of_money(before: Terms | None, after: Terms) -> list[str]:
    """Sentences about what holds now and did not before."""
    if before is None or before.budget_usd == after.budget_usd:
        return []
    was = "there was none" if before.budget_usd is None else f"it was ${before.budget_usd:.2f}"
    now = (
        "there is no budget any more"
        if after.budget_usd is None
        else f"the budget is ${after.budget_usd:.2f} from now on"
    )
    return [f"{now} ({was})"]


def _is_said(name: str, settings: Settings, known: dict[str, Any]) -> bool:
    """Whether somebody wants this, or something that brings its own."""
    if settings.source(SETTINGS[name]) != "default":
        return True
    return any(
        name in brought
        and settings.source(SETTINGS[bringer]) != "default"
        and getattr(settings, SETTINGS[bringer]) != known.get(bringer)
        for bringer, brought in _BRINGS.items()
    )


def _known(wish: dict[str, Any]) -> dict[str, Any]:
    """The wish of the terms with the types it had before it was kept as JSON."""
    known = {name: value for name, value in wish.items() if name in RentWish.__dataclass_fields__}
    return known | ({"regions": tuple(known["regions"])} if "regions" in known else {})


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
