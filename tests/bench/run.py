"""`python -m tests.bench.run [--quick]`: measures llmhost in front of a stub upstream and prints one Markdown table.

Numbers depend on the machine; the column "direct" is the same work without llmhost, in turns with it in the same run. Anchors of the goals
(LiteLLM 1.109.1: 83 requests and 83 exact hits per second and core, 25 ms added) were measured on two shared virtual processors.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass

import uvloop

from tests.bench.bodies import Body, claude_code, ollama_chat, tiny
from tests.bench.measure import Target, compared, direct, flood, latencies, set_pace, streams, through
from tests.bench.processes import Server, node, ollama, proxy, seconds_of, stub

LITELLM_PER_CORE = 83
MS = 1000
ANSWER_TOKENS = 1  # of the requests whose latency is measured: what a token costs has a row of its own


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds, requests of a round, seconds of a flood, and streams × tokens."""

    rounds: int = 5
    requests: int = 300
    flood_s: float = 3.0
    streams: int = 20
    tokens: int = 500
    crowd: int = 500
    crowd_tokens: int = 100
    starts: int = 7


QUICK = Effort(rounds=3, requests=100, flood_s=1.0, tokens=200, crowd_tokens=40, starts=3)
SMOKE = Effort(rounds=1, requests=5, flood_s=0.05, streams=2, tokens=5, crowd=5, crowd_tokens=5, starts=1)


