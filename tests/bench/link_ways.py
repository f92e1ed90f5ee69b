"""Ways to a node's proxy, and what is measured over each; see `bench_links`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmhost.tunnel.base import open_transport
from llmhost.tunnel.spec import LinkTiming
from tests.support.netns import SERVER, SlowNet
from tests.support.system import wait_until
from tests.tunnel.rig import STATUS, TOKEN, Rig, answers, connected, read_events, wait_state

PORT = 18_231  # in the namespace of the run's own
TICKS = os.sysconf("SC_CLK_TCK")
USUAL = LinkTiming()


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the node's proxy: how to connect, and the processes that carry the bytes."""

    name: str
    connect: Callable[[], socket.socket]
    pids: Callable[[], list[int]]
    local: str = ""


def over_socket(path: str) -> Callable[[], socket.socket]:
    return lambda: asyncio.run(connected(path))


def direct(rig: Rig, net: SlowNet | None) -> Way:
    def connect() -> socket.socket:
        with net.inside("client"):
            caller = socket.socket()
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.connect((SERVER, PORT))
        caller.setblocking(False)
        return caller

    return Way("direct", connect if net else over_socket(str(rig.node.path)), list)


@contextlib.contextmanager
def plain(rig: Rig, net: SlowNet | None) -> Iterator[Way]:
    """`ssh -N -L`: the link's own options without its session."""
    local = str(rig.folder / "plain.sock")
    argv, _ = open_transport("openssh").command(rig.spec(ssh_program=str(net.ssh) if net else "ssh"), local)
    before = set(rig.sshd.session_pids())
    process = subprocess.Popen([*argv[: argv.index("--")], "-N", "--", rig.sshd.host], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(local, 5), "the plain ssh", 30)
        yield Way(
            "plain `ssh -N -L`", over_socket(local), lambda: [process.pid, *set(rig.sshd.session_pids()) - before]
        )
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def ours(rig: Rig, net: SlowNet | None, timing: LinkTiming = USUAL) -> Iterator[Way]:
    before = set(rig.sshd.session_pids())
    link = rig.link(rig.spec(ssh_program=str(net.ssh) if net else "ssh", timing=timing))
    wait_state(link, "up")
    carriers = link.pids()
    yield Way(
        "link",
        over_socket(link.spec.local),
        lambda: [*carriers, *set(rig.sshd.session_pids()) - before],
        link.spec.local,
    )
    link.close()
    link.join(5)


def small_answer(way: Way) -> float:
    """Seconds of a new connection and a small answer."""
    began = time.monotonic()
    with way.connect() as caller:
        caller.settimeout(30)
        caller.sendall(f"GET {STATUS} HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode())
        while caller.recv(65_536):
            pass
    return time.monotonic() - began


def gaps(events: list[tuple[float, float]]) -> list[float]:
    return [b - a for (_, a), (_, b) in itertools.pairwise(events)]


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def crowd(way: Way, streams: int, count: int) -> tuple[list[float], float]:
    """The delays of all events of many streams at 20 events a second, and the processor seconds of the carriers per event."""
    before = processor_s(way.pids())
    sockets = [way.connect() for _ in range(streams)]

    async def story() -> list[list[tuple[float, float]]]:
        return await asyncio.gather(*(read_events(one, count, 0.05) for one in sockets))

    delays = [came - sent for events in asyncio.run(story()) for sent, came in events]
    return delays, (processor_s(way.pids()) - before) / len(delays)


def processor_s(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def resident_mb(pid: int) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
