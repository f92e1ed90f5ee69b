"""Files to the other side: whole and private or not at all, with SFTP and without."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmhost.ssh.session import Session
from tests.ssh.conftest import failing
from tests.support.sshd import Sshd

MB = 1_000_000
BY = pytest.mark.parametrize("sftp", [True, False], ids=["sftp", "stream"])


@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    """A file of 20 MB."""
    file = tmp_path / "bundle"
    file.write_bytes(os.urandom(20 * MB))
    return file


@pytest.fixture
def small(make_sshd: Callable[..., Sshd], tmp_path: Path) -> Iterator[Callable[[bool], Sshd]]:
    """Make a server whose home is on a disk of 1 MB; for those who may not mount one, its files end there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk]
    mounted = os.getuid() == 0 and not subprocess.run(command, capture_output=True).returncode
    limit = {} if mounted else {"largest_file_kb": 1_000}

    yield lambda sftp: make_sshd(sftp=sftp, user_home=disk, **limit)
    if mounted:
        subprocess.run(["umount", "-l", disk], check=True)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@BY
def test_a_file_arrives_whole_and_private_with_its_progress_told(
    sftp: bool, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], twenty: Path
) -> None:
    sshd = make_sshd(sftp=sftp)
    session = connect(sshd)
    told: list[tuple[int, int]] = []

    how = session.put(twenty, "it's here", on_progress=lambda done, total: told.append((done, total)))

    arrived = sshd.user_home / "it's here"
    assert how == ("sftp" if sftp else "stream")
    assert digest(arrived) == digest(twenty)
    assert arrived.stat().st_mode & 0o777 == 0o600
    assert told[0] == (0, 20 * MB)
    assert told[-1] == (20 * MB, 20 * MB)
    assert told == sorted(told)
    assert len(told) > 20
    assert [path.name for path in sshd.user_home.iterdir()] == ["it's here"]


def test_a_host_without_sftp_is_asked_for_it_once(
    make_sshd: Callable[..., Sshd], connect: Callable[..., Session], tmp_path: Path
) -> None:
    sshd = make_sshd(sftp=False)
    session = connect(sshd)
    (tmp_path / "small").write_text("small")

    assert [session.put(tmp_path / "small", f"f{number}") for number in range(3)] == ["stream"] * 3
    assert sshd.log.count("subsystem request for sftp") <= 2  # what one request writes


def test_a_shell_whose_noise_spoils_sftp_gets_the_stream(
    make_sshd: Callable[..., Sshd], connect: Callable[..., Session], tmp_path: Path
) -> None:
    sshd = make_sshd(prints="Welcome to the machine!")
    (tmp_path / "small").write_text("small")

    assert connect(sshd).put(tmp_path / "small", "there") == "stream"
    assert (sshd.user_home / "there").read_text() == "small"


@BY
def test_an_older_file_is_replaced_and_an_empty_one_is_a_file(
    sftp: bool, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], tmp_path: Path
) -> None:
    sshd = make_sshd(sftp=sftp)
    (sshd.user_home / "there").write_text("much older, and longer")
    (sshd.user_home / "there.part").write_text("left over")
    (tmp_path / "empty").write_text("")

    connect(sshd).put(tmp_path / "empty", str(sshd.user_home / "there"))

    assert (sshd.user_home / "there").read_bytes() == b""
    assert (sshd.user_home / "there").stat().st_mode & 0o777 == 0o600
    assert not (sshd.user_home / "there.part").exists()


@BY
def test_a_lost_connection_leaves_the_old_file_and_the_next_attempt_works(
    sftp: bool, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], twenty: Path
) -> None:
    sshd = make_sshd(sftp=sftp)
    (sshd.user_home / "there").write_text("old")

    def cut(done: int, total: int) -> None:
        if done > total // 2:
            sshd.kill_sessions()

    with failing("connection_lost"):
        connect(sshd).put(twenty, "there", on_progress=cut)
    assert (sshd.user_home / "there").read_text() == "old"

    connect(sshd).put(twenty, "there")
    assert digest(sshd.user_home / "there") == digest(twenty)
    assert [path.name for path in sshd.user_home.iterdir()] == ["there"]


@BY
def test_what_ends_the_upload_here_leaves_nothing_there(
    sftp: bool, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], twenty: Path
) -> None:
    sshd = make_sshd(sftp=sftp)
    session = connect(sshd)

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        session.put(twenty, "there", on_progress=stop)
    assert list(sshd.user_home.iterdir()) == []
    assert session.run("echo still here").out == "still here\n"


@BY
def test_a_full_disk_is_named_and_left_as_it_was(
    sftp: bool, small: Callable[[bool], Sshd], connect: Callable[..., Session], twenty: Path
) -> None:
    sshd = small(sftp)
    session = connect(sshd)

    with failing("disk_full") as caught:
        session.put(twenty, "there")
    assert caught.value.exit_code == 1
    assert list(sshd.user_home.iterdir()) == []
    assert session.run("echo still here").out == "still here\n"


@BY
def test_a_home_that_cannot_be_written_is_named(
    sftp: bool, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], twenty: Path
) -> None:
    session = connect(make_sshd(sftp=sftp, read_only_home=True))

    with failing("remote_unwritable", "Permission denied"):
        session.put(twenty, "there")
    with failing("remote_unwritable"):
        session.put(twenty, "/no/such/folder/there")


@BY
def test_new_keys_may_be_agreed_on_in_the_middle(
    sftp: bool, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], twenty: Path
) -> None:
    sshd = make_sshd(sftp=sftp, options={"RekeyLimit": "2M"})

    connect(sshd).put(twenty, "there")

    assert digest(sshd.user_home / "there") == digest(twenty)
    assert sshd.log.count("SSH2_MSG_NEWKEYS received") > 5


def test_two_uploads_at_once_over_one_connection(session: Session, sshd: Sshd, twenty: Path) -> None:
    threads = [threading.Thread(target=session.put, args=(twenty, f"there{number}")) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {digest(sshd.user_home / f"there{number}") for number in range(3)} == {digest(twenty)}


def test_a_file_that_is_not_here_is_the_callers_error(session: Session, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        session.put(tmp_path / "none", "there")
