"""Nothing was rented, and nothing bills: why, and whether another offer is worth a try."""

from __future__ import annotations

from typing import ClassVar

from llmhost.core.errors import AuthenticationNeeded, LlmhostError, NothingSuitable, Unavailable
from llmhost.providers.market import RefusalReason

_EXITS: dict[RefusalReason, int] = {
    "offer_gone": NothingSuitable.exit_code,
    "insufficient_credit": NothingSuitable.exit_code,
    "spend_limit": NothingSuitable.exit_code,
    "auth": AuthenticationNeeded.exit_code,
    "permission": AuthenticationNeeded.exit_code,
    "rate_limited": Unavailable.exit_code,
    "invalid_request": LlmhostError.exit_code,
    "server": Unavailable.exit_code,
}
_HINTS: dict[RefusalReason, str] = {
    "offer_gone": "llmhost offers shows what else there is",
    "insufficient_credit": "Add credit at https://cloud.vast.ai/billing/, then run llmhost up again.",
    "spend_limit": "The market limits what a new account spends in an hour: end something (llmhost down), or wait.",
    "auth": "Set VAST_API_KEY to a key of https://cloud.vast.ai/manage-keys/, then run llmhost doctor.",
    "permission": "The key may not rent: give it instance_write at https://cloud.vast.ai/manage-keys/, or use another.",
    "rate_limited": "Wait a minute, then run llmhost up again.",
    "invalid_request": "llmhost up --dry-run shows what is asked for.",
    "server": "Run llmhost up again; llmhost offers shows what else there is.",
}


class NotRented(LlmhostError):
    """Definite. `next_offer` = another offer, on another machine, may do. The code is the reason, unless another is given.

    `retry_after_s` is how long the market asked to wait.
    """

    exit_code: ClassVar[int] = LlmhostError.exit_code

    def __init__(
        self, reason: RefusalReason, message: str, *, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=_HINTS[reason], code=code or reason)
        self.reason = reason
        self.next_offer = reason in ("offer_gone", "server")
        self.retry_after_s = retry_after_s
        self.exit_code = _EXITS[reason]  # type: ignore[misc]
