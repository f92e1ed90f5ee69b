"""A rented machine that has become a node: it comes back by itself, and its use keeps the machine."""

from __future__ import annotations

from pathlib import Path

from llmhost.bootstrap.agent import Agent
from llmhost.bootstrap.install import Wish, bootstrap
from llmhost.core.guard_files import ACTIVE
from tests.bootstrap.place import TOKEN, Shown, ask
from tests.onstart.box import FOLDER
from tests.support.system import wait_until


def test_after_a_restart_of_the_container_the_node_serves_again_and_its_use_counts(rent, log_in, bundles):
    box = rent(idle_s=3_600).wait_done().wait_guard()
    for name in ("active", "contact"):
        box.age(name, 1_000)
    wish = Wish("rehearsal", TOKEN, "n1", server={"activity_file": ACTIVE})
    installed = bootstrap(log_in(box), FOLDER, wish, Shown(), bundles)
    assert box.how_old("active") < 500  # its setting up is a use of it
    assert box.how_old("contact") < 500
    box.age("active", 1_000)
    assert ask(installed)
    assert box.how_old("active") < 500

    box.reboot()
    wait_until(lambda: "node-up" in box.told.phases, f"the node; the log says {box.machine.output()}", 60)
    assert box.told.phases == ("begun", "node", "node-up", "done")
    assert ask(installed)
    box.age("contact", 1_000)
    box.age("boot", 1_000)
    agent = Agent(log_in(box), installed.python, installed.folder)
    assert [child["state"] for child in agent.status()["children"]] == ["up"]
    assert box.how_old("contact") < 500

    own = box.server.control.instance(box.number).key.encode()
    ours = [pid for pid, line in box.machine.processes().items() if "llmhost" in line and "onstart.sh" not in line]
    assert len(ours) >= 2
    assert not [pid for pid in ours if own in Path(f"/proc/{pid}/environ").read_bytes()]


def test_a_node_that_cannot_be_started_is_no_end_of_the_guard(rent):
    box = rent(contact_s=3_600).wait_done().wait_guard()
    folder = box.root / FOLDER
    folder.mkdir(parents=True)
    (folder / "node.json").write_text("{}")
    box.reboot()
    wait_until(lambda: box.told.phases[-1:] == ("done",), "the second run", 60)
    assert "node-up" not in box.told.phases
    box.age("contact", 3_700)
    box.age("boot", 3_700)
    box.wait_gone()
