"""The dead-man switch: a rented machine that destroys itself with its own key, whatever becomes of the operator."""

from __future__ import annotations

import os
import signal
import time

from llmhost.onstart.render import render
from tests.onstart.box import AWHILE, Box, boot
from tests.support.marketplace.faults import ALWAYS
from tests.support.system import wait_until

NEVER = 4_000_000_000
GUARDS_OWN = r"instances/\d+/$"  # a client's has a query


def test_it_ends_the_machine_when_the_operator_is_away_for_too_long(rent):
    box = rent(contact_s=AWHILE, idle_s=2 * AWHILE).wait_guard()
    assert (box.told.guarded, box.state()) == (True, "ok")
    box.looked()
    assert box.exists
    box.age("contact", AWHILE)
    box.looked()
    assert box.exists  # the container itself is young
    box.age("boot", AWHILE)
    box.wait_gone()
    call = box.destroys()[0]
    assert (call.identity, call.method, call.body) == (f"container {box.number}", "DELETE", {})


def test_contact_keeps_it(rent):
    box = rent(contact_s=AWHILE).wait_guard()
    box.age("contact", AWHILE - 60)
    box.age("boot", 10 * AWHILE)
    box.looked()
    assert box.exists
    box.age("contact", AWHILE)
    box.wait_gone()


def test_it_ends_the_machine_when_nobody_has_work_for_it(rent):
    box = rent(idle_s=60).wait_guard()
    box.age("boot", 100)
    box.looked()
    assert box.exists
    box.age("active", 61)
    box.wait_gone()


def test_without_an_idle_limit_only_contact_counts(rent):
    box = rent().wait_guard()
    for name in ("boot", "active"):
        box.age(name, 1_000_000)
    box.looked()
    assert box.exists


def test_the_hard_end_comes_however_busy_it_is_and_can_be_moved(rent):
    box = rent(lease_ends_at=NEVER, idle_s=AWHILE).wait_guard()
    ends = box.guard_folder / "ends"
    assert int(ends.read_text()) == NEVER
    for later in ("", "rubbish", "12", str(NEVER + 1), f"{NEVER}.5"):  # half written, say
        ends.write_text(later)
        box.looked(1)
        assert box.exists, later
    ends.write_text(f"{int(time.time()) - 1}\n")
    box.wait_gone()


def test_a_lease_that_is_over_at_the_first_start_ends_it(rent):
    box = rent(lease_ends_at=int(time.time()) - 10)
    box.wait_gone()


def test_an_extension_outlives_a_restart(rent):
    soon = int(time.time()) + AWHILE
    box = rent(lease_ends_at=soon).wait_guard()
    (box.guard_folder / "ends").write_text(str(soon + AWHILE))
    box.reboot()
    box.wait_done().wait_guard()
    assert (box.guard_folder / "ends").read_text() == str(soon + AWHILE)
    (box.guard_folder / "ends").unlink()
    box.reboot()
    box.wait_done().wait_guard()
    assert not (box.guard_folder / "ends").exists()


def test_restarts_without_an_operator_do_not_keep_it(rent):
    box = rent(contact_s=AWHILE).wait_guard()
    box.age("contact", AWHILE - 40)  # before the last start
    box.age("boot", AWHILE - 50)
    for _ in range(2):
        box.reboot()
        box.wait_done()
    assert box.how_old("boot") > AWHILE - 51
    box.age("boot", AWHILE)
    box.age("contact", AWHILE + 1)
    box.wait_gone()


def test_a_machine_that_was_stopped_for_long_can_be_come_back_to(rent):
    """The operator was there after the last start: so the count begins anew, once."""
    box = rent(contact_s=AWHILE, idle_s=AWHILE).wait_guard()
    box.stop_and_start(
        lambda: [box.age(name, days * 86_400) for name, days in (("boot", 3), ("contact", 2), ("active", 2))]
    )
    box.wait_done().wait_guard()
    box.looked()
    assert box.exists
    assert box.how_old("boot") < AWHILE
    assert box.how_old("contact") > 86_400


def test_a_call_that_fails_is_made_again_until_it_works(market, rent):
    box = rent(idle_s=60).wait_guard()
    for kind in ("server_error", "dropped", "html_200", "rate_limited", "unsuccessful", "auth"):
        market.control.fault(kind, "DELETE")
    box.age("boot", 100)
    box.age("active", 100)
    box.wait_gone()
    assert len(box.destroys()) >= 7


def test_a_key_that_is_not_good_for_it_is_told(market, rent):
    market.control.fault("auth", "GET", GUARDS_OWN, count=ALWAYS, status=401)
    box = rent().wait_guard("failed")
    assert (box.told.guarded, box.told.guard, box.state()) == (False, "failed 401", "failed 401")
    market.control.clear_faults()
    box.wait_guard("ok")
    wait_until(lambda: box.state() == "ok", "the state", 10)


def test_it_works_where_its_folder_cannot_be_made(market):
    """From what the script says alone: there is no more to know."""
    script = render(boot(market.url, contact_s=8)).replace("umask 077", 'umask 077; echo >"$HOME/.llmhost"', 1)
    Box(market, script).wait_gone()


def test_it_outlives_the_script_and_a_lost_folder(rent):
    box = rent(contact_s=12).wait_done().wait_guard()
    guard = box.guard()
    assert os.getpgid(guard) == guard
    os.killpg(guard, signal.SIGHUP)
    for path in box.guard_folder.iterdir():
        path.unlink()
    box.guard_folder.rmdir()
    box.wait_gone()
