"""What is counted: Prometheus metrics (names in the README) and the same figures for `status`."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from llmhost import __version__
from llmhost.backends.base import Backend
from llmhost.messages.answer import Answer
from llmhost.proxy.node_figures import NodeFigures

M = TypeVar("M", bound=MetricWrapperBase)
SERVED_BY = {"exact": "exact", "semantic": "semantic"}
DURATIONS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
RECENT = 1024  # requests over which the percentiles of `status` are taken
RECENT_PACES = 16
SHORTEST_PACE_S = 0.05  # an answer that came in one piece says nothing of the model's speed


class Metrics:
    """Counters of one server process."""

    def __init__(self, backend: str) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self.total = 0
        self.errors = 0
        self._backend = backend
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._first_tokens: deque[float] = deque(maxlen=RECENT)
        self._paces: deque[tuple[int, float]] = deque(maxlen=RECENT_PACES)
        self._labelled: dict[tuple[MetricWrapperBase, tuple[str, ...]], MetricWrapperBase] = {}
        self._define()

    def _define(self) -> None:
        registry = self.registry
        self._requests = Counter(
            "llmhost_requests", "Requests by outcome.", ["model", "backend", "outcome"], registry=registry
        )
        self._duration = Histogram(
            "llmhost_request_duration_seconds",
            "Time to the last byte.",
            ["model", "served_by"],
            buckets=DURATIONS,
            registry=registry,
        )
        self._first_token = Histogram(
            "llmhost_time_to_first_token_seconds",
            "Time to the first content block.",
            ["model", "served_by"],
            buckets=DURATIONS,
            registry=registry,
        )
        self._tokens = Counter("llmhost_tokens", "Tokens by type.", ["model", "type"], registry=registry)
        self._lookups = Counter(
            "llmhost_cache_lookups", "Cache look-ups.", ["cache", "result", "reason"], registry=registry
        )
        self._saved_tokens = Counter("llmhost_cache_saved_tokens", "Tokens not generated anew.", registry=registry)
        self._saved_seconds = Counter("llmhost_cache_saved_seconds", "Seconds not spent generating.", registry=registry)
        self._unstorable = Counter("llmhost_cache_unstorable", "Answers that could not be kept.", registry=registry)
        Gauge("llmhost_build_info", "Constant 1.", ["version"], registry=registry).labels(__version__).set(1)

    def watch_backend(self, backend: Backend) -> None:
        """Figures of each node, read when they are asked for."""
        self.registry.register(NodeFigures(backend, lambda: self.in_flight))

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def begin(self) -> None:
        self.in_flight += 1
        self.total += 1

    def end(self, model: str, cache: str, outcome: str, seconds: float, first_token: float | None) -> None:
        """A request is over. `cache` is the value of x-llmhost-cache, `outcome` one of ok, error, gone."""
        self.in_flight -= 1
        self.errors += outcome == "error"
        served_by = SERVED_BY.get(cache, "backend")
        self._one(self._requests, model, self._backend, outcome).inc()
        if outcome == "ok":
            self._durations.append(seconds)
            self._one(self._duration, model, served_by).observe(seconds)
        if first_token is not None:
            self._first_tokens.append(first_token)
            self._one(self._first_token, model, served_by).observe(first_token)

    def _one(self, metric: M, *labels: str) -> M:
        """The metric with these labels; looking it up in the library costs as much as counting."""
        found = self._labelled.get((metric, labels))
        if found is None:
            found = self._labelled[metric, labels] = metric.labels(*labels)
        return found  # type: ignore[return-value]

    def looked_up(self, result: str, answer: Answer | None = None) -> None:
        self._lookups.labels("exact", result, "").inc()
        if answer is not None:
            self._saved_tokens.inc(answer.total_tokens())
            self._saved_seconds.inc(answer.seconds)

    def tokens(self, model: str, usage: dict[str, int]) -> None:
        """Token counts of one generated answer."""
        for kind, name in (
            ("input", "input_tokens"),
            ("output", "output_tokens"),
            ("reused", "cache_read_input_tokens"),
        ):
            if usage.get(name):
                self._tokens.labels(model, kind).inc(usage[name])

    def pace(self, tokens: int, seconds: float) -> None:
        """How long the generation of an answer took from its first token on."""
        if seconds >= SHORTEST_PACE_S:
            self._paces.append((tokens, seconds))

    def tokens_per_second(self) -> float | None:
        """Of the last answers, None before there is one."""
        seconds = sum(pace[1] for pace in self._paces)
        return round(sum(pace[0] for pace in self._paces) / seconds, 1) if seconds else None

    def unstorable(self) -> None:
        self._unstorable.inc()

    def requests(self) -> dict[str, int | float | None]:
        """The `requests` object of `status`; times in milliseconds, None before there is one."""
        return {
            "total": self.total,
            "errors": self.errors,
            "in_flight": self.in_flight,
            "p50_ms": _percentile(self._durations, 0.50),
            "p99_ms": _percentile(self._durations, 0.99),
            "ttft_p50_ms": _percentile(self._first_tokens, 0.50),
            "tokens_per_second": self.tokens_per_second(),
        }


def _percentile(seconds: deque[float], share: float) -> float | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
