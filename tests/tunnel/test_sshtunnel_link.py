"""A whole link over the fallback transport: it comes up, and comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from llmhost.supervisor.logfile import EventLog
from llmhost.tunnel.link import Link
from tests.support.echo_node import ask
from tests.support.system import wait_until
from tests.support.transport_rig import TransportRig

PATIENT_S = 30.0


def test_it_is_up_and_up_again_after_its_connection_was_lost(short_tmp: Path):
    run = short_tmp / "r"
    run.mkdir(mode=0o700)
    with TransportRig(short_tmp, "sshtunnel") as rig:
        timing = dataclasses.replace(rig.spec.timing, echo_every=0.5, backoff_first=0.05, probe_every=0.4)
        spec = dataclasses.replace(rig.spec, timing=timing)
        link = Link(spec, run, EventLog(short_tmp / "log"), lambda: None, lifeline=rig.lifeline)
        link.start()
        try:
            _wait_up(link, 0)
            assert ask(link.spec.local, "GET", "/health")[0] == 200
            rig.sshd.kill_sessions()
            _wait_up(link, 1)
            assert ask(link.spec.local, "GET", "/health")[0] == 200
        finally:
            link.close()
            assert link.join(10)


def _wait_up(link: Link, reconnects: int) -> None:
    wait_until(
        lambda: link.view()["state"] == "up" and link.view()["reconnects"] == reconnects, f"{link.view()}", PATIENT_S
    )
