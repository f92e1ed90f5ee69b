"""The marketplace vast.ai behind the seam of `providers.market`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from llmhost.core.errors import AuthenticationNeeded
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.settings import Settings
from llmhost.providers.market import Account, Instance, MarketOffer, OfferWish, Order, Refused, RentOutcome, Unknown
from llmhost.providers.vast import create, failures, instances, logs, pace, search, ssh_keys
from llmhost.providers.vast.api import Api
from llmhost.providers.vast.client import Wire
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.key import need_key
from llmhost.providers.vast.seen import Seen
from llmhost.providers.vast.values import number, text, whole


class VastMarket:
    """One account. Nothing is asked, and the vendor's package not imported, before the first call.

    Reads are repeated a few times within a bound; writes only after a 429, and a rent never. `secrets` must occur in no order: the
    account's key, and whatever else is configured. `seen` answers a search that was just made; nothing does without.
    """

    name = "vast"

    def __init__(self, api: Api, secrets: Sequence[str] = (), seen: Seen | None = None) -> None:
        self._api = api
        self._seen = seen
        self._secrets = tuple(secrets)
        self.account_id: str | None = None

    def account(self) -> Account:
        """Without the permission user_read nothing is said of it."""
        try:
            data = self._api.read_object("user", "GET", "/users/current")
        except AuthenticationNeeded as error:
            if error.code == "no_permission":
                return Account()
            raise
        known = whole(data.get("id"))
        self.account_id = str(known) if known is not None else text(data.get("id"))
        return Account(number(data.get("credit")), text(data.get("email")), id=self.account_id)

    def offers(self, wish: OfferWish) -> list[MarketOffer]:
        """All of one GPU that are free now, cheapest first, `offer_id` or not: an id cannot be searched for (vast facts §1.5).

        "Now" is up to a minute ago, when any process looked for the same, unless something was ordered since.
        """
        try:
            return self._search(wish)
        except VastTrouble as trouble:
            if trouble.code != "vast_refused":
                raise
        return self._search(wish, narrow=True)

    def rent(self, offer: MarketOffer, order: Order) -> RentOutcome:
        """Raises LlmhostError for an order that must not be sent (`secret_in_order`, `onstart_too_long`), and for nothing else."""
        body = create.payload(order, self._secrets)
        try:
            answer = self._api.write("create", "PUT", f"/asks/{offer.id}/", body)
        except VastTrouble as trouble:
            return Unknown(trouble.message.rstrip("."))
        finally:
            self._forget()
        found = create.outcome(answer.status, answer.headers, answer.body, self._secrets)
        if isinstance(found, Refused) and found.reason == "rate_limited" and found.retry_after_s is None:
            return Refused(found.reason, found.message, self._api.pace.refusal_s("create"), found.instance_id)
        return found

    def instances(self) -> list[Instance]:
        return instances.all_instances(
            lambda token: self._api.read_object("list", "GET", instances.PATH, query=instances.query(token))
        )

    def destroy(self, instance_id: int) -> None:
        """Raises AuthenticationNeeded or Unavailable; whether it is gone is told by the list alone."""
        self._change("destroy", "DELETE", instance_id, {})

    def stop(self, instance_id: int) -> None:
        self._change("manage", "PUT", instance_id, {"state": "stopped"})

    def logs(self, instance_id: int, lines: int = 200, contains: str | None = None) -> str:
        return logs.fetch(self._api, instance_id, lines, contains)

    def register_key(self, public_key: str) -> None:
        ssh_keys.register(self._api, public_key)

    def attach_key(self, instance_id: int, public_key: str) -> None:
        ssh_keys.attach(self._api, instance_id, public_key)

    def _search(self, wish: OfferWish, *, narrow: bool = False) -> list[MarketOffer]:
        def page(price: tuple[str, float] | None) -> list[object]:
            body = search.query(wish, price=price, narrow=narrow)
            return search.page_of(self._api.read_object("search", "POST", "/bundles/", body=body))

        asked = search.query(wish, narrow=narrow)
        rows = self._seen.rows(asked) if self._seen else None
        if rows is None:
            began, rows = time.time(), search.all_rows(page)
            if self._seen:
                self._seen.keep(asked, rows, began)
        return search.read(rows, wish)

    def _forget(self) -> None:
        """What was offered is taken, or was gone already."""
        if self._seen:
            self._seen.forget()

    def _change(self, endpoint: str, method: str, instance_id: int, body: dict[str, str]) -> None:
        answer = self._api.insist(endpoint, method, f"/instances/{instance_id}/", body)
        trouble = self._api.trouble(answer)
        if trouble is not None and not failures.gone(answer):
            raise trouble


def open_market(
    settings: Settings,
    environ: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
    progress: Progress | None = None,
) -> VastMarket:
    """The account of the settings' key. Raises AuthenticationNeeded (`no_key`, or `bad_key` for one that no header can carry).

    `secrets` are further ones that no order may contain, besides those of the settings; `progress` is told of long waits. The pace is
    shared, and searches are remembered, in the state directory of the environment.
    """
    key = need_key(settings, environ)
    hidden = tuple(dict.fromkeys((key, *_configured(settings), *secrets)))
    wire = Wire(
        key,
        settings.vast_url,
        read_timeout_s=settings.vast_read_timeout_s,
        write_timeout_s=settings.vast_write_timeout_s,
    )
    account, folder = _account((settings.vast_url or "").rstrip("/"), key), _memory(environ)
    turns = pace.shared(account, folder, settings.vast_pace)
    api = Api(wire, turns, 2 * settings.vast_read_timeout_s, hidden, progress)
    return VastMarket(api, hidden, Seen(account, folder, settings.vast_pace))


def _account(url: str, key: str) -> str:
    """A name for files that says nothing of the key."""
    return hashlib.blake2b(f"{url}\0{key}".encode(), digest_size=16).hexdigest()


def _memory(environ: Mapping[str, str] | None) -> Path:
    """Where the processes of this installation tell each other what they asked of the market."""
    return Paths.from_environment(None if environ is None else dict(environ)).state_dir / "market"


def _configured(settings: Settings) -> list[str]:
    """The settings' own secrets; of an address its password."""
    in_url = unquote(urlsplit(settings.redis_url).password or "") if settings.redis_url else ""
    return [each for each in (settings.redis_password, settings.redis_url, in_url, settings.vast_api_key) if each]
