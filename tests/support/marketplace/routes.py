"""Which call is which: method and path, who may make it, who answers it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.marketplace import account, commands, create, listing, logs, money, search, ssh_keys
from tests.support.marketplace.answers import Answer, Call
from tests.support.marketplace.market import Market

Handler = Callable[[Market, Call], Answer]


@dataclass(frozen=True)
class Route:
    """`group` is the permission it takes; "" is open to everybody."""

    name: str
    method: str
    pattern: re.Pattern[str]
    group: str
    handler: Handler


def _route(name: str, method: str, path: str, group: str, handler: Handler) -> Route:
    """`{id}` and `{key}` in a path are numbers, `{name}` is a word; a slash at the end may be missing or there."""
    places = path.replace("{id}", r"(?P<id>\d+)").replace("{key}", r"(?P<key>\d+)").replace("{name}", r"(?P<name>\w+)")
    return Route(name, method, re.compile(places + "/?"), group, handler)


# The order matters where an id could be read as a word.
ROUTES = (
    _route("search", "POST", "/api/v0/bundles", "", search.search),
    _route("create", "PUT", "/api/v0/asks/{id}", "instance_write", create.create),
    _route("list", "GET", "/api/v1/instances", "instance_read", listing.listed),
    _route("old_list", "GET", "/api/v0/instances", "instance_read", listing.old_list),
    _route("bulk_state", "PUT", "/api/v0/instances", "instance_write", commands.state_of_many),
    _route("bulk_destroy", "DELETE", "/api/v0/instances", "instance_write", commands.destroy_many),
    _route(
        "price_increases", "GET", "/api/v0/instances/pending-price-increases", "instance_read", money.price_increases
    ),
    _route("accept_price", "PUT", "/api/v0/instances/accept-price-increase", "instance_write", money.accept_price),
    _route("reject_price", "PUT", "/api/v0/instances/reject-price-increase", "instance_write", money.reject_price),
    _route("show", "GET", "/api/v0/instances/{id}", "instance_read", listing.show),
    _route("manage", "PUT", "/api/v0/instances/{id}", "instance_write", commands.manage),
    _route("destroy", "DELETE", "/api/v0/instances/{id}", "instance_write", commands.destroy),
    _route("reboot", "PUT", "/api/v0/instances/reboot/{id}", "instance_write", commands.reboot),
    _route("recycle", "PUT", "/api/v0/instances/recycle/{id}", "instance_write", commands.recycle),
    _route("bid", "PUT", "/api/v0/instances/bid_price/{id}", "instance_write", commands.bid),
    _route("update", "PUT", "/api/v0/instances/update_template/{id}", "instance_write", commands.update),
    _route("logs", "PUT", "/api/v0/instances/request_logs/{id}", "instance_read", logs.request_logs),
    _route("command", "PUT", "/api/v0/instances/command/{id}", "instance_write", logs.execute),
    _route("deposit", "GET", "/api/v0/instances/balance/{id}", "instance_read", money.deposit),
    _route("attached", "GET", "/api/v0/instances/{id}/ssh", "instance_read", ssh_keys.attached),
    _route("attach", "POST", "/api/v0/instances/{id}/ssh", "instance_write", ssh_keys.attach),
    _route("detach", "DELETE", "/api/v0/instances/{id}/ssh/{key}", "instance_write", ssh_keys.detach),
    _route("contracts", "POST", "/api/v0/contracts/fetch", "instance_read", listing.contracts),
    _route("ssh_keys", "GET", "/api/v0/ssh", "user_read", ssh_keys.ssh_keys),
    _route("ssh_key_create", "POST", "/api/v0/ssh", "user_write", ssh_keys.create_ssh_key),
    _route("ssh_key_update", "PUT", "/api/v0/ssh/{id}", "user_write", ssh_keys.update_ssh_key),
    _route("ssh_key_delete", "DELETE", "/api/v0/ssh/{id}", "user_write", ssh_keys.delete_ssh_key),
    _route("user", "GET", "/api/v0/users/current", "user_read", account.user),
    _route("secrets", "GET", "/api/v0/secrets", "user_read", account.secrets),
    _route("secret_create", "POST", "/api/v0/secrets", "user_write", account.put_secret),
    _route("secret_update", "PUT", "/api/v0/secrets", "user_write", account.put_secret),
    _route("secret_delete", "DELETE", "/api/v0/secrets", "user_write", account.delete_secret),
    _route("api_key_create", "POST", "/api/v0/auth/apikeys", "user_write", account.create_api_key),
    _route("charges", "GET", "/api/v0/charges", "billing_read", money.charges),
    _route("invoices", "GET", "/api/v1/invoices", "billing_read", money.invoices),
    _route("jobs", "GET", "/api/v0/commands/schedule_job", "instance_read", account.jobs),
    _route("job_create", "POST", "/api/v0/commands/schedule_job", "instance_write", account.create_job),
    _route("job_delete", "DELETE", "/api/v0/commands/schedule_job/{id}", "instance_write", account.delete_job),
    _route("text", "GET", r"/s3/{name}\.log", "", logs.fetch),
)


def route_of(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The endpoint and what its path says; `//api` of a base address with a slash at its end is put up with."""
    for route in ROUTES:
        found = route.pattern.fullmatch(path.replace("//", "/"))
        if found and route.method == method:
            return route, found.groupdict()
    return None
