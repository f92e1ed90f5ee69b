"""A machine that answers what no node proxy would, as much of it as it can: the supervisor stays well and says so."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.loopback import request
from llmhost.tunnel.echo import Echo
from llmhost.tunnel.spec import LinkTiming
from llmhost.tunnel.state import SAID_AT_MOST, Standing
from tests.support.system import wait_until
from tests.tunnel.rig import wait_state

HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


def nested(caller):
    caller.sendall(HEAD + b"[" * 60_000 + b"]" * 60_000)


def nested_as_far_as_it_goes(caller):
    caller.sendall(HEAD + b"[" * 900 + b"]" * 900)


def endless(caller):
    caller.sendall(HEAD + b'{"a": "')
    while True:
        caller.sendall(b"a" * 65_536)


def dripping(caller):
    caller.sendall(HEAD)
    while True:
        caller.sendall(b" ")
        time.sleep(0.2)


def dripping_headers(caller):
    caller.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        caller.sendall(b"a")
        time.sleep(0.2)


def garbage(caller):
    caller.sendall(b"\xff\0\xfe" * 1000)


EVIL = [nested, nested_as_far_as_it_goes, endless, dripping, dripping_headers, garbage]


@contextlib.contextmanager
def answering(path, talk):
    """Every caller of that socket is talked to so, in a thread each."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve(caller):
            with caller, contextlib.suppress(OSError):
                caller.recv(4096)
                talk(caller)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("talk", EVIL, ids=[talk.__name__ for talk in EVIL])
def test_a_strange_answer_is_no_health_and_is_got_over(rig, talk):
    link = rig.link()
    pid = wait_state(link, "up")["pid"]
    rig.node.stop()
    with answering(rig.node.path, talk):
        view = wait_state(link, "degraded")
        assert view["reason"].startswith("backend_")
        assert len(str(view)) < 2000
    rig.node.start()
    assert wait_state(link, "up")["pid"] == pid


@pytest.mark.parametrize("talk", [dripping, dripping_headers])
def test_a_whole_request_has_an_end(short_tmp, talk):
    path, began = short_tmp / "s", time.monotonic()
    with answering(path, talk), pytest.raises(TimeoutError):
        request(f"unix:{path}", "GET", "/", timeout_s=2.0, whole_s=1.0)
    assert time.monotonic() - began < 10


def test_a_machine_that_never_stops_talking_fills_no_log(rig):
    noise = "( while :; do echo one; echo two; sleep 0.002; done ) >&2 &\n"
    (rig.sshd.user_home / ".bashrc").write_text(noise)
    link = rig.link()
    wait_state(link, "up")
    wait_until(lambda: len(rig.events("link_said")) >= SAID_AT_MOST, "the noise to come", 20)
    time.sleep(0.5)
    assert len(rig.events("link_said")) == SAID_AT_MOST
    assert link.view()["state"] == "up"


def test_a_line_without_an_end_is_cut(short_tmp):
    standing = Standing("n1", EventLog(short_tmp / "log"), lambda: None)
    standing.said("x" * 100_000)
    assert (short_tmp / "log").stat().st_size < 1000


def test_a_child_that_takes_no_lines_for_days_costs_no_memory():
    echo = Echo(LinkTiming())
    first = echo.line(0.0)
    for second in range(1, 200_000):
        echo.line(float(second))
    assert echo.lost(200_000.0)
    assert len(echo._pending) < 100
    assert echo.hear(first, 200_001.0)  # it was let go on: what it was sent first comes first
    assert echo.heard_at == 200_001.0
