"""What the operator's side asks of an Ollama server: which models are there, what they can do, fetch one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, Unavailable

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


def full_name(model: str) -> str:
    """With its tag, as Ollama lists it."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def same_model(one: str, other: str) -> bool:
    return full_name(one).casefold() == full_name(other).casefold()


def _installed(entry: dict[str, Any]) -> InstalledModel:
    said = str((entry.get("details") or {}).get("parameter_size") or "")
    return InstalledModel(str(entry["name"]), int(entry.get("size") or 0), _billions(said))


def _billions(text: str) -> float | None:
    units = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}
    try:
        return float(text[:-1]) * units[text[-1:].upper()]
    except (ValueError, KeyError):
        return None


def _facts(shown: dict[str, Any]) -> ModelFacts:
    capabilities = shown.get("capabilities")
    # Servers before 0.6.4 have no list; their templates show it.
    tools = "tools" in capabilities if capabilities is not None else ".Tools" in str(shown.get("template"))
    lengths = [value for key, value in (shown.get("model_info") or {}).items() if key.endswith(".context_length")]
    return ModelFacts(tools, int(lengths[0]) if lengths else None)


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
