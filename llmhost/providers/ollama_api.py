"""What the operator's side asks of an Ollama server: which models are there, what they can do, fetch one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.core.ollama_models import billions, can_call_tools, longest_context, row
from llmhost.core.ollama_models import full_name as full_name
from llmhost.core.ollama_models import same_model as same_model

if TYPE_CHECKING:
    import httpx

CONNECT_S = 1.0
ANSWER_S = 10.0
# Ollama sends a line about twice a second while it fetches; while it verifies a large file it is silent for longer.
PULL_SILENCE_S = 120.0

OnTransfer = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on the server's disk. `parameters` in billions, None = not said."""

    name: str
    size_bytes: int
    parameters: float | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What `/api/show` says. `max_context` is the model's own limit in tokens, None = not said."""

    tools: bool
    max_context: int | None


class OllamaApi:
    """One server. Methods raise Unavailable when it does not answer, LlmhostError when it refuses."""

    def __init__(self, url: str) -> None:
        self.url = url

    def answers(self) -> bool:
        """Whether an Ollama server is there now."""
        try:
            return "version" in self._json("GET", "/api/version", read_s=2.0)
        except LlmhostError:
            return False

    def models(self) -> list[InstalledModel]:
        return [_installed(entry) for entry in self._json("GET", "/api/tags").get("models") or []]

    def shelf(self) -> list[dict[str, Any]]:
        """A row of `llmhost.core.ollama_models.row` for each model."""
        running = self._json("GET", "/api/ps").get("models") or []
        entries = self._json("GET", "/api/tags").get("models") or []
        return [
            row(entry, self._json("POST", "/api/show", {"model": str(entry["name"])}), running) for entry in entries
        ]

    def remove(self, model: str) -> int | None:
        """Delete a model; the bytes it had, None when it was not there."""
        found = next((one for one in self.models() if same_model(one.name, model)), None)
        if found is None:
            return None
        # Its weights would stay in memory until their time is up, which with us is never. What is broken may not even unload.
        with suppress(LlmhostError):
            self._json("POST", "/api/generate", {"model": found.name, "keep_alive": 0})
        self._json("DELETE", "/api/delete", {"model": found.name})
        return found.size_bytes

    def facts(self, model: str) -> ModelFacts:
        return _facts(self._json("POST", "/api/show", {"model": model}))

    def loaded_context(self, model: str) -> int | None:
        """The window of the runner that has the model in memory, in tokens; None when it is not loaded."""
        for entry in self._json("GET", "/api/ps").get("models") or []:
            if same_model(str(entry.get("name")), model):
                return int(entry.get("context_length") or 0) or None
        return None

    def pull(self, model: str, on_transfer: OnTransfer) -> None:
        """Fetch a model; `on_transfer(what, done, total)` in bytes over all its files. A broken one resumes where it was."""
        import httpx

        tally = _Tally()
        with self._explained(), self._client(PULL_SILENCE_S) as client:
            try:
                with client.stream("POST", "/api/pull", json={"model": model}) as response:
                    for line in response.iter_lines():
                        _check_pull(model, line)
                        on_transfer(*tally.add(json.loads(line)))
            except (httpx.RemoteProtocolError, json.JSONDecodeError) as error:
                raise _pull_failed(model, "the connection broke off") from error
        if not tally.complete:
            raise _pull_failed(model, "it ended before it was complete")

    def _json(
        self, method: str, path: str, body: dict[str, Any] | None = None, read_s: float = ANSWER_S
    ) -> dict[str, Any]:
        with self._explained(), self._client(read_s) as client:
            response = client.request(method, path, json=body)
            data = _object(response.content)
            if response.status_code != 200:
                raise LlmhostError(
                    f"Ollama at {self.url} answered {path} with {response.status_code}: {data.get('error')}.",
                    code="ollama",
                )
            return data

    def _client(self, read_s: float) -> httpx.Client:
        import httpx

        # No proxy of the environment: the server is on this machine or in its network.
        return httpx.Client(base_url=self.url, timeout=httpx.Timeout(read_s, connect=CONNECT_S), trust_env=False)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Ollama at {self.url} does not answer ({type(error).__name__}).",
                hint="Start it (ollama serve), or set OLLAMA_HOST to where it runs.",
                code="ollama_unavailable",
            ) from error


class _Tally:
    """Adds up the files of a model: Ollama reports each by its digest."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}
        self.complete = False

    def add(self, line: dict[str, Any]) -> tuple[str, int, int | None]:
        status = str(line.get("status") or "")
        self.complete = self.complete or status == "success"
        if "digest" in line:
            self._files[line["digest"]] = (int(line.get("completed") or 0), int(line.get("total") or 0))
        done = sum(completed for completed, _ in self._files.values())
        total = sum(size for _, size in self._files.values())
        return ("pulling" if "digest" in line else status), done, total or None


def _installed(entry: dict[str, Any]) -> InstalledModel:
    said = str((entry.get("details") or {}).get("parameter_size") or "")
    return InstalledModel(str(entry["name"]), int(entry.get("size") or 0), billions(said))


def _facts(shown: dict[str, Any]) -> ModelFacts:
    return ModelFacts(can_call_tools(shown), longest_context(shown))


def _object(content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _check_pull(model: str, line: str) -> None:
    error = _object(line.encode()).get("error")
    if error:
        raise _pull_failed(model, str(error))


def _pull_failed(model: str, why: str) -> LlmhostError:
    return LlmhostError(
        f"Ollama could not pull {model!r}: {why}.",
        hint="Check the name and the network, free disk space, and try again: what was fetched is kept.",
        code="pull_failed",
    )
