"""Waits until a request would be answered, and proves it with a real one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.desired import GATEWAY, OLLAMA, child_name
from llmhost.providers.ollama_api import OllamaApi
from llmhost.supervisor import logfile
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.loopback import request

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

POLL_S = 0.05
# How long a backend may say `failed` before we stop hoping: Ollama restarts a runner that ran out of memory within a few seconds.
PATIENCE_S = 10.0
PROOF_MIN_S = 60.0
LOG_LINES = 8
PROOF = {"max_tokens": 16, "messages": [{"role": "user", "content": "Answer with the one word: ready"}]}


@dataclass(slots=True)
class Wait:
    """One wait for a node and its gateway, until `deadline` (monotonic seconds)."""

    client: SupervisorClient
    paths: Paths
    progress: Progress
    node_id: str
    deadline: float
    _failed_since: float | None = None
    _said: str = ""

    def until_ready(self) -> dict[str, Any]:
        """The gateway's child, as the supervisor shows it, once it is ready. Raises NotReady with the end of the log, LlmhostError."""
        while True:
            children = self._children()
            gateway, node = children.get(GATEWAY), children.get(child_name(self.node_id))
            if gateway is None or node is None:
                raise LlmhostError(
                    "the fleet was taken down or changed meanwhile.", hint="llmhost status", code="taken_down"
                )
            if _is_ready(gateway) and _is_ready(node) and _answers_ready(gateway["port"]):
                return gateway
            self._tell(node)
            self._give_up_on(list(children.values()), node)
            time.sleep(POLL_S)

    def until_ollama_answers(self, url: str) -> None:
        """Wait for the `ollama serve` we started. Raises NotReady."""
        api = OllamaApi(url)
        while not api.answers():
            children = self._children()
            self._give_up_on([children[OLLAMA]] if OLLAMA in children else [], None)
            time.sleep(POLL_S)

    def _children(self) -> dict[str, dict[str, Any]]:
        return {child["name"]: child for child in self.client.ask("status")["children"]}

    def _tell(self, node: dict[str, Any]) -> None:
        backend = (node["reading"] or {}).get("backend") or {}
        if backend.get("state") == "starting" and self._said != "load":
            self._said = "load"
            self.progress.phase("load", str(backend.get("detail") or "loading the model"))

    def _give_up_on(self, children: list[dict[str, Any]], node: dict[str, Any] | None) -> None:
        for child in children:
            if child["state"] == "failed":
                raise self._not_ready(child["name"], f"{child['name']} does not stay up: {child['reason']}")
        backend = ((node or {}).get("reading") or {}).get("backend") or {}
        now = time.monotonic()
        if backend.get("state") != "failed":
            self._failed_since = None
        elif self._failed_since is None:
            self._failed_since = now
        elif now - self._failed_since > PATIENCE_S:
            raise self._not_ready(child_name(self.node_id), f"the backend failed: {backend.get('detail')}")
        if now > self.deadline:
            troubled = next((child["name"] for child in children if child["state"] != "up"), child_name(self.node_id))
            raise self._not_ready(troubled, f"not ready in time: {_why(children, backend)}")

    def _not_ready(self, log: str, why: str) -> NotReady:
        lines = logfile.tail(self.paths.log_file(log), LOG_LINES)
        shown = "".join(f"\n  {line}" for line in lines)
        return NotReady(
            f"{why.rstrip('.')}. The end of {self.paths.log_file(log)}:{shown or ' (empty)'}", hint="llmhost doctor"
        )


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


def _why(children: list[dict[str, Any]], backend: dict[str, Any]) -> str:
    troubled = [f"{child['name']} is {child['state']}" for child in children if child["state"] != "up"]
    return str(backend.get("detail") or "; ".join(troubled) or "no reason is known")


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
