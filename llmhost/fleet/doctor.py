"""`doctor`: every prerequisite and every running part looked at, each trouble with the next command. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.core.result import Result
from llmhost.fleet.advice import PIN_TROUBLES, REMOTE_MODEL, RENTED_MODEL
from llmhost.fleet.check import Check, failed, ok, warn
from llmhost.fleet.check_account import check_account
from llmhost.fleet.check_machine import check_claude, check_port, check_python, check_state
from llmhost.fleet.check_ollama import check_ollama
from llmhost.fleet.check_redis import check_redis
from llmhost.fleet.check_ssh import check_ssh_key, check_ssh_program
from llmhost.fleet.desired import LOCAL, VAST
from llmhost.fleet.status import status

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

UP = "llmhost up --provider local"
_NOT_UP = "not running: no fleet is up"


def doctor(load: Callable[[], Settings], paths: Paths) -> Result:
    """`data.checks`: `[{name, state: ok|warn|failed, detail, command}]`; exit code 1 when one failed. `load` reads the settings."""
    checks = list(_examine(load, paths))
    broken = any(check.state == "failed" for check in checks)
    return Result(data={"checks": [asdict(check) for check in checks]}, exit_code=1 if broken else 0)


def _examine(load: Callable[[], Settings], paths: Paths) -> Iterator[Check]:
    yield check_python()
    try:
        settings = load()
    except LlmhostError as error:
        yield failed("config", error.message, error.hint)
        yield check_state(paths)
        return
    yield _check_config(settings, paths)
    yield check_state(paths)
    yield check_claude(settings)
    seen = _look(settings, paths)
    if not _is_silent(seen):  # then the port is most likely held by our own, which cannot be asked
        yield check_port(settings, seen["gateway"]["url"] if isinstance(seen, dict) else None)
    elsewhere = isinstance(seen, dict) and _all_elsewhere(seen)
    yield ok("ollama", "not needed here: every node is on another machine") if elsewhere else check_ollama(settings)
    yield check_redis(settings)
    yield check_ssh_program()
    yield check_ssh_key(settings, paths)
    yield from check_account(settings, paths, seen if isinstance(seen, dict) else None)
    yield from check_fleet(seen) if isinstance(seen, dict) else (seen,)


def _check_config(settings: Settings, paths: Paths) -> Check:
    found = str(paths.config_file) if paths.config_file.exists() else f"{paths.config_file} is not there, defaults hold"
    if settings.warnings:
        return warn("config", "; ".join(settings.warnings), "llmhost config show")
    return ok("config", found)


def _look(settings: Settings, paths: Paths) -> dict[str, Any] | Check:
    try:
        return status(settings, paths, settings.fleet).data
    except LlmhostError as error:
        return failed("ledger", error.message, error.hint)


def _all_elsewhere(seen: dict[str, Any]) -> bool:
    nodes = seen["fleet"]["nodes"]
    return bool(nodes) and all(node.get("provider") != LOCAL for node in nodes)


def _is_silent(seen: dict[str, Any] | Check) -> bool:
    return isinstance(seen, dict) and seen["supervisor"]["state"] == "silent"


def check_fleet(seen: dict[str, Any]) -> Iterator[Check]:
    """Supervisor, gateway, nodes and cache, from the picture `status` draws. Pure."""
    nodes = seen["fleet"]["nodes"]
    if not nodes:
        yield from (ok(name, _NOT_UP) for name in ("supervisor", "gateway", "node", "cache"))
        return
    yield _supervisor(seen["supervisor"])
    yield _gateway(seen["gateway"])
    yield from map(_node, nodes)
    yield from (_link(node) for node in nodes if node["tunnel"])
    yield _cache(seen["cache"])


def _supervisor(supervisor: dict[str, Any]) -> Check:
    if supervisor["state"] != "running":
        command = "llmhost down" if supervisor["state"] == "silent" else "llmhost up"
        return failed("supervisor", supervisor["reason"] or supervisor["state"], command)
    if supervisor["outdated"]:
        return warn("supervisor", f"version {supervisor['version']} still runs", "llmhost up")
    return ok("supervisor", f"running (pid {supervisor['pid']})")


def _gateway(gateway: dict[str, Any]) -> Check:
    if gateway["state"] == "up":
        return ok("gateway", f"{gateway['url']}, window {gateway['context'] or 'unknown'}")
    detail = gateway.get("reason") or gateway["state"]
    state = warn if gateway["state"] == "starting" else failed
    return state("gateway", detail, "llmhost logs --source gateway")


def _node(node: dict[str, Any]) -> Check:
    name = f"node {node['id']}"
    model = f"{node['model'] or 'its own model'} on {node['backend']}"
    if node["state"] == "ready":
        real = node["backend"] != "rehearsal"
        return ok(name, model) if real else warn(name, "rehearses: no model is behind its answers", _remedy(node))
    state = (
        warn if node["state"] in ("renting", "booting", "installing", "loading", "draining", "destroying") else failed
    )
    return state(name, f"{node['state']}: {node.get('reason') or model}", f"llmhost logs {node['id']}")


def _remedy(node: dict[str, Any]) -> str:
    if node.get("provider") == VAST:
        return RENTED_MODEL
    return REMOTE_MODEL if node["tunnel"] else UP


def _link(node: dict[str, Any]) -> Check:
    name, link = f"link {node['id']}", node["tunnel"]
    where = f"{link['transport']} to {node['host']}"
    if link["state"] == "up":
        trip = "" if link["rtt_ms"] is None else f", {link['rtt_ms']:.1f} ms"
        return ok(name, f"{where}{trip}")
    why = f"{where} is {link['state'] or 'not known'}: {link['reason_text'] or node['reason'] or 'no reason is known'}"
    if link["state"] == "failed":
        repin = link["reason"] in PIN_TROUBLES
        return failed(name, why, f"llmhost tunnel --repin {node['id']}" if repin else "llmhost tunnel")
    if link["state"] == "degraded":
        return failed(name, why, f"llmhost restart {node['id']} --proxy")
    return warn(name, why, "llmhost tunnel")


def _cache(cache: dict[str, Any]) -> Check:
    if cache["state"] == "degraded":
        detail = cache.get("detail") or "its store does not answer"
        return warn("cache", f"degraded: {detail}; requests are answered without it", "llmhost config show")
    return ok("cache", f"{cache['state']}, kept in {cache['store']}" if cache["state"] == "ok" else "off")
