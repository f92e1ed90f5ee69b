"""One machine with a real sshd and a stand-in for the node's proxy, and one transport that connects to it just as a link does."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from llmhost.ssh.pins import Pins
from llmhost.supervisor.spec import Probe
from llmhost.tunnel.base import Reason, open_transport
from llmhost.tunnel.connection import Connection
from llmhost.tunnel.spec import LinkSpec, LinkTiming
from tests.support.echo_node import EchoNode
from tests.support.sshd import Sshd
from tests.support.system import wait_until

ALIAS = "llmhost-test"
TOKEN = "sesame-5a17"  # the probe's, which must appear nowhere
PATIENT_S = 30.0


class TransportRig:
    """`sshd_options` as `Sshd` takes them. The host key is pinned. Closing it ends every process."""

    def __init__(self, folder: Path, transport: str, **sshd_options: object) -> None:
        self.folder = folder
        self.sshd = Sshd(folder / "d", **sshd_options).start()
        self.node = EchoNode(folder / "n").start()
        self.pins = Pins(folder / "pins")
        self.pin()
        self._lifeline = os.pipe()
        self._linked: list[Linked] = []
        self.spec = LinkSpec(
            name="n1",
            target=self.sshd.target,
            local=str(folder / "l"),
            remote_socket=str(self.node.socket),
            remote_port=self.node.port,
            known_hosts=str(self.pins.path(ALIAS)),
            alias=ALIAS,
            probe=Probe("/health", token=TOKEN),
            identity=str(self.sshd.client_key),
            transport=transport,
            timing=LinkTiming(),
        )

    @property
    def lifeline(self) -> int:
        """The descriptor that ends when the supervisor, which this stands for, does."""
        return self._lifeline[0]

    def pin(self) -> None:
        self.pins.forget(ALIAS)
        self.pins.pin(ALIAS, *self.sshd.host_key.split())

    def start(self, *, timing: dict[str, float] | None = None, **changes: object) -> Linked:
        """Start the transport's process, with the spec changed so. It is not waited for."""
        spec = dataclasses.replace(self.spec, timing=LinkTiming(**(timing or {})), **changes)
        linked = Linked(spec, self.folder / f"g{len(self._linked)}", self.lifeline)
        self._linked.append(linked)
        return linked

    def up(self, **changes: object) -> Linked:
        """`start`, and wait until it answers."""
        linked = self.start(**changes)
        linked.wait_up()
        return linked

    def supervisor_dies(self) -> None:
        """Close what closes with its death."""
        os.close(self._lifeline[1])
        self._lifeline = (self._lifeline[0], -1)

    def close(self) -> None:
        for linked in self._linked:
            linked.close()
        for end in self._lifeline:
            if end >= 0:
                os.close(end)
        self.node.close()
        self.sshd.close()

    def __enter__(self) -> TransportRig:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Linked:
    """A transport's process as the link's own `Connection` runs it. `path` is the socket it listens on."""

    def __init__(self, spec: LinkSpec, path: Path, lifeline: int) -> None:
        self.path = path
        self.said: list[str] = []
        self._heard = threading.Event()
        self.connection = Connection(open_transport(spec.transport), spec, path, self._heard.set, self.said.append)
        self.connection.start(lifeline)

    @property
    def pid(self) -> int:
        pid = self.connection.pid
        assert pid is not None, f"it ended: {self.connection.reason()} {self.said}"
        return pid

    @property
    def ended(self) -> bool:
        return self.connection.ended

    def wait_up(self) -> None:
        assert self.echoes(PATIENT_S), f"no echo: {self.connection.reason() if self.ended else 'silence'} {self.said}"

    def echoes(self, seconds: float) -> bool:
        """Whether a line that is sent now comes back in time (or the end does not come before)."""
        self._heard.clear()
        self.connection.beat()
        return self._heard.wait(seconds) and not self.ended

    def wait_ended(self, seconds: float = PATIENT_S) -> Reason:
        wait_until(lambda: self.ended, f"the transport to end; it said {self.said}", seconds)
        return self.connection.reason()

    def close(self) -> None:
        if not self.ended:
            self.connection.kill()
            self.wait_ended()


def group_pids(leader: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def listening_tcp(pids: list[int]) -> list[str]:
    """Local addresses (as /proc has them) on which these processes accept TCP connections."""
    inodes = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed while we looked
            inodes.add(os.readlink(link))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
