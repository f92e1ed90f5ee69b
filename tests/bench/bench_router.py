"""`python -m tests.bench.bench_router [--quick]`: what the router costs, and what its affinity saves.

Cost: the same requests to a node proxy directly, through a gateway with one node, and through one with eight, in turns. Saving: eight
conversations taking turns over three nodes with a real Ollama each, whose own log tells how many prompt tokens it really had to read.
Without affinity = a new session id with every request, so that each goes to a node as good as random.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvloop

from llmhost.core.server_config import BackendConfig, NodeConfig
from tests.bench.bodies import claude_code
from tests.bench.client import post
from tests.bench.measure import SSE_TOKEN, Target, flood, latencies, set_pace
from tests.bench.processes import TOKEN, Server, ollama, proxy, stub
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.proxy_server import ProxyServer
from tests.support.proxy_server import proxy as support_proxy
from tests.support.system import free_port, wait_until

NODES = 8
MS, MICRO = 1e3, 1e6
CONVERSATIONS, THINKERS, TURNS, SLOTS = 8, 3, 4, 5  # five slots: eight conversations may fall unevenly over three nodes
SCRIPTS = {"default": ["An ", "answer ", "of ", "a ", "few ", "words."]}
VOCABULARY = (
    "the file path reads writes when must should never tool command output error returns test run change commit"
)
WORDS = VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Effort:
    rounds: int = 7
    requests: int = 200
    flood_s: float = 3.0


QUICK = Effort(rounds=3, requests=60, flood_s=1.0)
SMOKE = Effort(rounds=1, requests=5, flood_s=0.05)


class InSession(Target):
    """Sends Claude Code's session header along, as its main loop does: another session with each request, or none."""

    __slots__ = ()
    numbers = itertools.count()

    def request(self, body: bytes) -> bytes:
        head, end, rest = post(self.path, body, self.token).partition(b"\r\n\r\n")
        return head + b"\r\nx-claude-code-session-id: session-%d" % (next(self.numbers) % 100) + end + rest


def target(port: int, pid: int) -> Target:
    return InSession(Server(pid, port), "/v1/messages", SSE_TOKEN, TOKEN)


@contextmanager
def gateway(folder: Path, nodes: list[NodeConfig], name: str) -> Iterator[ProxyServer]:
    """A gateway without a cache that has seen all its nodes."""
    backend = BackendConfig("fleet")
    told: dict[str, Any] = {"token": TOKEN, "nodes": tuple(nodes), "port": free_port(), "log_level": "warning"}
    with support_proxy(folder, backend, name=name, **told) as server:
        wait_until(lambda: {one["state"] for one in server.status()["nodes"]} == {"ready"}, "all nodes", 60)
        yield server


async def cost(targets: dict[str, Target], upstream: Server, effort: Effort) -> list[str]:
    """One line of the table for each target."""
    await set_pace(upstream, 1)
    make = claude_code(stream=True).fresh
    seen: dict[str, list[float]] = {name: [] for name in targets}
    for number in range(effort.rounds + 1):
        for name, one in targets.items():
            found = await latencies(one, make, effort.requests)
            if number:  # the first round warms up
                seen[name].append(statistics.median(found))
    medians = {name: statistics.median(found) for name, found in seen.items()}
    base = next(iter(medians.values()))
    lines = []
    for name, one in targets.items():
        result = await flood(one, make, 8, effort.flood_s)
        added = f"+{(medians[name] - base) * MS:.2f} ms"
        lines.append(
            f"| {name} | {medians[name] * MS:.2f} ms | {added} | {result.cpu_s / result.done * MICRO:.0f} µs |"
        )
    return lines


