"""Links owned by a real supervisor process: asked for, killed, started anew, replaced, and what the gateway is told of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.supervisor.client import connect
from llmhost.supervisor.launch import end_supervisor, ensure_supervisor
from llmhost.supervisor.loopback import request
from llmhost.supervisor.process import wait_gone
from llmhost.supervisor.spec import Live
from tests.support import fake_children
from tests.support.installation import installation
from tests.support.sshd import make_key
from tests.support.system import free_port, processes_touching, wait_until
from tests.tunnel.rig import QUICK, answers, read_stream, until_answer

MODULE = "llmhost.tunnel.supervisor"


@pytest.fixture
def place():
    """A fresh installation; whatever was started in it is ended after the test."""
    with installation() as made:
        yield made


@pytest.fixture
def spec(rig, place):
    """A link of that installation."""
    place.paths.create()
    return rig.spec(local=str(place.paths.node_socket("n1")))


def start(place, *links, children=(), **more):
    """Supervisor up, wishes told; the reply."""
    told = {"links": [link.as_dict() for link in links], "children": [child.as_dict() for child in children]}
    with ensure_supervisor(place.paths, module=MODULE) as client:
        return client.ask("apply", **told, **more)


def ask(place, operation, **fields):
    with connect(place.paths.control_socket) as client:
        return client.ask(operation, **fields)


def view(place, name="n1"):
    return next((one for one in ask(place, "status")["links"] if one["name"] == name), None)


def wait_link(place, state, name="n1"):
    return wait_until(lambda: (one := view(place, name)) and one["state"] == state and one, f"the link {state}", 30)


def log_of(place, name="tunnel-n1"):
    path = place.paths.log_file(name)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_link_is_opened_told_of_and_closed(place, spec, rig):
    assert start(place, spec)["links"]["started"] == ["n1"]
    up = wait_link(place, "up")
    assert up["reading"]["pid"] == answers(spec.local)
    assert start(place, spec)["links"]["kept"] == ["n1"]
    assert view(place)["pid"] == up["pid"]
    assert start(place)["links"]["removed"] == ["n1"]
    assert wait_gone([up["pid"]], 10) == []
    wait_until(lambda: ask(place, "status")["links"] == [], "no link")


def test_children_and_links_are_each_left_alone_when_not_named(place, spec):
    start(place, spec, children=[fake_children.node(place.paths, id="n9")])
    ask(place, "apply", children=[])
    assert view(place) is not None
    ask(place, "apply", links=[])
    wanted = ask(place, "wanted")
    assert (wanted["links"], wanted["children"]) == ([], [])


def test_a_spec_comes_back_as_it_went_in(place, spec):
    start(place, spec)
    assert ask(place, "wanted")["links"] == [json.loads(json.dumps(spec.as_dict()))]


@pytest.mark.parametrize("bad", [{"transport": "pigeon"}, {"target": None}, {"timing": {"unheard_of": 1}}])
def test_a_bad_link_changes_nothing_at_all(place, spec, bad):
    start(place, spec)
    with pytest.raises(LlmhostError):
        ask(place, "apply", children=[fake_children.node(place.paths).as_dict()], links=[{**spec.as_dict(), **bad}])
    assert ask(place, "status")["children"] == []
    assert [one["name"] for one in ask(place, "status")["links"]] == ["n1"]


def test_t17_kill_9_of_the_supervisor_ends_ssh_and_the_next_start_needs_no_cleaning(place, spec):
    start(place, spec)
    pid = wait_link(place, "up")["pid"]
    os.kill(place.supervisor_pid(), signal.SIGKILL)
    assert wait_gone([pid], 1.0 + 2.0) == []
    left = sorted(path.name for path in place.paths.runtime_dir.iterdir())
    assert len(left) == 3, left  # control socket, the name, and where it led
    start(place, spec)
    assert until_answer(spec.local) < 20
    assert len(list(place.paths.runtime_dir.iterdir())) == 3


def test_t18_twenty_at_once_give_one_supervisor_and_one_ssh(place, spec, rig):
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: start(place, spec)["links"], range(20)))
    assert sum(reply["started"] == ["n1"] for reply in replies) == 1
    wait_link(place, "up")
    assert rig.sshd.logins() == 1
    started = [event for event in log_of(place, "supervisor") if event["event"] == "supervisor_started"]
    assert len(started) == 1


@pytest.mark.parametrize("length", [65, 90])
def test_t20_a_long_runtime_path_works(rig, length):
    with installation(folder_length=length) as place:
        place.paths.create()
        start(place, rig.spec(local=str(place.paths.node_socket("n1"))))
        wait_link(place, "up")


def test_t6_after_a_freeze_of_supervisor_and_ssh_it_answers_soon(place, spec, rig):
    quick = replace(spec, timing=replace(QUICK, woke_after=1.5))
    start(place, quick)
    ssh = wait_link(place, "up")["pid"]
    frozen = [place.supervisor_pid(), ssh]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    rig.sshd.kill_sessions()  # the server gave up on us meanwhile
    time.sleep(3.0)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    assert until_answer(spec.local) < 4.0 + 3.0
    wait_until(lambda: any(event["event"] == "link_woke" for event in log_of(place)), "the sleep to be noticed")


def test_a_sleep_that_harmed_nothing_changes_nothing(place, spec):
    start(place, replace(spec, timing=replace(QUICK, woke_after=1.5)))
    ssh = wait_link(place, "up")["pid"]
    supervisor = place.supervisor_pid()
    os.kill(supervisor, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: any(event["event"] == "link_woke" for event in log_of(place)), "the sleep to be noticed")
    assert wait_link(place, "up")["pid"] == ssh


def test_status_answers_at_once_while_a_link_is_dead(place, spec, rig):
    start(place, spec)
    wait_link(place, "up")
    rig.sshd.freeze_sessions()
    rig.sshd.freeze_listener()
    try:
        wait_link(place, "reconnecting")
        times = []
        with connect(place.paths.control_socket) as client:
            for _ in range(10):
                began = time.monotonic()
                client.ask("status")
                times.append(time.monotonic() - began)
        assert min(times) < 0.1
        assert max(times) < 0.5
    finally:
        rig.sshd.thaw()


def test_status_answers_at_once_while_twenty_links_are_dead(place, spec, rig):
    links = [replace(spec, name=f"n{n}", local=str(place.paths.node_socket(f"n{n}"))) for n in range(1, 21)]
    rig.sshd.freeze_listener()
    try:
        start(place, *links)
        times = []
        with connect(place.paths.control_socket) as client:
            for _ in range(10):
                began = time.monotonic()
                shown = client.ask("status")["links"]
                times.append(time.monotonic() - began)
                time.sleep(0.1)
        assert {one["state"] for one in shown} == {"connecting"}
        assert len(shown) == 20
        assert min(times) < 0.1
        assert max(times) < 0.5 + 0.5
    finally:
        rig.sshd.thaw()


def test_one_that_drains_does_not_keep_the_supervisor_from_stopping(place, spec):
    start(place, spec)
    wait_link(place, "up")

    async def story():
        stream = asyncio.create_task(read_stream(spec.local, 1000, 0.1))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(start, place)
        await asyncio.to_thread(wait_link, place, "draining")
        with connect(place.paths.control_socket) as client:
            assert await asyncio.to_thread(end_supervisor, client) == []
        with pytest.raises((EOFError, ConnectionError)):
            await stream

    asyncio.run(story())
    assert list(place.paths.runtime_dir.iterdir()) == []


def test_a_kick_tries_at_once_what_had_failed_for_good(place, spec, rig):
    rig.sshd.rekey()
    start(place, spec)
    assert wait_link(place, "failed")["reason"] == "host_key_changed"
    rig.pin()
    assert ask(place, "kick", name="n1")["kicked"] == ["n1"]
    wait_link(place, "up")
    with pytest.raises(LlmhostError) as failure:
        ask(place, "kick", name="n7")
    assert failure.value.code == "no_such_link"
    assert ask(place, "kick")["kicked"] == ["n1"]


def test_a_refresh_by_request_cuts_no_stream(place, spec):
    start(place, spec)
    old = wait_link(place, "up")["pid"]

    async def story():
        streams = [asyncio.create_task(read_stream(spec.local, 20, 0.1)) for _ in range(10)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(ask, place, "refresh")
        return await asyncio.gather(*streams)

    assert [len(events) for events in asyncio.run(story())] == [20] * 10
    assert wait_gone([old], 10) == []


def test_stop_leaves_no_process_socket_or_name(place, spec):
    start(place, spec, children=[fake_children.gateway(free_port())])
    wait_link(place, "up")
    with connect(place.paths.control_socket) as client:
        assert end_supervisor(client) == []
    assert processes_touching(place.root) == {}
    assert list(place.paths.runtime_dir.iterdir()) == []


@pytest.mark.parametrize("how", ["stop", "handover"])
def test_links_last_until_the_gateway_has_finished(place, spec, how):
    start(place, spec, children=[fake_children.gateway(free_port())])
    wait_link(place, "up")
    port = wait_until(lambda: place.child("gateway")["state"] == "up" and place.child("gateway")["port"], "the gateway")
    with ThreadPoolExecutor(1) as pool, connect(place.paths.control_socket) as client:
        slow = pool.submit(request, f"127.0.0.1:{port}", "GET", "/slow?1.5", timeout_s=10)
        wait_until(lambda: place.child("gateway")["reading"]["in_flight"] == 1, "the request to be in flight")
        given = client.handover({"gateway": 20.0}) if how == "handover" else client.ask("stop") and []
        assert answers(spec.local), "the link went before the gateway's last answer"
        assert slow.result().status == 200
        assert client.wait_end(20)
        for descriptor in given:
            os.close(descriptor)
    start(place, spec)
    assert until_answer(spec.local) < 20


# what the gateway is told


def gateway(port, record, nodes, **changes):
    live = Live("/internal/nodes", {"nodes": nodes})
    return replace(fake_children.gateway(port, "--record", str(record), **changes), live=live)


def told(record):
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    return [line["live"] if "live" in line else line["config"] for line in lines]


NODE = {"id": "n1", "url": "unix:/x", "token": "t"}


def test_the_live_part_is_in_the_configuration_and_a_change_is_sent_without_a_restart(place, tmp_path):
    port, record = free_port(), tmp_path / "record"
    start(place, children=[gateway(port, record, [NODE])])
    pid = wait_until(lambda: place.child("gateway")["state"] == "up" and place.child("gateway")["pid"], "the gateway")
    assert told(record)[0]["nodes"] == [NODE]
    second = {**NODE, "id": "n2"}
    reply = start(place, children=[gateway(port, record, [NODE, second])])
    assert (reply["kept"], reply["told"], reply["replaced"]) == (["gateway"], ["gateway"], [])
    wait_until(lambda: told(record)[-1] == {"nodes": [NODE, second]}, "the gateway to be told")
    assert place.child("gateway")["pid"] == pid
    assert len(told(record)) == 2  # told once


def test_a_gateway_that_refuses_is_told_again_and_a_new_process_knows_at_once(place, tmp_path):
    port, record, refusing = free_port(), tmp_path / "record", tmp_path / "refusing"
    refusing.touch()
    one = gateway(port, record, [NODE], refuses=str(refusing))
    start(place, children=[one])
    wait_until(lambda: place.child("gateway")["state"] == "up", "the gateway")
    start(place, children=[replace(one, live=Live("/internal/nodes", {"nodes": []}))])
    wait_until(lambda: len(told(record)) >= 3, "two tries")
    refusing.unlink()
    before = len(told(record))
    wait_until(lambda: len(told(record)) > before, "another try")
    os.kill(place.child("gateway")["pid"], signal.SIGKILL)
    wait_until(lambda: "fd" in told(record)[-1] and told(record)[-1]["nodes"] == [], "a process that knows", 20)


def test_the_gateway_hears_of_a_link_that_failed_for_good_and_of_its_return(place, spec, rig, tmp_path):
    rig.sshd.rekey()
    record = tmp_path / "record"
    start(place, spec, children=[gateway(free_port(), record, [NODE, {**NODE, "id": "n2"}])])
    wait_link(place, "failed")

    def troubles():
        return [node.get("trouble") for node in told(record)[-1]["nodes"]] if told(record) else []

    found = wait_until(lambda: any(troubles()) and troubles(), "the gateway to be told", 20)
    assert (found[0][0], found[1]) == ("host_key_changed", None)
    assert ask(place, "wanted")["children"][0]["live"]["body"]["nodes"][0] == NODE
    rig.pin()
    ask(place, "kick")
    wait_until(lambda: troubles() == [None, None], "the gateway to hear of the return", 20)


def test_no_secret_is_in_any_log(place, spec, rig):
    locked = rig.spec(name="n2", local=str(place.paths.node_socket("n2")), identity=str(make_key(rig.folder / "other")))
    start(place, spec, locked)
    wait_link(place, "up")
    wait_link(place, "failed", "n2")
    shown = b"".join(path.read_bytes() for path in place.paths.log_dir.iterdir())
    assert spec.probe.token.encode() not in shown
    assert b"PRIVATE KEY" not in shown
