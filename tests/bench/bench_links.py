"""`python -m tests.bench.bench_links [--quick]`: what a link costs and how it recovers; prints Markdown tables.

Compared in the same run: *direct* (TCP to the node's proxy, no ssh), *plain* (`ssh -N -L`, which is what people do by hand) and *link*
(ours). The far network is 80 ms away, in namespaces; without root those rows are left out. Numbers depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmhost.supervisor.launch import ensure_supervisor
from tests.bench.link_ways import (
    PORT,
    USUAL,
    Way,
    crowd,
    direct,
    gaps,
    ours,
    plain,
    quantile,
    resident_mb,
    small_answer,
)
from tests.support.installation import installation
from tests.support.netns import SERVER, TUN, SlowNet
from tests.support.system import poll, wait_until
from tests.tunnel.rig import Rig, read_events, until_answer, wait_state

MS = 1000
FAR_RTT_S = 0.08


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: requests, events of a stream, concurrent streams and their events, seconds of absence and of a freeze."""

    requests: int = 40
    events: int = 1000
    streams: int = 200
    stream_events: int = 200
    away_s: float = 10.0
    frozen_s: float = 20.0
    repeats: int = 3
    holes_s: tuple[float, ...] = (10.0, 40.0)


QUICK = Effort(
    requests=10, events=200, streams=50, stream_events=60, away_s=4.0, frozen_s=8.0, repeats=1, holes_s=(10.0,)
)
SMOKE = Effort(requests=2, events=10, streams=4, stream_events=5, away_s=0.5, frozen_s=0.5, repeats=1, holes_s=(0.5,))


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def table(title: str, *heads: str) -> None:
    print(f"\n### {title}\n")
    row(*heads)
    row(*("---" for _ in heads))


def costs(rig: Rig, net: SlowNet | None, effort: Effort) -> None:
    where = f"{FAR_RTT_S * MS:.0f} ms away" if net else "on this machine"
    table(f"Cost, {where}", "way", "new connection + small answer p50", "gap p50 / p99 at 10 ms", "delay p50 / p99")
    with plain(rig, net) as by_hand, ours(rig, net) as link:
        for way in (direct(rig, net), by_hand, link):
            first = statistics.median(small_answer(way) for _ in range(effort.requests))
            events = asyncio.run(read_events(way.connect(), effort.events, 0.01))
            between, delays = gaps(events), [came - sent for sent, came in events]
            row(way.name, f"{first * MS:.1f} ms", *(two(values) for values in (between, delays)))


def two(values: list[float]) -> str:
    return f"{quantile(values, 0.5) * MS:.1f} / {quantile(values, 0.99) * MS:.1f} ms"


def crowds(rig: Rig, effort: Effort) -> None:
    title = f"{effort.streams} streams × 20 events a second"
    table(title, "way", "delay p50 / p99 (bar T11: 50 ms)", "processor time per event (ssh and sshd)")
    with plain(rig, None) as by_hand, ours(rig, None) as link:
        for way in (direct(rig, None), by_hand, link):
            delays, cost = crowd(way, effort.streams, effort.stream_events)
            row(way.name, two(delays), f"{cost * 1e6:.0f} µs")


def recoveries(rig: Rig, effort: Effort) -> None:
    table(
        "Recovery, with the usual intervals (a plain `ssh -N -L` never comes back)",
        "fault",
        "a request is answered after",
        "bar",
    )
    for name, bar, fault in (
        ("T1 sshd's session killed", "2 s", lambda link: rig.sshd.kill_sessions()),
        ("T2 local ssh killed", "2 s", lambda link: os.kill(link.view()["pid"], signal.SIGKILL)),
        ("T3 session frozen", "6 s", lambda link: rig.sshd.freeze_sessions()),
        (f"T5 sshd away {effort.away_s:g} s, after its return", "3 s", lambda link: _away(rig, effort.away_s)),
    ):
        row(name, spread([recovery(rig, fault) for _ in range(effort.repeats)]), bar)
    took = [woken(rig, effort.frozen_s) for _ in range(effort.repeats)]
    row(f"T6 supervisor and ssh frozen {effort.frozen_s:g} s, after the wake", spread(took), "4 s")


