"""The rules behind a link, without a network: heartbeat, back-off, sleep, socket names, ssh's arguments and its last words."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from llmhost.ssh.target import SshTarget
from llmhost.supervisor.spec import Probe
from llmhost.tunnel import sockets
from llmhost.tunnel.attempts import Attempts
from llmhost.tunnel.base import open_transport
from llmhost.tunnel.echo import Echo
from llmhost.tunnel.spec import LinkSpec, LinkTiming
from llmhost.tunnel.transports.openssh import echo_command
from llmhost.tunnel.wake import WakeWatch
from tests.support.sshd import make_key

USUAL = LinkTiming()


def spec(folder: Path, **changes) -> LinkSpec:
    made = LinkSpec(
        name="n1",
        target=SshTarget("gpu.example", 2222, "ann"),
        local="/run/x/node-n1.sock",
        remote_socket="/home/ann/.llmhost/nodes/k/run/proxy.sock",
        known_hosts=str(folder / "pin"),
        alias="llmhost-0123abcd-default-n1",
        probe=Probe("/internal/status", token="hidden"),
        identity=str(folder / "key"),
    )
    return replace(made, **changes)


# heartbeat


def test_an_echo_amid_noise_is_heard():
    echo = Echo(USUAL)
    line = echo.line(10.0)
    assert not echo.hear(b"Welcome!\nYou have mail.\n" + line[:5], 10.1)
    assert echo.hear(line[5:] + b"more", 10.2)
    assert echo.heard_at == 10.2


def test_a_question_may_be_answered_or_only_echoed():
    echo = Echo(USUAL)
    assert echo.hear(echo.line(10.0, ask=True), 10.1)
    assert echo.listens_at is None
    assert echo.hear(echo.line(11.0, ask=True).replace(b"\n", b" yes\n"), 11.1)
    assert echo.listens_at == 11.1


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_remote_command_echoes_and_knows_who_listens(short_tmp, shell):
    path = short_tmp / "it's a socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for there, answer in ((path, "x 2 ? yes\n"), (short_tmp / "nobody", "x 2 ?\n")):
            command = [shell, "-c", echo_command(str(there))]
            done = subprocess.run(command, input="x 1\nx 2 ?\n", capture_output=True, text=True, timeout=10)
            assert (done.stdout, done.stderr) == ("x 1\n" + answer, "")


def test_what_others_print_is_no_echo():
    echo = Echo(USUAL)
    echo.line(10.0)
    assert not echo.hear(Echo(USUAL).line(10.0) + b"llmhost-00000000 1\n" * 50, 10.1)
    assert echo.heard_at is None


def test_two_missed_echoes_are_a_loss_and_one_is_not():
    echo = Echo(USUAL)
    echo.line(10.0)
    echo.line(11.0)
    assert not echo.lost(10.0 + USUAL.echo_within)
    assert echo.lost(11.0 + USUAL.echo_within)


def test_a_later_echo_makes_up_for_earlier_ones():
    echo = Echo(USUAL)
    echo.line(10.0)
    later = echo.line(11.0)
    echo.hear(later, 13.9)
    assert not echo.lost(60.0)


def test_a_frozen_idle_link_is_found_within_six_seconds():
    """Bar T3: the freeze falls right behind an echo."""
    echo, now = Echo(USUAL), 0.0
    while not echo.lost(now):
        if echo.due_in(now) <= 0:
            echo.line(now)
        now += 0.05
    assert now < 5.0


def test_after_a_sleep_only_one_fresh_answer_counts():
    echo = Echo(USUAL)
    echo.line(10.0)
    echo.line(11.0)
    echo.woke(500.0)
    assert not echo.lost(500.0)
    assert echo.due_in(500.0) == 0
    assert echo.lost(500.0 + USUAL.woke_within)
    echo.hear(echo.line(500.0), 500.1)
    assert not echo.lost(500.0 + USUAL.woke_within)


def test_the_login_is_not_part_of_the_round_trip_time():
    echo = Echo(USUAL)
    echo.hear(echo.line(10.0), 13.0)
    assert echo.rtt_s is None
    echo.hear(echo.line(14.0), 14.08)
    assert echo.rtt_s == pytest.approx(0.08)


# back-off


def delays(attempts: Attempts, times: int, wanted: bool = False) -> list[float]:
    now, found = 1000.0, []
    for _ in range(times):
        attempts.began(now)
        attempts.failed(now, wanted)
        found.append(attempts.next_at - now)
        now = attempts.next_at
    return found


def test_pauses_double_up_to_two_seconds_in_the_first_minute_then_up_to_thirty():
    found = delays(Attempts(replace(USUAL, login_every=0.0), spread=lambda s: s), 60)
    assert found[:6] == [0.0, 0.25, 0.5, 1.0, 2.0, 2.0]
    assert found[-1] == 30.0
    assert sum(one == 2.0 for one in found) >= 25


def test_while_somebody_waits_pauses_stay_short():
    assert max(delays(Attempts(USUAL, spread=lambda s: s), 100, wanted=True)) == 2.0


def test_there_is_never_more_than_one_login_a_second():
    attempts = Attempts(USUAL)
    assert min(delays(attempts, 20)) >= 1.0
    attempts.began(5000.0)
    attempts.at_once(5000.2)
    assert attempts.next_at == 5001.0


def test_the_first_try_after_a_loss_is_at_once():
    attempts = Attempts(USUAL)
    attempts.began(0.0)
    attempts.succeeded(0.3)
    attempts.lost(40.0, False)
    assert attempts.next_at == 40.0


def test_a_link_that_dies_again_and_again_is_tried_less_and_less():
    attempts, now, waits = Attempts(USUAL, spread=lambda s: s), 0.0, []
    for _ in range(8):
        attempts.began(now)
        attempts.succeeded(now + 0.3)
        attempts.lost(now + 1.0, False)
        waits.append(attempts.next_at - (now + 1.0))
        now = attempts.next_at
    assert waits[0] == 0.0
    assert waits[-1] == 2.0


def test_a_link_that_held_a_minute_starts_anew():
    attempts = Attempts(USUAL, spread=lambda s: s)
    delays(attempts, 10)
    attempts.succeeded(5000.0)
    attempts.lost(5061.0, False)
    assert attempts.next_at == 5061.0


# sleep


@pytest.mark.parametrize(
    ("wall", "monotonic", "woke"),
    [(1.0, 1.0, False), (20.0, 1.0, True), (20.0, 20.0, True), (-3600.0, 1.0, False), (4.9, 4.9, False)],
    ids=["a tick", "the machine slept", "only we were stopped", "the clock was set back", "a busy machine"],
)
def test_a_jump_of_the_clocks_is_a_sleep(wall, monotonic, woke):
    times = {"wall": 1e9, "monotonic": 50.0}
    watch = WakeWatch(5.0, wall=lambda: times["wall"], monotonic=lambda: times["monotonic"])
    times["wall"] += wall
    times["monotonic"] += monotonic
    assert watch.woke() is woke
    assert watch.woke() is False


# sockets


def test_the_name_leads_to_the_newest_socket_without_a_moment_in_between(short_tmp):
    local = short_tmp / "node-n1.sock"
    first, second = sockets.new_socket(short_tmp), sockets.new_socket(short_tmp)
    sockets.point(local, first)
    sockets.point(local, second)
    assert os.readlink(local) == str(second)
    sockets.unpoint(local, first)
    assert local.is_symlink()
    sockets.unpoint(local, second)
    assert os.listdir(short_tmp) == []


def test_who_leaves_a_name_never_takes_it_from_who_has_just_got_it(short_tmp):
    name, old, new = short_tmp / "n", short_tmp / "old", short_tmp / "new"
    with ThreadPoolExecutor(2) as pool:
        for _ in range(500):
            sockets.point(name, old)
            left = pool.submit(sockets.unpoint, name, old)
            pool.submit(sockets.point, name, new).result()
            left.result()
            assert os.readlink(name) == str(new)


def test_what_a_killed_supervisor_left_is_removed_and_nothing_else(short_tmp):
    dead, alive = sockets.new_socket(short_tmp), sockets.new_socket(short_tmp)
    stranger = short_tmp / "llmhost.sock"
    for path in (dead, stranger):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    sockets.point(short_tmp / "node-n1.sock", dead)
    sockets.point(short_tmp / "node-n2.sock", alive)
    (short_tmp / "notes").write_text("mine")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(alive))
        listener.listen()
        sockets.remove_stale(short_tmp)
        assert sorted(os.listdir(short_tmp)) == sorted(["llmhost.sock", "notes", "node-n2.sock", alive.name])


# ssh


def test_ssh_reads_no_file_of_the_users_and_asks_nothing(tmp_path):
    (tmp_path / "pin").write_text("pinned")
    argv, environment = open_transport("openssh").command(spec(tmp_path), "/run/x/l1.sock")
    given = dict(value.split("=", 1) for flag, value in itertools.pairwise(argv) if flag == "-o")
    assert argv[:4] == ["ssh", "-F", "none", "-T"]
    assert argv[-3:-1] == ["--", "gpu.example"]
    assert "/run/x/l1.sock:/home/ann/.llmhost/nodes/k/run/proxy.sock" in argv
    assert given["BatchMode"] == given["StrictHostKeyChecking"] == given["ExitOnForwardFailure"] == "yes"
    assert given["HostKeyAlias"] == "llmhost-0123abcd-default-n1"
    assert given["UserKnownHostsFile"] == f'"{tmp_path}/pin"'
    assert given["GlobalKnownHostsFile"] == "/dev/null"
    assert (given["ServerAliveInterval"], given["ServerAliveCountMax"]) == ("5", "6")
    assert environment == {"LC_ALL": "C"}
    assert "hidden" not in str(argv)


def test_without_a_key_file_the_agent_is_asked_and_only_it(tmp_path):
    argv, _ = open_transport("openssh").command(spec(tmp_path, identity=None, agent="/run/agent"), "/l")
    assert {'IdentityAgent="/run/agent"', "IdentitiesOnly=no", "IdentityFile=none"} <= set(argv)
    assert "-i" not in argv


SAID = [
    ("ssh: Could not resolve hostname gpu.example: Temporary failure in name resolution", "name_unresolved", False),
    ("ssh: connect to host 10.0.0.1 port 22: Connection refused", "connection_refused", False),
    ("ssh: connect to host 10.0.0.1 port 22: Connection timed out", "connect_timeout", False),
    ("Connection timed out during banner exchange\nConnection to 10.0.0.1 port 22 timed out", "connect_timeout", False),
    ("ssh: connect to host 10.0.0.1 port 22: No route to host", "host_unreachable", False),
    ("kex_exchange_identification: Connection closed by remote host", "connection_lost", False),
    ("kex_exchange_identification: banner line contains invalid characters", "not_ssh", False),
    ("Connection to 127.0.0.1 closed by remote host.", "connection_lost", False),
    ("Timeout, server 127.0.0.1 not responding.", "connection_lost", False),
    ("ann@gpu.example: Permission denied (password,keyboard-interactive).", "password_only", True),
    ("ann@gpu.example: Permission denied (publickey,password).", "auth_refused", True),
    ("ann@gpu.example: Permission denied (publickey).", "auth_refused", True),
    (
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
        "host_key_changed",
        True,
    ),
    (
        "No ED25519 host key is known for x and you have requested strict checking.\nHost key verification failed.",
        "host_key_unknown",
        True,
    ),
    (
        "Unable to negotiate with 10.0.0.1 port 22: no matching cipher found. Their offer: none",
        "ssh_incompatible",
        True,
    ),
    ("unix_listener: cannot bind to path /x: No such file or directory", "socket_unusable", False),
    ("exec request failed on channel 0", "session_refused", False),
    ("", "connection_lost", False),
]


@pytest.mark.parametrize(("words", "code", "fatal"), SAID, ids=[f"{code}{n}" for n, (_, code, _) in enumerate(SAID)])
def test_the_last_words_of_ssh_are_understood(tmp_path, words, code, fatal):
    make_key(tmp_path / "key")
    reason = open_transport("openssh").explain(255, words, spec(tmp_path))
    assert (reason.code, reason.fatal) == (code, fatal)
    assert "\n" not in reason.text


def test_a_login_that_takes_too_long_is_a_time_out(tmp_path):
    assert open_transport("openssh").explain(None, "", spec(tmp_path)).code == "connect_timeout"


def test_a_spec_survives_its_journey(tmp_path):
    sent = spec(tmp_path, agent="/run/agent", timing=LinkTiming(echo_every=9.0))
    assert LinkSpec.from_dict(sent.as_dict()) == sent
