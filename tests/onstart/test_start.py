"""What the script does at every start of the container, on a real one of the stand-in marketplace."""

from __future__ import annotations

import os
import stat

from tests.onstart.box import AWHILE, KEY, Box, poor_tools
from tests.support.system import wait_until


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_our_key_is_let_in_and_the_log_has_the_key_that_sshd_serves(rent):
    box = rent().wait_done().wait_guard().wait_host_keys()
    authorized = box.root / ".ssh" / "authorized_keys"
    assert KEY in authorized.read_text().splitlines()
    assert (mode(authorized), mode(authorized.parent), mode(box.guard_folder)) == (0o600, 0o700, 0o700)
    assert (box.root / ".no_auto_tmux").exists()
    assert box.told.host_keys == (tuple(box.machine.sshd.host_key.split()),)
    assert box.told.phases == ("begun", "done")
    assert all("LLMHOST-" in line for line in box.machine.output().splitlines())


def test_run_twice_there_is_one_guard_one_key_and_what_was_there_stays(rent):
    box = rent(lease_ends_at=4_000_000_000).wait_done().wait_guard()
    authorized = box.root / ".ssh" / "authorized_keys"
    theirs = "ssh-rsa AAAA somebody@else"
    authorized.write_text(f"{theirs}\n{KEY}")  # no line end
    first = box.guard()
    box.again()
    wait_until(lambda: box.guards() and first not in box.guards(), "the older guard to end", 20)
    box.looked()
    assert len(box.guards()) <= 1
    assert authorized.read_text().splitlines() == [theirs, KEY]
    authorized.write_text(theirs)
    box.again()
    assert [line for line in authorized.read_text().splitlines() if line] == [theirs, KEY]


def test_without_ssh_keyscan_nothing_is_said_of_host_keys(open_market, short_tmp):
    """The tools of a poor image: no ssh-keyscan, and Python in the place of curl."""
    tools = poor_tools(short_tmp / "tools", without=("curl", "ssh-keyscan"))
    server = open_market(environment={"PATH": str(tools)})
    box = Box.of(server).wait_done().wait_guard()
    assert box.told.host_keys == ()
    box.age("contact", 2 * AWHILE)
    box.age("boot", 2 * AWHILE)
    box.wait_gone()
    assert [call.identity for call in box.destroys()][:1] == [f"container {box.number}"]


def test_without_any_way_to_call_the_guard_says_so(open_market, short_tmp):
    tools = poor_tools(short_tmp / "tools", without=("curl", "python3"))
    box = Box.of(open_market(environment={"PATH": str(tools)})).wait_done()
    box.wait_guard("failed")
    assert box.told.guarded is False
    assert box.state().startswith("failed")


def test_nothing_is_written_outside_the_home(rent):
    box = rent().wait_done().wait_guard().wait_host_keys()
    made = {path.name for path in box.machine.folder.iterdir()}
    assert made == {"root", "tmp", "bin", "etc", "sshd", "container.log"}
    assert list((box.machine.folder / "tmp").iterdir()) == []
    assert {path.name for path in box.root.iterdir()} <= {".ssh", ".llmhost", ".no_auto_tmux", "onstart.sh"}


def test_neither_key_is_where_it_could_be_seen(market, rent):
    """The account's is nowhere; the container's is in no command line, and in no environment but those the marketplace gave it to."""
    box = rent(idle_s=AWHILE).wait_done().wait_guard().wait_host_keys()
    own = market.control.instance(box.number).key
    shown = box.machine.output() + "".join(box.machine.processes().values())
    files = [path for path in box.root.rglob("*") if path.is_file()]
    assert not [path for path in files if market.key in path.read_text() or own in path.read_text()]
    assert market.key not in shown
    assert own not in shown
    for pid in box.machine.processes():
        if os.path.exists(f"/proc/{pid}/environ"):
            assert market.key.encode() not in environ_of(pid)
    assert all(own.encode() not in environ_of(pid) for pid in [box.sleeper()] if pid)


def environ_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:  # it ended meanwhile
        return b""
