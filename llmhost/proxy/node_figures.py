"""Metrics of the nodes behind a server, one label each; a node that is gone takes its label with it, so that they stay few."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from llmhost.backends.base import Backend, HasNodes, NodeReading

READY = "ready"


class NodeFigures(Collector):
    """Reads the backend when Prometheus asks. A backend without nodes counts as one, named as its node is or after its kind."""

    def __init__(self, backend: Backend, in_flight: Callable[[], int]) -> None:
        self._backend = backend
        self._in_flight = in_flight

    def collect(self) -> Iterator[Metric]:
        nodes = self._nodes()
        up = GaugeMetricFamily("llmhost_backend_up", "1 when the backend would answer.", labels=["node"])
        flying = GaugeMetricFamily("llmhost_backend_inflight", "Requests under way.", labels=["node"])
        for node in nodes:
            up.add_metric([node.id], float(node.state == READY))
            flying.add_metric([node.id], float(node.in_flight))
        yield from (up, flying)
        if isinstance(self._backend, HasNodes):
            yield _requests(nodes)

    def _nodes(self) -> list[NodeReading]:
        backend = self._backend
        if isinstance(backend, HasNodes):
            return backend.nodes()
        state = READY if backend.health().state == "ok" else "degraded"
        return [NodeReading(backend.node_id or backend.kind, state, "", self._in_flight(), "closed", None, "")]


def _requests(nodes: list[NodeReading]) -> Metric:
    family = CounterMetricFamily("llmhost_node_requests", "Tries at a node by outcome.", labels=["node", "outcome"])
    for node in nodes:
        for outcome, count in sorted(node.requests.items()):
            family.add_metric([node.id, outcome], float(count))
    return family
