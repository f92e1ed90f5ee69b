"""Where a rented machine is reached: directly, or by a hop over the market's proxy. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llmhost.providers.market import Instance
from llmhost.ssh.target import SshTarget


def targets(instance: Instance, user: str) -> list[SshTarget]:
    """The ways in, best first: the direct one, which is faster, then the proxy's (vast facts §1.5, §7)."""
    ways = (instance.direct, instance.proxy)
    return list(dict.fromkeys(SshTarget(way[0].strip(), way[1], user) for way in ways if way is not None))


def way_at(ways: Sequence[SshTarget], number: int, *, first_only: bool) -> SshTarget | None:
    """The way to try the `number`th time, counted from 0: the best one alone at first, then the others and it in turns.

    None while there is no way at all, which happens: ports may be unknown although it runs.
    """
    if not ways:
        return None
    return ways[0] if first_only or len(ways) == 1 else ways[(number + 1) % len(ways)]


def moved(known: SshTarget, instance: Instance) -> SshTarget | None:
    """Where a machine is reached now that is no longer reached at `known`; None = there still, or nobody says where.

    One that is reached over the proxy stays with it while it is there, a direct one with its direct address: what works is not changed.
    """
    now = targets(instance, known.user)
    return None if not now or known in now else now[0]