def routing_cost(effort: Effort) -> str:
    """A Markdown table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp")))
        upstream = stack.enter_context(stub())
        nodes = [stack.enter_context(proxy(ollama(upstream, 64))) for _ in range(NODES)]
        configs = [
            NodeConfig(f"n{at}", f"http://127.0.0.1:{one.port}", TOKEN, parallel=64) for at, one in enumerate(nodes, 1)
        ]
        targets = {"a node directly": target(nodes[0].port, nodes[0].pid)}
        for count in (1, NODES):
            server = stack.enter_context(gateway(folder, configs[:count], f"gateway-{count}"))
            targets[f"gateway, {count} node{'s' * (count > 1)}"] = target(server.config.port or 0, server.process.pid)
        lines = uvloop.run(cost(targets, upstream, effort))
    head = [
        "| 80 KB, streamed, whole answer | p50 | added | processor of that server for one request |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *lines])


@contextmanager
def thinkers(folder: Path, stack: ExitStack) -> Iterator[tuple[list[OllamaServer], ProxyServer]]:
    """Three Ollamas, a node proxy in front of each, a gateway in front of all."""
    servers, configs = [], []
    for number in range(1, THINKERS + 1):
        server = OllamaServer(
            folder / f"ollama-{number}",
            OLLAMA_NUM_PARALLEL=str(SLOTS),
            OLLAMA_MULTIUSER_CACHE="1",
            OLLAMA_MODELS=str(folder / "models"),
        ).start()
        stack.callback(server.stop)
        if not servers:  # made twice, the same model has two digests, and the gateway would not take them for one
            server.create("scripted", scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
        backend = BackendConfig("ollama", url=server.url, model="scripted", context=4096, parallel=SLOTS)
        node = stack.enter_context(support_proxy(folder, backend, name=f"n{number}", token=TOKEN, log_level="warning"))
        configs.append(NodeConfig(f"n{number}", node.upstream_url, TOKEN, parallel=SLOTS))
        servers.append(server)
    yield servers, stack.enter_context(gateway(folder, configs, "gateway"))


def converse(client: httpx.Client, mark: str, session_of: Callable[[int], str], turns: int = TURNS) -> None:
    """The conversations take turns, each turn longer than the last by what was answered and what is asked next."""
    histories: list[list[dict[str, Any]]] = [[] for _ in range(CONVERSATIONS)]
    for turn, number in itertools.product(range(turns), range(CONVERSATIONS)):
        history = histories[number]
        words = " ".join(WORDS[(number + turn + at) % len(WORDS)] for at in range(40))
        history.append({"role": "user", "content": f"{mark} {number}: {words}"})
        body = {"model": "claude-bench", "max_tokens": 8, "system": "Be brief.", "messages": history}
        headers = {"x-claude-code-session-id": session_of(number)}
        answer = client.post("/v1/messages", json=body, headers=headers)
        answer.raise_for_status()
        history.append({"role": "assistant", "content": answer.json()["content"]})


def prefix_reuse(turns: int = TURNS) -> str:
    """A Markdown table. The engines' own account: prompt tokens, and of these how many were there already."""
    fresh = itertools.count()
    ways: dict[str, Callable[[int], str]] = {
        "affinity (a session id each)": lambda number: f"conversation-{number}",
        "without affinity (a new session id each time)": lambda _: f"new-{next(fresh)}",
    }
    lines = ["| 8 conversations over 3 nodes | prompt tokens | reused | ratio |", "|---|---|---|---|"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp")))
        with thinkers(folder, stack) as (servers, server):
            for name, session_of in ways.items():
                marks = [one.mark() for one in servers]
                converse(server.client, name, session_of, turns)
                slots = [slot for one, mark in zip(servers, marks, strict=True) for slot in one.slots(mark)]
                prompt, used = sum(slot.prompt for slot in slots), sum(slot.used for slot in slots)
                lines.append(f"| {name} | {prompt:,} | {used:,} | {used / prompt:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the gateway's router.")
    parser.add_argument("--quick", action="store_true", help="a third of the time, less certain")
    effort = QUICK if parser.parse_args().quick else Effort()
    print(routing_cost(effort), end="\n\n", flush=True)
    print(prefix_reuse())


if __name__ == "__main__":
    main()
