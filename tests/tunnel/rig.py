"""A link with everything around it: a real sshd, a stand-in for the node's proxy behind it, and what a client sees in front."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.loopback import request
from llmhost.supervisor.spec import Probe
from llmhost.tunnel.link import Link
from llmhost.tunnel.spec import LinkSpec, LinkTiming
from tests.support.sshd import Sshd
from tests.support.system import wait_until

ROOT = Path(__file__).parents[2]
TOKEN = "token-of-the-node"
ALIAS = "llmhost-0123abcd-default-n1"
STATUS = "/internal/status"
# Everything about eight times as quick as in life; an echo still has a second, because the machine may be busy.
QUICK = LinkTiming(
    connect=8.0,
    echo_every=0.2,
    echo_within=1.0,
    woke_after=2.5,
    woke_within=1.0,
    backoff_first=0.05,
    backoff_wanted=0.5,
    backoff_idle=2.0,
    settled_after=10.0,
    login_every=0.2,
    probe_every=0.4,
)


class NodeProxy:
    """The stand-in as a process that can be killed, frozen and put in trouble."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.also: tuple[str, ...] = ()  # host and port of a second place to listen
        self._process: subprocess.Popen | None = None

    def start(self) -> NodeProxy:
        argv = [sys.executable, "-m", "tests.tunnel.node_proxy", str(self.path), TOKEN, *self.also]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def trouble(self, on: bool) -> None:
        request(f"unix:{self.path}", "GET", f"/trouble?{'on' if on else 'off'}")


class Rig:
    """`folder` must be short. `link()` starts one; `close` ends everything."""

    def __init__(self, folder: Path, **sshd_options) -> None:
        self.folder = folder
        self.run = folder / "r"
        self.run.mkdir(mode=0o700)
        self.sshd = Sshd(folder / "d", **sshd_options)
        self.node = NodeProxy(folder / "up.sock")
        self.known_hosts = folder / "pin"
        self.changes = 0
        self.lifeline, self._lifeline_end = os.pipe()
        self._links: list[Link] = []

    def start(self) -> Rig:
        self.sshd.start()
        self.node.start()
        self.pin()
        return self

    def pin(self) -> None:
        self.known_hosts.write_text(f"{ALIAS} {self.sshd.host_key}\n")

    def spec(self, **changes) -> LinkSpec:
        spec = LinkSpec(
            name="n1",
            target=self.sshd.target,
            local=str(self.run / "node-n1.sock"),
            remote_socket=str(self.node.path),
            known_hosts=str(self.known_hosts),
            alias=ALIAS,
            probe=Probe(STATUS, token=TOKEN),
            identity=str(self.sshd.client_key),
            timing=QUICK,
        )
        return replace(spec, **changes)

    def link(self, spec: LinkSpec | None = None, wanted=lambda: False) -> Link:
        link = Link(
            spec or self.spec(),
            self.run,
            EventLog(self.folder / "tunnel.log"),
            self._count,
            lifeline=self.lifeline,
            wanted=wanted,
        )
        self._links.append(link)
        link.start()
        return link

    def _count(self) -> None:
        self.changes += 1

    def events(self, name: str) -> list[dict]:
        """What the link's log has of one event."""
        path = self.folder / "tunnel.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["event"] == name]

    def cut_lifeline(self) -> None:
        """What the supervisor's death does."""
        os.close(self._lifeline_end)
        self._lifeline_end = -1

    def close(self) -> None:
        for link in self._links:
            link.close()
        ended = [link.join(10) for link in self._links]
        self.node.stop()
        self.sshd.close()
        for end in (self.lifeline, self._lifeline_end):
            if end >= 0:
                os.close(end)
        assert all(ended), "a link did not end"


def wait_state(link: Link, state: str, timeout_s: float = 30.0) -> dict:
    """Its view once it is in that state."""
    return wait_until(lambda: (view := link.view())["state"] == state and view, f"the link to be {state}", timeout_s)


def answers(local: str, timeout_s: float = 1.0) -> int | None:
    """The pid of the node's proxy, asked over the link; None when no answer came."""
    try:
        return request(f"unix:{local}", "GET", STATUS, token=TOKEN, timeout_s=timeout_s).data["pid"]
    except (OSError, TypeError, KeyError):
        return None


def until_answer(local: str, timeout_s: float = 30.0, each_s: float = 1.0) -> float:
    """Seconds until a request is answered, given up and sent anew after `each_s`, and at once where it is refused, as the gateway does."""
    began = time.monotonic()
    wait_until(lambda: answers(local, each_s), "an answer over the link", timeout_s)
    return time.monotonic() - began


async def read_stream(local: str, count: int, every_s: float) -> list[tuple[float, float]]:
    """One stream of events: for each when it was sent and when it came. Raises EOFError for one that was cut."""
    return await read_events(await connected(local), count, every_s)


async def read_events(caller: socket.socket, count: int, every_s: float) -> list[tuple[float, float]]:
    """The same over a connected socket."""
    reader, writer = await asyncio.open_connection(sock=caller)
    writer.write(f"GET /stream?{count}&{every_s} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    try:
        await reader.readuntil(b"\r\n\r\n")
        events = []
        for number in range(count):
            _, seen, sent_at = (await reader.readuntil(b"\n\n")).split()
            assert int(seen) == number
            events.append((float(sent_at), time.monotonic()))
        return events
    finally:
        writer.close()


async def connected(local: str) -> socket.socket:
    """asyncio's own connect takes a full queue (ssh's holds 128) for a connection under way, which it is not."""
    caller = socket.socket(socket.AF_UNIX)
    caller.setblocking(False)
    while True:
        try:
            caller.connect(local)
            return caller
        except BlockingIOError:
            await asyncio.sleep(0.01)
