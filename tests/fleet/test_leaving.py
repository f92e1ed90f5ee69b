"""A supervisor that is asked to leave: by two at once, and by one who is gone before the answer."""

from __future__ import annotations

import json
import os
import socket

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.supervisor import lock
from llmhost.supervisor.client import connect
from llmhost.supervisor.launch import ensure_supervisor
from llmhost.supervisor.spec import ChildSpec
from llmhost.supervisor.supervisor import Places, Supervisor
from tests.support.installation import installation
from tests.support.system import processes_touching, wait_until


@pytest.fixture
def place():
    """A fresh installation; whatever was started in it is ended after the test."""
    with installation() as made:
        yield made


@pytest.fixture
def supervisor(short_tmp):
    """One that was not started: what it answers, and what it would do then."""
    places = Places(short_tmp / "lock", short_tmp / "sock", short_tmp)
    descriptor = lock.try_lock(places.lock)
    made = Supervisor(places, descriptor, [])
    yield made
    made._control.unlink()
    made._control._listener.close()
    os.close(descriptor)


@pytest.mark.parametrize("second", ["handover", "stop"])
@pytest.mark.parametrize("first", ["handover", "stop"])
def test_only_one_is_given_the_lock(supervisor, first, second):
    assert supervisor.handle({"op": first}).message["ok"]
    with pytest.raises(LlmhostError) as refused:
        supervisor.handle({"op": second})  # before the first one heard the answer
    assert refused.value.code == "stopping"
    assert supervisor.handle({"op": "hello"}).message["stopping"]


def test_nothing_is_begun_any_more_by_one_that_leaves(supervisor):
    supervisor.handle({"op": "stop"})
    with pytest.raises(LlmhostError) as refused:
        supervisor.handle({"op": "apply", "children": [], "links": []})
    assert refused.value.code == "stopping"


def test_who_is_gone_before_the_answer_takes_nothing_along(supervisor):
    reply = supervisor.handle({"op": "handover"})
    reply.undo()
    assert not supervisor.handle({"op": "hello"}).message["stopping"]
    assert supervisor.handle({"op": "handover"}).descriptors


def test_a_client_killed_in_the_middle_of_a_handover_leaves_a_supervisor_behind(place):
    ensure_supervisor(place.paths).close()
    pid = place.supervisor_pid()
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(place.paths.control_socket))
            caller.shutdown(socket.SHUT_RD)  # whatever is answered cannot be sent
            caller.sendall(json.dumps({"op": "handover"}).encode() + b"\n")
    with wait_until(lambda: connect(place.paths.control_socket), "the supervisor") as client:
        hello = wait_until(lambda: (said := client.ask("hello")) and not said["stopping"] and said, "its staying", 10)
    assert hello["pid"] == pid


@pytest.mark.parametrize(
    "nonsense",
    [{"children": [5]}, {"children": {"a": 1}}, {"children": 7}, {"children": [{"name": "x", "argv": 3}]}],
)
def test_nonsense_is_answered_as_such(place, nonsense):
    with ensure_supervisor(place.paths) as client:
        with pytest.raises(LlmhostError) as refused:
            client.ask("apply", **nonsense)
        assert refused.value.code == "bad_request"
        assert client.ask("status")["children"] == []


def test_a_child_that_does_not_read_what_it_is_told_is_ended_all_the_same(place):
    deaf = ChildSpec(
        "deaf", ("sleep", "1000"), config={"much": "x" * 300_000}, env={"PLACE": str(place.root)}, grace_s=1
    )
    with ensure_supervisor(place.paths) as client:
        client.ask("apply", children=[deaf.as_dict()])
        wait_until(lambda: sleepers(place), "the child", 20)
        client.ask("apply", children=[])
        wait_until(lambda: not sleepers(place), "its end", 20)


def sleepers(place):
    return [pid for pid, line in processes_touching(place.root).items() if line.startswith("sleep")]