@dataclass(frozen=True, slots=True)
class Row:
    measure: str
    direct: str
    llmhost: str
    compared: str
    goal: str


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers of one run: `bare` has no cache, `cached` has, `wide` asks the upstream many things at once, `gateway` → `bare`."""

    upstream: Server
    bare: Server
    wide: Server
    cached: Server
    gateway: Server
    effort: Effort

    @property
    def direct(self) -> Target:
        return direct(self.upstream)


async def measure(bench: Bench) -> list[Row]:
    """All rows of the table that need the servers."""
    await set_pace(bench.upstream, ANSWER_TOKENS)
    for server in (bench.bare, bench.wide, bench.cached, bench.gateway):
        await latencies(through(server), tiny().fresh, 20)
    idle = f"{bench.bare.rss_mb():.0f} MB"
    rows = [Row("resident memory, idle", "–", idle, "–", "≤ 60 MB")]
    rows += [await _miss("tiny", tiny(), bench), await _miss("80 KB", claude_code(), bench)]
    rows.append(await _first_token(bench))
    rows.append(await _whole_path(bench))
    rows.append(await _miss_rate(bench))
    rows += [await _hit(bench), await _hit_rate(bench)]
    rows += [await _token_cost(bench), *await _crowd(bench)]
    return rows


async def _miss(name: str, body: Body, bench: Bench) -> Row:
    goal = "≤ +1.0 ms, better +0.5" if name != "tiny" else "–"
    makes = (ollama_chat(body).fresh, body.fresh)
    pair = await compared(bench.direct, through(bench.bare), makes, bench.effort.rounds, bench.effort.requests)
    return _latency_row(f"miss, {name}, whole answer, p50", pair, goal)


async def _first_token(bench: Bench) -> Row:
    body = claude_code(stream=True)
    makes = (ollama_chat(body).fresh, body.fresh)
    effort = bench.effort
    pair = await compared(bench.direct, through(bench.bare), makes, effort.rounds, effort.requests, first_token=True)
    return _latency_row("miss, 80 KB, streamed, first token, p50", pair, "–")


async def _whole_path(bench: Bench) -> Row:
    body = claude_code()
    makes = (ollama_chat(body).fresh, body.fresh)
    pair = await compared(bench.direct, through(bench.gateway), makes, bench.effort.rounds, bench.effort.requests)
    return _latency_row("miss, 80 KB, gateway with cache → node, p50", pair, "–")


async def _hit(bench: Bench) -> Row:
    body = claude_code()
    makes = (ollama_chat(body).same, body.same)
    pair = await compared(bench.direct, through(bench.cached), makes, bench.effort.rounds, bench.effort.requests)
    return _latency_row("exact hit, 80 KB, memory, p50", pair, "≤ +0.7 ms")


async def _miss_rate(bench: Bench) -> Row:
    result = await flood(through(bench.bare), claude_code().fresh, 16, bench.effort.flood_s)
    return _rate_row("misses per second and core, 80 KB", result.per_core, result.done / result.seconds)


async def _hit_rate(bench: Bench) -> Row:
    result = await flood(through(bench.cached), claude_code().same, 16, bench.effort.flood_s)
    return _rate_row("exact hits per second and core, 80 KB", result.per_core, result.done / result.seconds)


async def _token_cost(bench: Bench) -> Row:
    effort = bench.effort
    await set_pace(bench.upstream, effort.tokens, 10)
    result = await streams(through(bench.wide), tiny(stream=True), effort.streams, effort.tokens)
    name = f"processor per streamed token ({effort.streams} × {effort.tokens} × 10 ms)"
    return Row(name, "–", f"{result.cpu_us_per_token:.0f} µs", f"{result.failed} failed", "≤ 90 µs")


async def _crowd(bench: Bench) -> list[Row]:
    effort = bench.effort
    await set_pace(bench.upstream, effort.crowd_tokens, 50)
    alone = await streams(bench.direct, ollama_chat(tiny(stream=True)), effort.crowd, effort.crowd_tokens)
    result = await streams(through(bench.wide), tiny(stream=True), effort.crowd, effort.crowd_tokens)
    name = f"{effort.crowd} streams at once ({effort.crowd_tokens} × 50 ms)"
    memory = Row("resident memory after them", "–", f"{bench.wide.rss_mb():.0f} MB", "–", "–")
    row = _latency_row(f"{name}, first token p50", (alone.first_token_s, result.first_token_s), "≤ 20 ms")
    failed = Row(f"{name}, failures", str(alone.failed), str(result.failed), "–", "0")
    return [row, failed, memory]


def start_times(upstream: Server, effort: Effort) -> list[Row]:
    """How long a user waits for the command, and the supervisor for the server."""
    help_argv = [shutil.which("llmhost", path=sys.exec_prefix + "/bin") or "llmhost", "--help"]
    bare = statistics.median(seconds_of([sys.executable, "-c", "pass"]) for _ in range(effort.starts))
    helped = statistics.median(seconds_of(help_argv) for _ in range(effort.starts))
    accepted = statistics.median(_start(upstream) for _ in range(effort.starts))
    beside = "python -c pass"
    return [
        Row("`llmhost --help`", f"{bare:.2f} s ({beside})", f"{helped:.2f} s", f"{helped / bare:.1f} ×", "≤ 0.15 s"),
        Row(
            "proxy: start until it accepts",
            f"{bare:.2f} s ({beside})",
            f"{accepted:.2f} s",
            f"{accepted / bare:.1f} ×",
            "≤ 0.6 s",
        ),
    ]


def _start(upstream: Server) -> float:
    with proxy(ollama(upstream)) as server:
        return server.started_s


def _latency_row(name: str, pair: tuple[float, float], goal: str) -> Row:
    base, found = pair
    return Row(name, f"{base * MS:.2f} ms", f"{found * MS:.2f} ms", f"+{(found - base) * MS:.2f} ms", goal)


def _rate_row(name: str, per_core: float, per_second: float) -> Row:
    ratio = f"{per_core / LITELLM_PER_CORE:.0f} × LiteLLM's {LITELLM_PER_CORE}"
    return Row(name, "–", f"{per_core:,.0f} ({per_second:,.0f}/s reached)", ratio, "≥ 25 ×")


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| measure | direct | llmhost | compared | goal |", "|---|---|---|---|---|"]
    lines += [f"| {row.measure} | {row.direct} | {row.llmhost} | {row.compared} | {row.goal} |" for row in rows]
    return "\n".join(lines)


def run(effort: Effort, *, with_starts: bool = True) -> list[Row]:
    """Start the servers, measure, stop them."""
    with ExitStack() as stack:
        upstream = stack.enter_context(stub())
        rows = start_times(upstream, effort) if with_starts else []
        bare = stack.enter_context(proxy(ollama(upstream)))
        wide = stack.enter_context(proxy(ollama(upstream, effort.crowd)))
        cached = stack.enter_context(proxy(ollama(upstream), cached=True))
        gateway = stack.enter_context(proxy(node(bare), cached=True))
        return rows + uvloop.run(measure(Bench(upstream, bare, wide, cached, gateway, effort)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure llmhost in front of a stub upstream.")
    parser.add_argument("--quick", action="store_true", help="a third of the time, less certain")
    print(table(run(QUICK if parser.parse_args().quick else Effort())))


if __name__ == "__main__":
    main()
