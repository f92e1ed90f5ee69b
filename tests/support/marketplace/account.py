"""What belongs to the account: the user, secrets, keys of the API, scheduled jobs."""

from __future__ import annotations

from tests.support.marketplace.answers import Answer, Call, Refusal, error, ok
from tests.support.marketplace.market import Market


def user(market: Market, call: Call) -> Answer:
    """What can be spent is `credit`, not `balance` (vast facts §1.5)."""
    account = market.account
    first = next(iter(account.ssh_keys.values()), {"public_key": ""})
    return Answer(
        data={
            "id": account.id,
            "key_id": 7,
            "email": account.email,
            "username": "renter",
            "balance": account.balance,
            "credit": account.credit,
            "ssh_key": first["public_key"],
            "sid": "s1",
            "email_verified": True,
        }
    )


def secrets(market: Market, call: Call) -> Answer:
    """The account's environment variables, which every instance gets."""
    return ok(secrets=dict(market.account.secrets))


def put_secret(market: Market, call: Call) -> Answer:
    name, value = call.fields.get("key"), call.fields.get("value")
    if not isinstance(name, str) or not isinstance(value, str):
        raise Refusal(error(400, "invalid_args", "key and value are required"))
    market.account.secrets[name] = value
    return ok(msg=f"{name} set")


def delete_secret(market: Market, call: Call) -> Answer:
    if market.account.secrets.pop(str(call.fields.get("key")), None) is None:
        raise Refusal(error(404, "not_found", "no such secret"))
    return ok()


def create_api_key(market: Market, call: Call) -> Answer:
    """A scoped key; its secret is shown this once."""
    permissions = call.fields.get("permissions")
    if not isinstance(permissions, dict):
        raise Refusal(error(400, "invalid_args", "permissions are required"))
    key = market.keys.scoped(permissions, str(call.fields.get("name") or "scoped"))
    return ok(id=market.next_number(), key=key.secret, permissions=permissions)


def jobs(market: Market, call: Call) -> Answer:
    return ok(results=list(market.account.jobs.values()))


def create_job(market: Market, call: Call) -> Answer:
    """422 for an instance that has one already."""
    wish = call.fields
    if wish.get("frequency") not in ("HOURLY", "DAILY", "WEEKLY"):
        raise Refusal(error(400, "invalid_args", "frequency must be HOURLY, DAILY or WEEKLY"))
    if any(each.get("instance_id") == wish.get("instance_id") for each in market.account.jobs.values()):
        raise Refusal(error(422, "already_exists", "a scheduled job exists"))
    number = market.next_number()
    market.account.jobs[number] = {"id": number, **wish}
    return ok(scheduled_job_id=number)


def delete_job(market: Market, call: Call) -> Answer:
    if market.account.jobs.pop(call.number, None) is None:
        raise Refusal(error(404, "not_found", "no such job"))
    return ok()
