"""A link over a real sshd: faults and what a client in front notices (the numbers are the bars of the tunnel facts §5)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from llmhost.ssh.target import SshTarget
from llmhost.supervisor.process import alive, wait_gone
from tests.support.sshd import Sshd, make_key
from tests.support.system import free_port, poll, wait_until
from tests.tunnel.rig import ALIAS, QUICK, answers, read_stream, until_answer, wait_state


def logins_rest(rig, seconds: float) -> bool:
    """Whether no more connections come in for so long."""
    before = rig.sshd.connections()
    return not poll(lambda: rig.sshd.connections() != before, seconds)


def test_it_connects_and_tells(rig):
    link = rig.link()
    view = wait_state(link, "up")
    assert view["reading"]["pid"] == answers(link.spec.local)
    assert view["transport"] == "openssh"
    assert view["local"] == f"unix:{rig.run}/node-n1.sock"
    assert (view["reason"], view["reconnects"], view["next_try_at"]) == (None, 0, None)
    assert wait_until(lambda: link.view()["rtt_ms"], "a round-trip time") < 1000
    assert view["pid"] in link.pids()


def test_only_its_owner_can_use_the_socket(rig):
    link = rig.link()
    wait_state(link, "up")
    assert os.stat(link.spec.local).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("who", ["session", "client"])
def test_t1_t2_after_a_kill_a_request_is_answered_at_once(rig, who):
    link = rig.link()
    wait_state(link, "up")
    if who == "session":
        rig.sshd.kill_sessions()
    else:
        os.kill(link.pids()[0], signal.SIGKILL)
    assert until_answer(link.spec.local) < 2.0 + 3.0  # the bar, and a busy machine
    assert wait_state(link, "up")["reconnects"] == 1


def test_t3_a_frozen_session_is_replaced_and_its_streams_live_on(rig):
    link = rig.link()
    wait_state(link, "up")

    async def story():
        stream = asyncio.create_task(read_stream(link.spec.local, 20, 0.2))
        await asyncio.sleep(0.5)
        rig.sshd.freeze_sessions()
        took = await asyncio.to_thread(until_answer, link.spec.local)
        rig.sshd.thaw()
        return took, await asyncio.wait_for(stream, 30)

    took, events = asyncio.run(story())
    assert took < 6.0 + 3.0
    assert len(events) == 20
    assert wait_state(link, "up")["reconnects"] == 1


def test_a_freeze_that_ends_before_another_login_worked_changes_nothing(rig):
    link = rig.link()
    first = wait_state(link, "up")["pid"]
    sessions = rig.sshd.freeze_sessions()
    rig.sshd.freeze_listener()
    assert wait_state(link, "reconnecting")["reason"] == "connection_silent"
    for pid in sessions:
        os.kill(pid, signal.SIGCONT)
    assert wait_state(link, "up")["pid"] == first


def test_t5_while_sshd_is_away_it_tries_and_comes_back_soon(rig):
    link = rig.link()
    wait_state(link, "up")
    rig.sshd.stop()
    view = wait_until(lambda: (v := link.view())["attempts"] >= 2 and v, "two failures")
    assert view["state"] == "reconnecting"
    assert view["reason"] == "connection_refused"
    assert "refuses connections" in view["reason_text"]
    rig.sshd.start()
    assert until_answer(link.spec.local) < 3.0 + 3.0
    assert wait_state(link, "up")["reason"] is None


def test_t7_a_refresh_under_two_hundred_streams_cuts_none(rig):
    link = rig.link()
    old = wait_state(link, "up")["pid"]

    async def story():
        streams = [asyncio.create_task(read_stream(link.spec.local, 40, 0.1)) for _ in range(200)]
        await asyncio.sleep(1.0)
        link.refresh()
        await asyncio.to_thread(wait_until, lambda: link.view()["pid"] not in (None, old), "another connection", 30)
        later = [asyncio.create_task(read_stream(link.spec.local, 5, 0.1)) for _ in range(20)]
        return await asyncio.gather(*streams, *later)

    assert [len(events) for events in asyncio.run(story())] == [40] * 200 + [5] * 20
    assert wait_gone([old], 20) == []  # after the last stream, not before
    assert link.view()["reconnects"] == 0


def test_t8_another_host_key_is_final_with_one_connection_and_no_login(rig):
    rig.sshd.rekey()
    link = rig.link()
    view = wait_state(link, "failed")
    assert view["reason"] == "host_key_changed"
    assert link.trouble.code == "host_key_changed"
    assert logins_rest(rig, 2.0)
    assert rig.sshd.connections() == 1
    assert rig.sshd.auth_requests() == 0


def test_after_the_new_key_was_pinned_a_kick_is_enough(rig):
    rig.sshd.rekey()
    link = rig.link()
    wait_state(link, "failed")
    rig.pin()
    link.kick()
    wait_state(link, "up")
    assert link.trouble is None


def test_t9_a_refused_key_and_a_locked_one_are_told_apart_and_not_retried(rig):
    other = rig.link(rig.spec(identity=str(make_key(rig.folder / "other"))))
    assert wait_state(other, "failed")["reason"] == "auth_refused"
    locked = rig.link(
        rig.spec(
            name="n2", local=str(rig.run / "2"), identity=str(make_key(rig.folder / "locked", passphrase="secret"))
        )
    )
    assert wait_state(locked, "failed")["reason"] == "key_locked"
    assert logins_rest(rig, 1.5)
    assert rig.sshd.connections() == 2
    began = time.monotonic()
    for link in (other, locked):
        link.close()
        assert link.join(5)
    assert time.monotonic() - began < 1.0 + 2.0


@pytest.mark.parametrize("how", ["killed", "frozen", "in trouble"])
def test_t10_trouble_behind_the_link_is_told_and_leaves_ssh_alone(rig, how):
    link = rig.link()
    pid = wait_state(link, "up")["pid"]
    reason = {"killed": "backend_refused", "frozen": "backend_silent", "in trouble": "backend_bad_answer"}[how]
    if how == "killed":
        rig.node.stop()
    elif how == "frozen":
        rig.node.send(signal.SIGSTOP)
    else:
        rig.node.trouble(True)
    assert wait_state(link, "degraded")["reason"] == reason
    if how == "killed":
        rig.node.start()
    elif how == "frozen":
        rig.node.send(signal.SIGCONT)
    else:
        rig.node.trouble(False)
    began = time.monotonic()
    wait_state(link, "up")
    assert time.monotonic() - began < 3.0 + 3.0
    assert link.view()["pid"] == pid


def test_t16_links_that_die_under_busy_clients_leave_nobody_hanging(rig):
    link = rig.link()
    wait_state(link, "up")
    stop = threading.Event()

    def busy(_) -> int:
        answered = 0
        while not stop.is_set():
            answered += answers(link.spec.local, timeout_s=5.0) is not None
        return answered

    with ThreadPoolExecutor(20) as pool:
        clients = pool.map(busy, range(20))
        for _ in range(8):
            pids = link.pids()
            rig.sshd.kill_sessions()
            wait_until(lambda pids=pids: set(link.pids()) - set(pids), "another connection", 30)
            until_answer(link.spec.local)
        stop.set()
        assert min(clients) > 0


def test_t17_ssh_ends_when_the_supervisor_does_even_over_a_dead_connection(rig):
    link = rig.link()
    wait_state(link, "up")
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(link.spec.local)  # an open stream would keep ssh after the end of its input
        rig.sshd.freeze_sessions()
        pid = link.view()["pid"]
        rig.cut_lifeline()
        assert wait_gone([pid], 1.0 + 2.0) == []


def test_a_chatty_shell_does_not_break_the_heartbeat(rig):
    rig.sshd.print_noise("*** Welcome ***\nLast login: yesterday\nllmhost is not this")
    link = rig.link()
    wait_state(link, "up")
    assert answers(link.spec.local)
    assert len(link.pids()) == 1


def test_a_key_that_changes_while_the_link_is_up_ends_it(rig):
    link = rig.link()
    wait_state(link, "up")
    rig.sshd.rekey()
    assert wait_state(link, "failed")["reason"] == "host_key_changed"


def test_an_sshd_that_forbids_forwarding_is_told_from_a_proxy_that_is_not_there(rig):
    with Sshd(rig.folder / "d2", options={"AllowStreamLocalForwarding": "no"}) as server:
        rig.known_hosts.write_text(f"{ALIAS} {server.host_key}\n")
        rig.node.stop()
        key, timing = str(server.client_key), replace(QUICK, backoff_idle=0.5)
        link = rig.link(rig.spec(target=server.target, identity=key, timing=timing))
        assert wait_state(link, "degraded")["reason"] == "backend_refused"
        rig.node.start()
        assert wait_state(link, "failed")["reason"] == "forwarding_refused"
        assert server.logins() == 1


def test_a_server_that_only_takes_passwords_is_final(rig):
    with Sshd(rig.folder / "d2", passwords_only=True) as server:
        rig.known_hosts.write_text(f"{ALIAS} {server.host_key}\n")
        assert wait_state(rig.link(rig.spec(target=server.target)), "failed")["reason"] == "password_only"


@pytest.mark.parametrize(
    ("host", "reason"), [("no-such-host.invalid", "name_unresolved"), ("127.0.0.1", "connection_refused")]
)
def test_what_may_pass_is_tried_again_with_pauses(rig, host, reason):
    link = rig.link(rig.spec(target=SshTarget(host, free_port(), "nobody")))
    view = wait_until(lambda: (v := link.view())["attempts"] >= 2 and v, "two tries", 30)
    assert (view["state"], view["reason"]) == ("connecting", reason)
    assert link.trouble is None


def test_something_else_on_the_port_is_named(rig):
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def talk():
            while True:
                try:
                    caller, _ = stranger.accept()
                except OSError:
                    return
                with caller:
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"\0" * 300)

        threading.Thread(target=talk, daemon=True).start()
        target = SshTarget("127.0.0.1", stranger.getsockname()[1], "nobody")
        link = rig.link(rig.spec(target=target))
        assert wait_until(lambda: link.view()["reason"], "a reason", 30) == "not_ssh"
        link.close()
        link.join(5)
        stranger.shutdown(socket.SHUT_RDWR)


def test_a_server_that_says_nothing_times_out(rig):
    rig.sshd.freeze_listener()
    link = rig.link(rig.spec(timing=replace(QUICK, connect=1.0)))
    assert wait_until(lambda: link.view()["reason"], "a reason", 30) == "connect_timeout"
    rig.sshd.thaw()
    wait_state(link, "up")


def test_the_other_transport_carries_a_link_too(rig):
    rig.node.stop()
    rig.node.also = ("127.0.0.1", str(free_port()))
    rig.node.start()
    link = rig.link(rig.spec(transport="sshtunnel", remote_port=int(rig.node.also[1])))
    assert wait_state(link, "up")["transport"] == "sshtunnel"
    rig.sshd.kill_sessions()
    assert until_answer(link.spec.local) < 20
    pids = link.pids()
    rig.cut_lifeline()
    assert wait_gone(pids, 1.0 + 2.0) == []


def test_an_ssh_that_is_not_there_is_named(rig):
    link = rig.link(rig.spec(ssh_program="/nonexistent/ssh"))
    assert wait_until(lambda: link.view()["reason"], "a reason", 30) == "no_ssh"
    assert "/nonexistent/ssh" in link.view()["reason_text"]
    assert link.view()["state"] == "failed"


def test_another_address_is_followed_without_a_cut(rig, tmp_path):
    link = rig.link()
    wait_state(link, "up")

    async def story():
        stream = asyncio.create_task(read_stream(link.spec.local, 15, 0.2))
        await asyncio.sleep(0.4)
        link.refresh(replace(link.spec, target=replace(link.spec.target, host="localhost")))
        return await stream

    assert len(asyncio.run(story())) == 15
    assert rig.sshd.logins() == 2
    wait_state(link, "up")


def test_other_intervals_alone_open_no_other_connection(rig):
    link = rig.link()
    pid = wait_state(link, "up")["pid"]
    link.refresh(replace(link.spec, timing=replace(QUICK, probe_every=0.3)))
    wait_until(lambda: link.spec.timing.probe_every == 0.3, "the new spec")
    assert logins_rest(rig, 1.0)
    assert link.view()["pid"] == pid


def test_a_cleaned_runtime_folder_is_healed(rig):
    link = rig.link()
    wait_state(link, "up")
    for path in rig.run.iterdir():
        path.unlink()
    assert until_answer(link.spec.local) < 20


def test_closing_leaves_no_process_and_no_file(rig):
    link = rig.link()
    wait_state(link, "up")
    pids = link.pids()
    link.close()
    assert link.join(5)
    assert [pid for pid in pids if alive(pid)] == []
    assert list(rig.run.iterdir()) == []
    assert link.view()["state"] == "stopped"


def test_a_removed_link_lets_its_streams_finish(rig):
    link = rig.link()
    wait_state(link, "up")

    async def story():
        stream = asyncio.create_task(read_stream(link.spec.local, 15, 0.1))
        await asyncio.sleep(0.5)
        link.close(drain_s=30)
        await asyncio.to_thread(wait_state, link, "draining")
        assert await asyncio.to_thread(answers, link.spec.local) is None
        return await stream

    assert len(asyncio.run(story())) == 15
    assert link.join(10)


def test_neither_log_nor_command_line_has_the_token(rig):
    link = rig.link()
    wait_state(link, "up")
    shown = (rig.folder / "tunnel.log").read_bytes()
    for pid in link.pids():
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                shown += file.read()
    assert link.spec.probe.token.encode() not in shown
