"""Commands over a session, on a real sshd."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmhost.ssh import exchange
from llmhost.ssh.failures import SshFailure
from llmhost.ssh.heartbeat import Alive
from llmhost.ssh.session import Session
from tests.ssh.conftest import failing
from tests.support.sshd import Sshd
from tests.support.system import wait_until

MB = 1_000_000


def test_output_streams_and_code_come_apart_and_the_home_is_where_it_runs(session: Session, sshd: Sshd) -> None:
    done = session.run("echo out; echo err >&2; pwd; exit 3")

    assert (done.code, done.out, done.err) == (3, f"out\n{sshd.user_home}\n", "err\n")


@pytest.mark.parametrize(
    "command",
    [
        "echo it\\'s \"q\" '$HOME' `echo b` | tr a-z A-Z",
        "cat <<X\na b\nX",
        "printf '%s\\n' '!' '\\' \"*\"",
        "true &\nwait; echo ä",
    ],
)
def test_a_command_means_what_it_means_in_a_shell_script(session: Session, tmp_path: Path, command: str) -> None:
    script = tmp_path / "script"
    script.write_text(command)

    assert session.run(command).out == subprocess.check_output(["sh", script], text=True)


def test_a_command_without_input_finds_its_end_at_once(session: Session) -> None:
    assert session.run("cat; echo after", timeout_s=30).out == "after\n"


def test_a_command_that_a_signal_ended_says_which(session: Session) -> None:
    assert session.run("kill -9 $$").code == 128 + 9
    assert session.run("kill -TERM $$", stdin=b"x").code == 128 + 15


def test_a_command_that_is_no_shell_syntax_is_a_failed_command(session: Session) -> None:
    done = session.run("if then")

    assert done.code == 2
    assert "yntax" in done.err


def test_check_names_what_the_command_complained_of(session: Session) -> None:
    assert session.check("echo fine") == "fine\n"
    with pytest.raises(SshFailure) as caught:
        session.check("echo first >&2; echo 'no such thing.' >&2; exit 1")
    assert caught.value.code == "remote_command_failed"
    assert caught.value.message.endswith("failed: no such thing.")


def test_megabytes_go_both_ways_at_once(session: Session) -> None:
    data = os.urandom(3 * MB).hex().encode()

    done = session.run("tee /dev/stderr", stdin=data, timeout_s=100)

    assert done.code == 0
    assert done.out.encode() == data
    assert done.err.encode() == data


def test_a_command_that_ends_before_it_read_its_input_harms_nobody(session: Session) -> None:
    for _ in range(10):
        done = session.run("echo early; exit 4", stdin=bytes(MB), timeout_s=60)
        assert (done.code, done.out, done.err) == (4, "early\n", "")
    assert session.run("echo still here").out == "still here\n"


def test_lines_are_told_as_they_come(session: Session, sshd: Sshd) -> None:
    gate = sshd.user_home / "gate"
    lines = []

    def tell(line: str) -> None:
        lines.append(line)
        gate.touch()

    done = session.run("echo ä1; until [ -e gate ]; do sleep 0.05; done; printf '2\\nrest'", timeout_s=60, on_line=tell)

    assert lines == ["ä1", "2", "rest"]
    assert done.out == "ä1\n2\nrest"


def test_what_a_line_callback_raises_ends_the_command_and_not_the_session(session: Session, sshd: Sshd) -> None:
    def tell(line: str) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError, match="one"):
        session.run("echo one; exec cat", timeout_s=60, stdin=None, on_line=tell)
    assert session.run("echo two").out == "two\n"


def test_a_command_that_takes_too_long_is_given_up_and_the_session_goes_on(session: Session) -> None:
    with failing("remote_timeout"):
        session.run("sleep 60", timeout_s=0.5)
    assert session.run("echo next").out == "next\n"


def test_noise_of_the_login_shell_never_reaches_the_reader(
    make_sshd: Callable[..., Sshd], connect: Callable[..., Session]
) -> None:
    sshd = make_sshd(options={"Banner": "/etc/passwd"})
    (sshd.user_home / ".bashrc").write_text("printf 'Welcome, no newline'; echo oops >&2; set -x\n")
    session = connect(sshd)

    done = session.run("echo real; echo wrong >&2")
    fed = session.run("cat", stdin=b"data")

    assert (done.out, done.err) == ("real\n", "wrong\n")
    assert (fed.out, fed.err) == ("data", "")


def test_a_shell_that_runs_nothing_is_named_with_what_it_says(
    make_sshd: Callable[..., Sshd], connect: Callable[..., Session]
) -> None:
    session = connect(make_sshd(options={"ForceCommand": "echo This account is currently not available.; exit 1"}))

    with pytest.raises(SshFailure) as caught:
        session.run("echo x")
    assert caught.value.code == "session_refused"
    assert "This account is currently not available" in caught.value.message


def test_many_threads_use_one_connection(session: Session, sshd: Sshd) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = session.run(f"sleep 0.1; cat; echo {number}", stdin=b"x" * 100_000, timeout_s=100).out[
            100_000:
        ]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {number: f"{number}\n" for number in range(24)}
    assert sshd.connections() == 1


def test_a_connection_lost_in_the_middle_of_a_command_is_said_at_once(session: Session, sshd: Sshd) -> None:
    lines: list[str] = []
    killer = threading.Thread(target=lambda: (wait_until(lambda: lines, "the command", 30), sshd.kill_sessions()))
    killer.start()

    with failing("connection_lost"):
        session.run("echo up; exec sleep 60", timeout_s=55, on_line=lines.append)
    killer.join()
    assert not session.alive
    with failing("connection_lost"):
        session.run("echo x")


def test_a_connection_lost_while_input_is_sent_is_said_at_once(session: Session, sshd: Sshd) -> None:
    def chunks():
        yield b"x"
        sshd.kill_sessions()
        while True:
            yield bytes(100_000)

    with failing("connection_lost"):
        session.stream_in("cat > /dev/null", chunks(), timeout_s=55)


def test_a_host_that_goes_silent_is_noticed(sshd: Sshd, connect: Callable[..., Session]) -> None:
    session = connect(sshd, alive=Alive(every=0.2, within=1.0))
    sshd.freeze_sessions()

    started = time.monotonic()
    with failing("connection_lost"):
        session.run("echo x", timeout_s=55)
    assert time.monotonic() - started < 30
    assert not session.alive


def test_a_quiet_session_lives_on_and_a_time_out_counts_on_a_silent_host_too(
    sshd: Sshd, connect: Callable[..., Session]
) -> None:
    session = connect(sshd, alive=Alive(every=0.05, within=30.0))
    assert session.run("sleep 1; echo still").out == "still\n"

    sshd.freeze_sessions()
    with failing("remote_timeout"):
        session.run("echo x", timeout_s=0.5)
    sshd.thaw()


def test_what_the_chunks_raise_is_raised_and_the_command_does_not_take_the_part_for_the_whole(
    session: Session, sshd: Sshd
) -> None:
    def chunks():
        yield b"half"
        raise ValueError("the file is gone")

    with pytest.raises(ValueError, match="the file is gone"):
        session.stream_in("cat > got && mv got whole", chunks(), timeout_s=55)
    assert session.run("echo next").out == "next\n"


def test_streams_of_many_chunks_arrive_whole(session: Session) -> None:
    chunks = [os.urandom(10_007) for _ in range(300)]

    done = session.stream_in("sha256sum", iter(chunks), timeout_s=100)

    assert done.out.split()[0] == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_a_host_that_allows_no_second_session_says_so(
    make_sshd: Callable[..., Sshd], connect: Callable[..., Session]
) -> None:
    sshd = make_sshd(options={"MaxSessions": "1"})
    session = connect(sshd)
    started = threading.Event()
    command = "echo up; until [ -e gate ]; do sleep 0.05; done"
    first = threading.Thread(target=lambda: session.run(command, timeout_s=100, on_line=lambda line: started.set()))
    first.start()
    assert started.wait(30)

    with failing("session_refused"):
        session.run("echo second")
    (sshd.user_home / "gate").touch()
    first.join()
    for number in range(20):
        assert session.run(f"echo {number}").out == f"{number}\n"


def test_a_session_leaves_no_threads_and_no_processes(sshd: Sshd, connect: Callable[..., Session]) -> None:
    before = set(threading.enumerate())
    session = connect(sshd)
    session.run("cat", stdin=b"x")
    session.close()
    session.close()

    wait_until(lambda: not sshd.session_pids(), "the session to end over there", 20)
    wait_until(lambda: not (set(threading.enumerate()) - before), "its threads to end", 20)


def test_of_an_output_without_an_end_the_end_is_kept(session: Session) -> None:
    done = session.run("head -c 40000000 /dev/zero | tr '\\0' x; echo last", timeout_s=60)
    assert len(done.out) == exchange.MAX_KEPT
    assert done.out.endswith("xlast\n")


def test_a_line_without_an_end_is_told_in_pieces() -> None:
    told: list[str] = []
    lines = exchange.Lines(told.append)
    for _ in range(50):
        lines.feed(b"x" * 65_536)
    assert 1 < len(told) < 10
    lines.feed(b"end\n", last=True)
    assert len("".join(told)) == 50 * 65_536 + 3
