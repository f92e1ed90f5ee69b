"""Two network namespaces of the test's own, joined by an IP link in user space that can be slow, lossy or dead.

`python -m tests.support.netns` is that link: it makes the namespaces `client` (10.99.0.1) and `server` (10.99.0.2), carries packets between
their TUN devices, and takes orders on standard input (`delay SECONDS`, one way; `loss SHARE`; `hole 0|1`), each answered by a line. With
the end of its input everything is gone. It needs root and /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT, SERVER = "10.99.0.1", "10.99.0.2"
TUN = "/dev/net/tun"
DEVICE = "llmhost0"
# <sched.h>, <linux/if_tun.h>
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1400
PACKET = 65_536


def machine_allows() -> bool:
    """Whether such a link can be made here: it takes root, network namespaces and TUN devices, which not every container has."""
    if os.getuid() != 0 or not os.access(TUN, os.W_OK):
        return False
    argv = [sys.executable, "-m", "tests.support.netns"]
    tried = subprocess.run(argv, cwd=ROOT, input=b"", capture_output=True, timeout=60)
    return tried.returncode == 0 and len(tried.stdout.split()) == 2


class SlowNet:
    """The link as seen by a test. `ssh` is a program that runs the real ssh in the client's namespace."""

    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, "-m", "tests.support.netns"]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self._process.stdout.readline().split()
        assert first, "no namespaces could be made (see the standard error)"
        self._pids = {"client": int(first[0]), "server": int(first[1])}
        self.ssh = folder / "ssh-in-namespace"
        self.ssh.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{self._pids["client"]}/ns/net -- ssh "$@"\n')
        self.ssh.chmod(0o755)

    def set(self, **orders: float) -> None:
        """`delay` (one way, seconds), `loss` (share of packets), `hole` (1 = nothing passes)."""
        for name, value in orders.items():
            self._process.stdin.write(f"{name} {value}\n")
            self._process.stdin.flush()
            assert self._process.stdout.readline() == "ok\n"

    @contextlib.contextmanager
    def inside(self, which: str) -> Iterator[None]:
        """What this thread starts or opens in the block is in that namespace."""
        with open("/proc/self/ns/net") as home, open(f"/proc/{self._pids[which]}/ns/net") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _setns(descriptor: int) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# the link


class Shuttle:
    """Carries packets between two TUN devices; `queue` holds (when, tie, to, packet)."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self.other = {ends[0]: ends[1], ends[1]: ends[0]}
        self.queue: list[tuple[float, int, int, bytes]] = []
        self.settings = {"delay": 0.0, "loss": 0.0, "hole": 0.0}
        self._count = 0

    def take(self, end: int) -> None:
        packet = os.read(end, PACKET)
        if self.settings["hole"] or random.random() < self.settings["loss"]:
            return
        self._count += 1
        heapq.heappush(self.queue, (time.monotonic() + self.settings["delay"], self._count, self.other[end], packet))

    def deliver(self) -> float | None:
        """Send what is due; seconds until the next is, None without one."""
        while self.queue:
            left = self.queue[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, to, packet = heapq.heappop(self.queue)
            with contextlib.suppress(OSError):
                if not self.settings["hole"]:
                    os.write(to, packet)
        return None


def _new_namespace(own: str, peer: str) -> int:
    """Enter a fresh namespace with a TUN device to `peer`; the device's descriptor."""
    _checked(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET))
    end = os.open(TUN, os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "addr", "add", own, "peer", peer, "dev", DEVICE),
        ("ip", "link", "set", DEVICE, "mtu", str(MTU), "up"),
    ):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return end


def _hold_namespace() -> int:
    """A process that keeps the present namespace as long as this one lives."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    return pid


def main() -> None:
    client = _new_namespace(CLIENT, SERVER)
    holder = _hold_namespace()
    shuttle = Shuttle((client, _new_namespace(SERVER, CLIENT)))
    print(holder, os.getpid(), flush=True)
    with selectors.DefaultSelector() as ends:
        for end in (*shuttle.other, sys.stdin.fileno()):
            ends.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in ends.select(shuttle.deliver()):
                if key.fd != sys.stdin.fileno():
                    shuttle.take(key.fd)
                elif not _obey(shuttle):
                    return


def _obey(shuttle: Shuttle) -> bool:
    orders = os.read(sys.stdin.fileno(), 4096).decode()
    for order in orders.splitlines():
        name, value = order.split()
        shuttle.settings[name] = float(value)
        print("ok", flush=True)
    return bool(orders)


if __name__ == "__main__":
    main()