def black_holes(rig: Rig, net: SlowNet, effort: Effort) -> None:
    table(
        "Black holes, with the usual intervals",
        "for",
        "a request is answered after their end (bar T4: 5 s)",
        "the stream",
    )
    for seconds in effort.holes_s:
        with ours(rig, net) as link:
            took, survived = asyncio.run(_through_hole(link, net, seconds))
            row(f"{seconds:g} s", f"{took:.2f} s", "survived" if survived else "ended")


async def _through_hole(way: Way, net: SlowNet, seconds: float) -> tuple[float, bool]:
    caller = await asyncio.to_thread(way.connect)
    stream = asyncio.create_task(read_events(caller, int(seconds * 10) + 20, 0.1))
    await asyncio.sleep(0.5)
    net.set(hole=1)
    await asyncio.sleep(seconds)
    net.set(hole=0)
    took = await asyncio.to_thread(until_answer, way.local, 60, 0.5)
    ended = (await asyncio.gather(stream, return_exceptions=True))[0]
    return took, not isinstance(ended, BaseException)


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} – {max(values):.2f} s"


def recovery(rig: Rig, fault: Callable) -> float:
    link = rig.link(rig.spec(timing=USUAL))
    wait_state(link, "up")
    poll(lambda: False, 1.5)  # past the moment in which a login would be one too many
    fault(link)
    took = until_answer(link.spec.local, 60, each_s=0.3)
    rig.sshd.thaw()
    link.close()
    link.join(10)
    return took


def _away(rig: Rig, seconds: float) -> None:
    rig.sshd.stop()
    poll(lambda: False, seconds)
    rig.sshd.start()


def woken(rig: Rig, seconds: float) -> float:
    with supervised(rig, 1) as (pid, view, local):
        frozen = [pid, view()[0]["pid"]]
        for one in frozen:
            os.kill(one, signal.SIGSTOP)
        rig.sshd.kill_sessions()
        poll(lambda: False, seconds)
        for one in frozen:
            os.kill(one, signal.SIGCONT)
        return until_answer(local, 60, each_s=0.3)


@contextlib.contextmanager
def supervised(rig: Rig, links: int) -> Iterator[tuple[int, Callable, str]]:
    """A real supervisor with so many links: its pid, what it says of them, and the local end of the first."""
    with installation() as place:
        place.paths.create()
        specs = [
            rig.spec(name=f"n{n}", local=str(place.paths.node_socket(f"n{n}")), timing=USUAL) for n in range(links)
        ]
        with ensure_supervisor(place.paths, module="llmhost.tunnel.supervisor") as client:
            client.ask("apply", links=[spec.as_dict() for spec in specs])
            wait_until(lambda: all(one["state"] == "up" for one in client.ask("status")["links"]), "all links", 60)
            yield client.pid, lambda: client.ask("status")["links"], str(place.paths.node_socket("n0"))


def memory(rig: Rig, effort: Effort) -> None:
    table("Memory (resident)", "what", "MB")
    for links in (0, 1, 8) if effort is not SMOKE else (1,):
        with supervised(rig, links) as (pid, view, _):
            row(f"supervisor with {links} links", f"{resident_mb(pid):.1f}")
            if links == 1:
                row("one ssh", f"{resident_mb(view()[0]['pid']):.1f}")


@contextlib.contextmanager
def near() -> Iterator[Rig]:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    rig = Rig(folder)
    try:
        yield rig.start()
    finally:
        rig.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def far() -> Iterator[tuple[Rig, SlowNet]]:
    folder = Path(tempfile.mkdtemp(prefix="lb-"))
    net = SlowNet(folder)
    net.set(delay=FAR_RTT_S / 2)
    rig = Rig(folder, host=SERVER)
    rig.node.also = (SERVER, str(PORT))
    try:
        with net.inside("server"):
            rig.start()
        yield rig, net
    finally:
        rig.close()
        net.close()
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_links", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="only that it runs")
    options = parser.parse_args(argv)
    effort = SMOKE if options.smoke else QUICK if options.quick else Effort()
    with near() as rig:
        costs(rig, None, effort)
        crowds(rig, effort)
        recoveries(rig, effort)
        memory(rig, effort)
    if os.getuid() == 0 and os.access(TUN, os.W_OK):
        with far() as (rig, net):
            costs(rig, net, effort)
            black_holes(rig, net, effort)
    else:
        print(f"\nwithout root and {TUN} the far network is left out")


if __name__ == "__main__":
    main(sys.argv[1:])
