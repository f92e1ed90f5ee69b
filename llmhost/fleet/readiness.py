"""Waits until a request would be answered, and proves it with a real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.advice import PIN_TROUBLES
from llmhost.fleet.desired import GATEWAY, OLLAMA, child_name
from llmhost.fleet.observed import links_of
from llmhost.providers.ollama_api import OllamaApi
from llmhost.supervisor import logfile
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.loopback import request

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

POLL_S = 0.05
# How long a backend may say `failed` before we stop hoping: Ollama restarts a runner that ran out of memory within a few seconds.
PATIENCE_S = 10.0
# How long a link may be down, or the proxy behind it: a restarted sshd or proxy is back within a few seconds.
LINK_PATIENCE_S = 45.0
PROOF_MIN_S = 60.0
LOG_LINES = 8
PROOF = {"max_tokens": 16, "messages": [{"role": "user", "content": "Answer with the one word: ready"}]}


@dataclass(slots=True)
class Wait:
    """One wait for nodes and their gateway, until `deadline` (monotonic seconds)."""

    client: SupervisorClient
    paths: Paths
    progress: Progress
    node_ids: Sequence[str]
    deadline: float
    patience_s: float = LINK_PATIENCE_S
    _failed_since: dict[str, float] = field(default_factory=dict)
    _said: str = ""

    def until_ready(self) -> dict[str, Any]:
        """The gateway's child, as the supervisor shows it, once all nodes are ready. Raises NotReady with a log's end, LlmhostError."""
        return self._until(all)

    def until_served(self) -> dict[str, Any]:
        """The same once one node is, which is enough for a request."""
        return self._until(any)

    def until_ollama_answers(self, url: str) -> None:
        """Wait for the `ollama serve` we started. Raises NotReady."""
        api = OllamaApi(url)
        while not api.answers():
            parts = self._parts()
            self._give_up_on([parts.children[OLLAMA]] if OLLAMA in parts.children else [])
            time.sleep(POLL_S)

    def _until(self, enough: Callable[[Iterable[bool]], bool]) -> dict[str, Any]:
        while True:
            parts = self._parts()
            gateway, nodes = parts.children.get(GATEWAY), [parts.node(id) for id in self.node_ids]
            if gateway is None or any(node is None for node in nodes):
                raise LlmhostError(
                    "the fleet was taken down or changed meanwhile.", hint="llmhost status", code="taken_down"
                )
            there = [node for node in nodes if node is not None]
            if enough(map(_is_ready, there)) and _is_ready(gateway) and _answers_ready(gateway["port"]):
                return gateway
            self._tell(there)
            self._give_up(there, list(parts.children.values()), enough)
            time.sleep(POLL_S)

    def _parts(self) -> _Parts:
        reply = self.client.ask("status")
        return _Parts({child["name"]: child for child in reply["children"]}, links_of(reply))

    def _tell(self, nodes: list[dict[str, Any]]) -> None:
        for node in nodes:
            backend = (node["reading"] or {}).get("backend") or {}
            if backend.get("state") == "starting" and self._said != "load":
                self._said = "load"
                self.progress.phase("load", str(backend.get("detail") or "loading the model"))
            elif _is_link(node) and node["state"] != "up" and node.get("reason") and self._said != node["reason"]:
                self._said = str(node["reason"])
                self.progress.phase("link", f"waiting for {node['name']}: {_link_words(node)}")

    def _give_up(
        self,
        nodes: list[dict[str, Any]],
        children: list[dict[str, Any]],
        enough: Callable[[Iterable[bool]], bool],
    ) -> None:
        """Raise when waiting cannot help: the gateway fails, or so many nodes that the others are not enough."""
        troubles = [self._trouble_of(node) for node in nodes]
        lost = [trouble for trouble in troubles if trouble is not None]
        if lost and not enough(trouble is None for trouble in troubles):
            raise lost[0]
        names = {node["name"] for node in nodes}
        self._give_up_on([child for child in children if child["name"] not in names])
        if time.monotonic() > self.deadline:
            raise self._too_late(nodes, children)

    def _trouble_of(self, node: dict[str, Any]) -> LlmhostError | None:
        """Why a node will not get ready by itself."""
        if node["state"] == "failed":
            return _link_failed(node) if _is_link(node) else self._not_ready(node["name"], _unsteady(node))
        name, now = node["name"], time.monotonic()
        lost, backend = _is_link(node) and node["state"] != "up", (node["reading"] or {}).get("backend") or {}
        if not lost and backend.get("state") != "failed":
            self._failed_since.pop(name, None)
        elif now - self._failed_since.setdefault(name, now) > (self.patience_s if lost else PATIENCE_S):
            return _link_lost(node) if lost else self._not_ready(name, f"the backend failed: {backend.get('detail')}")
        return None

    def _give_up_on(self, children: list[dict[str, Any]]) -> None:
        for child in children:
            if child["state"] == "failed":
                raise self._not_ready(child["name"], _unsteady(child))
        if time.monotonic() > self.deadline:
            raise self._too_late([], children)

    def _too_late(self, nodes: list[dict[str, Any]], children: list[dict[str, Any]]) -> NotReady:
        waiting = [node for node in nodes if not _is_ready(node)]
        troubled = [part for part in [*children, *nodes] if part["state"] != "up"] or waiting
        log = troubled[0]["name"] if troubled else GATEWAY
        return self._not_ready(log, f"not ready in time: {_why(nodes, troubled)}")

    def _not_ready(self, log: str, why: str) -> NotReady:
        file = self.paths.log_file(log if self.paths.log_file(log).exists() else "supervisor")
        shown = "".join(f"\n  {line}" for line in logfile.tail(file, LOG_LINES))
        return NotReady(f"{why.rstrip('.')}. The end of {file}:{shown or ' (empty)'}", hint="llmhost doctor")


@dataclass(frozen=True, slots=True)
class _Parts:
    """Children and links by name, as the supervisor shows them."""

    children: dict[str, dict[str, Any]]
    links: dict[str, dict[str, Any]]

    def node(self, id: str) -> dict[str, Any] | None:
        """A node of this machine, or the link to one."""
        return self.children.get(child_name(id)) or self.links.get(id)


def prove(port: int, token: str, timeout_s: float) -> dict[str, Any]:
    """Send one small real request through the gateway; the words of the answer and the milliseconds it took.

    Raises LlmhostError (`proof_failed`) with what the gateway said.
    """
    began = time.monotonic()
    headers = {"cache-control": "no-store", "anthropic-version": "2023-06-01"}
    address = f"127.0.0.1:{port}"
    try:
        answer = request(
            address,
            "POST",
            "/v1/messages",
            token=token,
            body=PROOF,
            headers=headers,
            timeout_s=max(timeout_s, PROOF_MIN_S),
        )
    except OSError as error:
        raise _proof_failed(f"no answer ({error})") from error
    if answer.status != 200 or not isinstance(answer.data, dict) or answer.data.get("type") != "message":
        raise _proof_failed(f"status {answer.status}, {_said(answer.data)}")
    return {
        "text": _text(answer.data),
        "ms": round((time.monotonic() - began) * 1000),
        "model": answer.data.get("model"),
    }


def ready_deadline(settings: Settings) -> float:
    return time.monotonic() + settings.ready_timeout_s


def _is_ready(child: dict[str, Any]) -> bool:
    return child["state"] == "up" and bool((child["reading"] or {}).get("ready"))


def _answers_ready(port: int) -> bool:
    try:
        return request(f"127.0.0.1:{port}", "GET", "/ready").status == 200
    except OSError:
        return False


def _is_link(part: dict[str, Any]) -> bool:
    return "transport" in part


def _link_failed(link: dict[str, Any]) -> LlmhostError:
    hint = f"llmhost tunnel --repin {link['name']}" if link.get("reason") in PIN_TROUBLES else "llmhost tunnel"
    return NotReady(f"{link['name']} cannot be reached: {_link_words(link)}.", hint=hint, code=link.get("reason"))


def _link_lost(link: dict[str, Any]) -> LlmhostError:
    """About a link that may come back, or whose machine is reached while nothing answers there."""
    name = link["name"]
    hint = f"llmhost restart {name} --proxy" if link["state"] == "degraded" else f"llmhost logs {name} --source tunnel"
    return NotReady(f"{name} does not get ready: {_link_words(link)}.", hint=hint)


def _link_words(link: dict[str, Any]) -> str:
    return str(link.get("reason_text") or link.get("reason") or "its link is not up").rstrip(".")


def _unsteady(child: dict[str, Any]) -> str:
    return f"{child['name']} does not stay up: {child['reason']}"


def _why(nodes: list[dict[str, Any]], troubled: list[dict[str, Any]]) -> str:
    said = [((node["reading"] or {}).get("backend") or {}).get("detail") for node in nodes if not _is_ready(node)]
    states = [_state(part) for part in troubled if part["state"] != "up"]
    return "; ".join([*(str(words) for words in said if words), *states]) or "no reason is known"


def _state(part: dict[str, Any]) -> str:
    text = part.get("reason_text") or part.get("reason")
    kind = "the link to " if _is_link(part) else ""
    return f"{kind}{part['name']} is {part['state']}{f' ({text})' if text else ''}"


def _said(data: Any) -> str:
    error = data.get("error") if isinstance(data, dict) else None
    return str(error.get("message")) if isinstance(error, dict) else "not a message"


def _text(message: dict[str, Any]) -> str:
    blocks = message.get("content") or []
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def _proof_failed(why: str) -> LlmhostError:
    return LlmhostError(
        f"everything says ready, but a real request through the gateway failed: {why}.",
        hint="llmhost logs",
        code="proof_failed",
    )
