"""The account that machines are rented with: its key, whether it works, what it holds; and what bills on it."""

from __future__ import annotations

import netrc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmhost.core.errors import AuthenticationNeeded, LlmhostError
from llmhost.core.paths import Paths
from llmhost.fleet.check import Check, failed, ok, warn
from llmhost.fleet.desired import WATCH
from llmhost.fleet.rented.books import installation_of

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

NAME = "account"
VAST_HOST = "console.vast.ai"
GET_KEY = "set VAST_API_KEY; a key that may only read and write instances, and read the user, is enough"
# Less than this lasts for no session worth the name, and offers are refused for want of credit.
LOW_CREDIT_USD = 1.0


def check_account(settings: Settings, paths: Paths, seen: dict[str, Any] | None) -> Iterator[Check]:
    """The account's checks. `seen` is what `status` has, None when it could not be read. Only a key that is there is tried."""
    rented = bool(seen) and any(node["provider"] == "vast" for node in (seen or {})["fleet"]["nodes"])
    key, source = _key(settings)
    if key is None:
        state = failed if rented else ok
        detail = source or "no key for vast.ai: only needed for machines that are rented there"
        yield state(NAME, detail, GET_KEY if rented or source else "")
    else:
        yield _try(settings, source)
        yield from _check_netrc(settings)
    if key is not None or rented:
        yield _check_installation(paths, rented=rented)
    if seen is not None:
        yield from _check_watch(seen, rented=rented)
        yield from _check_orphans(seen)


def _key(settings: Settings) -> tuple[str | None, str]:
    """The key and where it is from; without one the trouble there was in looking for it."""
    from llmhost.providers.vast.key import find_key

    try:
        key = find_key(settings)
    except LlmhostError as error:
        return None, error.message
    return key, settings.source("vast_api_key") if settings.vast_api_key else "the vast client's key file"


def _try(settings: Settings, source: str) -> Check:
    from llmhost.providers.vast.market import open_market

    try:
        account = open_market(settings).account()
    except AuthenticationNeeded as error:
        return failed(NAME, f"the key ({source}) does not work: {error.message}", error.hint)
    except LlmhostError as error:
        return warn(NAME, f"the key ({source}) could not be tried: {error.message}", error.hint)
    who = f"{account.email}, " if account.email else ""
    if account.credit_usd is None:
        return ok(NAME, f"{who}key from {source}; the key may not see the credit")
    money = f"${account.credit_usd:,.2f} credit"
    if account.credit_usd < LOW_CREDIT_USD:
        return warn(NAME, f"{who}{money} (key from {source}): not enough to rent anything", "add credit to the account")
    return ok(NAME, f"{who}{money}, key from {source}")


def _check_netrc(settings: Settings) -> Iterator[Check]:
    """An entry there takes the place of the key in the vendor's client (vast facts §1.3); ours keeps it from doing so."""
    host = urlsplit(settings.vast_url or "").hostname or VAST_HOST
    try:
        found = netrc.netrc(str(Path("~/.netrc").expanduser())).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return
    if found is not None:
        yield warn(
            "netrc", f"~/.netrc has an entry for {host}: the vast client sends it instead of the key, llmhost does not"
        )


def _check_installation(paths: Paths, *, rented: bool) -> Check:
    known = installation_of(paths)
    if known is not None:
        return ok("installation", f"{known[:8]}…, by which machines are known as ours")
    if rented:
        return failed(
            "installation",
            f"{paths.installation_id_file} is gone: what is rented is not known as ours",
            "llmhost status",
        )
    return ok("installation", "has no id yet; it is made when something is rented")


def _check_watch(seen: dict[str, Any], *, rented: bool) -> Iterator[Check]:
    missing = next((one for one in seen["advice"] if one["code"] == "no_watch"), None)
    if missing is not None:
        yield failed(WATCH, missing["text"], missing["command"])
    elif rented:
        yield ok(WATCH, "lease, budget and idle time of what is rented are watched")


def _check_orphans(seen: dict[str, Any]) -> Iterator[Check]:
    found = next((one for one in seen["advice"] if one["code"] == "orphans"), None)
    if found is not None:
        yield failed("orphans", found["text"], found["command"])
