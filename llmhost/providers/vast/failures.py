"""What the market's answers mean when they are no success: one typed error each.

Auth errors are told by their body, since their status differs by endpoint (vast facts §1.5). Of an answer's text only `msg`, `error` and
`detail` are ever shown, bounded, without addresses and without the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from llmhost.core.errors import AuthenticationNeeded, LlmhostError, Unavailable
from llmhost.providers.vast.answer import Answer

LONGEST_TEXT = 300
_ADDRESS = re.compile(r"\w+://\S+")
_LACKS = re.compile(r"lacks the (\w+) permission", re.IGNORECASE)
_WRONG_KEY = ("invalid user key", "requires login", "invalid api key")
# What llmhost needs (vast facts §4.6).
GROUPS = ("misc", "user_read", "instance_read", "instance_write", "billing_read")
KEY_HINT = "Set VAST_API_KEY to a key of https://cloud.vast.ai/manage-keys/ and run: llmhost doctor"
STATUS_HINT = "Try again in a moment; what is rented is shown by: llmhost status"
# The quota is one of a day (vast facts §1.4).
QUOTA_HINT = "The quota begins anew at midnight UTC; what is rented is shown by: llmhost status"


class VastTrouble(Unavailable):
    """Nothing is known. `passing`: asking again may help; `too_frequent`: it was a 429, `retry_after_s` what it said to wait."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "vast_unavailable",
        passing: bool = False,
        too_frequent: bool = False,
        retry_after_s: float | None = None,
        hint: str = STATUS_HINT,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.passing = passing
        self.too_frequent = too_frequent
        self.retry_after_s = retry_after_s


def trouble(answer: Answer, secrets: Iterable[str] = ()) -> LlmhostError | None:
    """None for a success with a JSON object or list; else what it means."""
    data = answer.data
    if 200 <= answer.status < 300:
        return _odd_success(answer.status, data, secrets)
    if answer.status == 429:
        return _too_frequent(answer, secrets)
    return login_trouble(answer.status, data) or _refused(answer.status, data, secrets)


def login_trouble(status: int, data: Any) -> AuthenticationNeeded | None:
    """The key is not known (`bad_key`), or may not do this (`no_permission`); None for anything else."""
    if not isinstance(data, dict) or status >= 500:
        return None
    said = f"{data.get('error')} {data.get('msg')} {data.get('detail')}"
    lacking = _LACKS.search(said)
    if lacking:
        return _no_permission(f"the key for vast.ai lacks the permission {lacking[1]}.", lacking[1])
    if "due to a constraint" in said:
        return _no_permission("the key for vast.ai is bound to something else than this.")
    if status == 401 or data.get("error") == "auth_error" or any(words in said.lower() for words in _WRONG_KEY):
        return AuthenticationNeeded("vast.ai does not know this key.", hint=KEY_HINT, code="bad_key")
    return None


def said(data: Any, secrets: Iterable[str] = ()) -> str:
    """What an answer says in words, fit to be shown; empty when it says nothing."""
    if not isinstance(data, dict):
        return ""
    text = next(
        (data[name] for name in ("msg", "error", "detail") if isinstance(data.get(name), str) and data[name]), ""
    )
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    text = "".join(sign if sign.isprintable() else " " for sign in _ADDRESS.sub("…", text))
    return " ".join(text.split())[:LONGEST_TEXT].rstrip(" .")


def gone(answer: Answer) -> bool:
    """The instance is not there (any more)."""
    data = answer.fields or {}
    return answer.status in (404, 410) and "no_such_instance" in f"{data.get('error')} {data.get('msg')}"


def _no_permission(message: str, *more: str) -> AuthenticationNeeded:
    groups = ", ".join(dict.fromkeys((*GROUPS, *more)))
    hint = f"Make a key with {groups} at https://cloud.vast.ai/manage-keys/"
    return AuthenticationNeeded(message, hint=hint, code="no_permission")


def _odd_success(status: int, data: Any, secrets: Iterable[str]) -> LlmhostError | None:
    if not isinstance(data, dict | list):
        return VastTrouble("vast.ai's answer cannot be understood.", code="vast_answer", passing=True)
    if isinstance(data, dict) and data.get("success") is False:
        return login_trouble(status, data) or _refused(status, data, secrets)
    return None


def _too_frequent(answer: Answer, secrets: Iterable[str]) -> VastTrouble:
    if (answer.fields or {}).get("error") == "search_quota_exceeded":
        words = said(answer.data, secrets) or "the quota of searches is used up"
        message = f"vast.ai searches no more today: {words}."
        return VastTrouble(message, code="search_quota_exceeded", hint=QUOTA_HINT)
    return VastTrouble(
        "vast.ai says that it is asked too often.",
        code="rate_limited",
        passing=True,
        too_frequent=True,
        retry_after_s=answer.retry_after_s,
    )


def _refused(status: int, data: Any, secrets: Iterable[str]) -> VastTrouble:
    words = said(data, secrets)
    message = f"vast.ai answered {status}" + (f": {words}." if words else ".")
    code = "vast_refused" if isinstance(data, dict) and status < 500 else "vast_unavailable"
    return VastTrouble(message, code=code, passing=status >= 500 or status == 408)
