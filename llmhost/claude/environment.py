"""What Claude Code has to be told so that it talks to the gateway and knows the model behind it. Pure builders.

Three kinds of variables: those that must be ours (where to, with which token, which model), those that only tune and therefore give way to
whatever the user has set, and those that would lead elsewhere and are taken out. Measured with Claude Code 2.1.330 unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIERS = ("OPUS", "SONNET", "HAIKU", "FABLE")
CONTEXT = "CLAUDE_CODE_MAX_CONTEXT_TOKENS"
# Each of these sends requests somewhere else, or adds a credential of the user's to ours; an empty value switches it off.
ASTRAY = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_GATEWAY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
)
KEY_HELPER = "apiKeyHelper"
# Any of these takes even requests to loopback through the proxy, unless NO_PROXY names the host.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Route:
    """Where Claude Code is sent.

    `url` without /v1, `model` the loaded id, `context` the window really loaded in tokens (None = unknown).
    """

    url: str
    token: str
    model: str
    context: int | None
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class ClaudeEnvironment:
    """What changes in the environment.

    `forced` must hold even against settings files, `tuning` is only what nobody else has set, `unset` are taken out. `replaced` names what
    the user had set differently and we override, `kept` what the user had set differently and holds.
    """

    forced: dict[str, str]
    tuning: dict[str, str]
    unset: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def variables(self) -> dict[str, str]:
        """Everything that is set."""
        return {**self.forced, **self.tuning}

    def applied_to(self, exported: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the `claude` process."""
        return {name: value for name, value in exported.items() if name not in self.unset} | self.variables

    def session_settings(self, theirs: Mapping[str, Any]) -> dict[str, Any]:
        """The document for `--settings`: the user's own (what they gave with `--settings`) wins, except where requests go.

        Needed because the `env` of any settings file beats exported variables, and only `--settings` beats the user's and the
        project's files.
        """
        env = theirs.get("env")
        off = dict.fromkeys(self.unset, "")
        return {
            # Without this every tool call costs up to ten classifier requests of 35,000 tokens (design facts §1.7).
            "disableAutoMode": "disable",
            **theirs,
            KEY_HELPER: "",
            "env": {**(env if isinstance(env, dict) else {}), **off, **self.forced},
        }


def build_environment(route: Route, exported: Mapping[str, str], from_settings: Mapping[str, str]) -> ClaudeEnvironment:
    """Decide variable by variable.

    `exported` is the shell's environment; `from_settings` what the user's settings files set in `env` (plus `apiKeyHelper`), which
    Claude Code puts above the shell's.
    """
    theirs = {**exported, **from_settings}
    forced = {**_routing(route), **_context(route, theirs), **_past_proxies(route, theirs)}
    tuning = _tuning(route)
    return ClaudeEnvironment(
        forced=forced,
        tuning={name: value for name, value in tuning.items() if theirs.get(name, value) == value},
        unset=ASTRAY,
        replaced=_replaced(forced, theirs),
        kept=tuple(name for name, value in tuning.items() if theirs.get(name, value) != value),
    )


def _routing(route: Route) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": route.url,
        "ANTHROPIC_AUTH_TOKEN": route.token,
        "ANTHROPIC_MODEL": route.model,
        **{f"ANTHROPIC_DEFAULT_{tier}_MODEL": route.model for tier in TIERS},
        "CLAUDE_CODE_SUBAGENT_MODEL": route.model,
    }


def _context(route: Route, theirs: Mapping[str, str]) -> dict[str, str]:
    """Without it an unknown model counts as one with 1,000,000 tokens and nothing is ever compacted; a smaller wish of the user's holds."""
    if route.context is None:
        return {}
    wished = theirs.get(CONTEXT, "")
    smaller = wished.isdecimal() and 0 < int(wished) < route.context
    return {CONTEXT: wished if smaller else str(route.context)}


def _tuning(route: Route) -> dict[str, str]:
    return {
        # Compaction begins at window − min(output, 20,000) − 2,800 tokens, so a small window must not be eaten by the answer's share.
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(_max_output(route)),
        # The billing block differs from session to session and would break the prefix reuse between them.
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        # Keeps the environment text in the first user turn instead of system messages in the middle of the conversation.
        "CLAUDE_CODE_MODEL_CAPABILITIES": "*=-mid_conv_system,-mid_conv_tool_change",
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
        # With the watchdog on, pings alone do not keep a prefill of more than 610 s alive.
        "CLAUDE_ENABLE_STREAM_WATCHDOG": "0",
        "API_TIMEOUT_MS": "3000000",
        "API_FORCE_IDLE_TIMEOUT": "0",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def _max_output(route: Route) -> int:
    return (
        route.max_output_tokens if route.context is None else min(route.max_output_tokens, max(1, route.context // 4))
    )


def _past_proxies(route: Route, theirs: Mapping[str, str]) -> dict[str, str]:
    if not any(theirs.get(name) or theirs.get(name.lower()) for name in PROXIES):
        return {}
    found = [theirs.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    hosts = [host.strip() for value in found for host in value.split(",") if host.strip()]
    value = ",".join(dict.fromkeys([*hosts, urlsplit(route.url).hostname or "127.0.0.1"]))
    return {"NO_PROXY": value, "no_proxy": value}


def _replaced(forced: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    differing = [
        n for n, value in forced.items() if "proxy" not in n.lower() and theirs.get(n, value) not in ("", value)
    ]
    astray = [n for n in (*ASTRAY, KEY_HELPER) if theirs.get(n, "").lower() not in ("", "0", "false")]
    return (*differing, *astray)
