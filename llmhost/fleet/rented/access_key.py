"""The key that llmhost logs in to rented machines with, made known to the market before anything is rented."""

from __future__ import annotations

from llmhost.core.errors import AuthenticationNeeded
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress, SilentProgress
from llmhost.providers.market import Market
from llmhost.ssh.identity import Identity, own_key, public_key

NO_PERMISSION = "no_permission"


def ready_key(market: Market, paths: Paths, progress: Progress | None = None) -> str:
    """The public half (`TYPE BASE64 COMMENT`) of our own key, which machines rented from now on accept (vast facts §4.6).

    An account key that may not register it is only a note: onstart lets the key in, too. Raises AuthenticationNeeded (`bad_key`),
    Unavailable, SshFailure, LlmhostError (`state_unwritable`).
    """
    key = public_key(own_key(paths))
    try:
        market.register_key(key)
    except AuthenticationNeeded as error:
        if error.code != NO_PERMISSION:
            raise
        (progress or SilentProgress()).note(
            "the account key may not register an SSH key (user_write): the rented machine is told of it by its own start script."
        )
    return key


def login(paths: Paths) -> Identity:
    """What to log in to a rented machine with: our own key alone, so that its host learns of no other one."""
    return Identity(own_key(paths), agent=False)
