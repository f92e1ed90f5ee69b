"""The dead-man switch where time, disk or an earlier start of the container went wrong: it neither ends what is used nor forgets to end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llmhost.onstart.render import render
from tests.onstart.box import AWHILE, Box, boot
from tests.support.system import wait_until

YEAR = 365 * 86_400
# The machine's clock: by how much it is wrong is in a file.
DATE = '#!/bin/sh\nexec /bin/date -d "@$(($(/bin/date +%%s) + $(cat %s)))" "$@"\n'
TOUCH = '#!/bin/sh\nexec /usr/bin/touch -d "@$(($(/bin/date +%%s) + $(cat %s)))" "$@"\n'


@pytest.fixture
def wrong_by(short_tmp):
    file = short_tmp / "wrong-by"
    file.write_text("0")
    return file


@pytest.fixture
def set_clock(wrong_by):
    def set_clock(seconds):
        fresh = wrong_by.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(wrong_by)

    return set_clock


@pytest.fixture
def clocked(open_market, wrong_by):
    """Rents a machine whose clock can be set."""
    server = open_market(programs={"date": DATE % wrong_by, "touch": TOUCH % wrong_by})
    return lambda **changes: Box.of(server, **changes)


@pytest.mark.parametrize("jump", [YEAR, 2 * AWHILE])
def test_a_clock_that_is_set_forward_ends_nothing_that_is_used(clocked, set_clock, jump):
    box = clocked(contact_s=AWHILE, idle_s=AWHILE).wait_guard()
    box.age("boot", AWHILE + 60)
    box.looked()
    set_clock(jump)
    box.looked(3)
    assert box.exists
    box.age("contact", AWHILE - jump + 5)
    box.age("boot", AWHILE - jump + 5)
    box.wait_gone()


def test_a_clock_that_is_set_back_does_not_keep_the_machine(clocked, set_clock):
    set_clock(YEAR)
    box = clocked(contact_s=6).wait_guard()
    set_clock(0)
    box.wait_gone()


def test_files_from_the_future_do_not_keep_the_machine(rent):
    """The clock was set right while the container was stopped."""
    box = rent(contact_s=AWHILE).wait_guard()
    for name in ("boot", "contact", "active"):
        box.age(name, -YEAR)
    wait_until(lambda: abs(box.how_old("boot")) < 60 and abs(box.how_old("contact")) < 60, "a fresh count", 30)
    for name in ("boot", "contact"):
        box.age(name, AWHILE)
    box.wait_gone()


def test_an_end_that_was_begun_to_be_written_is_written_at_the_next_start(market):
    over = render(boot(market.url, lease_ends_at=int(time.time()) - 10))
    begun = "umask 077; mkdir -p ~/.llmhost/guard; [ -e ~/.llmhost/guard/boot ] || : >~/.llmhost/guard/ends"
    Box(market, over.replace("umask 077", begun, 1)).wait_gone()


def test_an_old_guards_number_that_cannot_be_replaced_stops_no_guard(market):
    script = render(boot(market.url, contact_s=5))
    line = 'echo "$me" >pid'
    assert line in script
    Box(market, script.replace(line, f"echo 7 >pid; {line[:-3]}/dev/full", 1)).wait_gone()


def test_what_the_guard_starts_is_not_told_the_key(rent):
    """The script's own processes have it from the container; what they start does not, and nobody has it on its command line."""
    box = rent(contact_s=AWHILE).wait_guard()
    key = box.server.control.instance(box.number).key
    sleeper = wait_until(box.sleeper, "the guard to sleep", 20)
    assert key.encode() not in Path(f"/proc/{sleeper}/environ").read_bytes()
    assert not [line for line in box.machine.processes().values() if key in line]
