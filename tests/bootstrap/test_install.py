"""The whole bootstrap, on a real sshd: from nothing to a node proxy that answers, again and again, upgraded, hurt and taken away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import llmhost
from llmhost.core.errors import LlmhostError, NotReady
from llmhost.ssh.failures import SshFailure
from tests.bootstrap.place import TOKEN, Shown, ask, client
from tests.support.system import processes_touching, wait_until

REHEARSE = "@rehearse words 30; pace 100"


def test_a_bare_machine_becomes_a_node_and_the_second_time_changes_nothing(place):
    shown, began = Shown(), time.monotonic()
    first = place.up(shown=shown)
    assert time.monotonic() - began < 15 + 45  # a third of that when the machine has nothing else to do
    assert first.changed
    assert first.folder == f"{place.home}/.llmhost/nodes/n1"
    assert shown.phases == ["check", *["bundle"] * (len(shown.phases) - 3), "start", "ready"]
    done, total = shown.transfers["bundle"][-1]
    assert done == total > 1_000_000
    assert "rehearsal" in ask(first)
    pids = place.processes()

    shown = Shown()
    second = place.up(shown=shown)
    assert not second.changed
    assert shown.phases == ["check", "start", "ready"]
    assert (second.proxy_socket, second.folder) == (first.proxy_socket, first.folder)
    assert place.processes() == pids


def test_the_node_goes_on_when_the_operator_hangs_up_and_sshd_is_restarted(standing):
    for session in standing.sessions:
        session.close()
    standing.sshd.restart()
    assert ask(standing.installed)
    assert standing.child(standing.agent(standing.installed), "proxy")["state"] == "up"


def test_no_secret_is_in_a_command_line_an_environment_or_a_readable_file(standing):
    token = TOKEN.encode()
    for pid in standing.processes():
        process = Path("/proc") / str(pid)
        assert token not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    readable = [path for path in standing.home.rglob("*") if path.is_file() and token in path.read_bytes()]
    assert [path.name for path in readable] == ["node.json"]
    assert stat.S_IMODE(readable[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(standing.installed.folder).stat().st_mode) == 0o700
    assert TOKEN not in json.dumps(standing.agent(standing.installed).status())
    assert TOKEN not in standing.sshd.log


def test_without_the_token_the_node_answers_nothing(standing):
    with client(standing.installed) as caller:
        assert caller.get("/v1/models", headers={"authorization": "Bearer other"}).status_code == 401


def test_another_wish_replaces_the_proxy_alone(standing):
    supervisor = standing.agent(standing.installed).status()["supervisor"]["pid"]
    changed = standing.up(server={"log_level": "warning"}, tcp=True)
    assert changed.changed
    assert changed.did["replaced"] == ["proxy"]
    agent = standing.agent(changed)
    assert agent.status()["supervisor"]["pid"] == supervisor
    agent.stop()
    again = agent.start(wait_s=30)
    assert (again["proxy_port"], again["children"][0]["state"]) == (changed.proxy_port, "up")
    with httpx.Client(headers={"authorization": f"Bearer {TOKEN}"}) as caller:
        assert caller.get(f"http://127.0.0.1:{changed.proxy_port}/v1/models").status_code == 200
    assert standing.up().proxy_port is None


def test_what_dies_on_the_node_comes_back(standing):
    agent = standing.agent(standing.installed)
    before = standing.wait_up(agent, "proxy")
    os.kill(before["pid"], signal.SIGKILL)
    after = standing.wait_up(agent, "proxy", but=before["pid"])
    assert after["restarts"] == before["restarts"] + 1

    os.kill(agent.status()["supervisor"]["pid"], signal.SIGKILL)
    wait_until(lambda: not standing.processes(), "the proxy to end with its supervisor", 20)
    assert agent.status()["children"] == []
    assert agent.start(wait_s=30)["children"][0]["state"] == "up"
    assert ask(standing.installed)


def test_restart_replaces_the_service_each_time(standing):
    agent = standing.agent(standing.installed)
    pids = [standing.wait_up(agent, "proxy")["pid"]]
    for _ in range(2):
        agent.restart(["proxy"], wait_s=30)
        pids.append(standing.wait_up(agent, "proxy", but=pids[-1])["pid"])
    assert len(set(pids)) == 3
    with pytest.raises(LlmhostError) as refused:
        agent.restart(["ollama"])
    assert refused.value.code == "not_ours"


def test_stop_leaves_no_process_and_start_needs_no_operator(standing):
    installed = standing.installed
    agent = standing.agent(installed)
    for _ in range(2):
        assert agent.stop() == {"stopped": True, "left": []}
        assert not standing.processes()
    lib, program = f"{installed.folder}/current/lib", f"{installed.python} -P -m llmhost.node"
    command = f"PYTHONPATH={lib} {program} start --wait 30 --folder {installed.folder}"
    assert standing.session().run(command).code == 0  # what a reboot would run
    assert ask(installed)


def test_logs_come_over_and_follow_until_hung_up(standing):
    agent = standing.agent(standing.installed)
    lines = []
    agent.logs("proxy", 50, lines.append)
    assert any("listening" in line for line in lines)
    heard = threading.Event()
    followed = standing.agent(standing.installed)
    session = standing.sessions[-1]

    def follow():
        with pytest.raises(SshFailure):
            followed.logs("supervisor", 1, lambda line: heard.set() if "child_started" in line else None, follow=True)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(follow)
        agent.restart(["proxy"], wait_s=30)
        assert heard.wait(20)
        session.close()
        running.result(20)
    readers = lambda: [argv for argv in processes_touching(standing.home).values() if "--follow" in argv]  # noqa: E731
    wait_until(lambda: not readers(), "the reader to end", 20)
    with pytest.raises(LlmhostError) as wrong:
        agent.logs("nonsense", 1, lines.append)
    assert wrong.value.exit_code == 2


def test_neither_the_users_own_python_settings_and_packages_nor_an_odd_home_get_in_the_way(make_place, short_tmp):
    theirs = short_tmp / "theirs"
    settings = {"PYTHONHOME": "/nowhere", "PYTHONPATH": theirs, "PYTHONINSPECT": "1", "PYTHONUSERBASE": theirs}
    place = make_place(home="a home 'of' Zoë", environment={name: str(value) for name, value in settings.items()})
    mine = theirs / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    for folder in (theirs / "llmhost", mine / "aiohttp"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('shadowed')")
    trace = short_tmp / "trace"
    (mine / "usercustomize.py").write_text(f"open({str(trace)!r}, 'w').close()")
    installed = place.up()
    assert installed.folder == f"{place.home}/.llmhost/nodes/n1"
    assert ask(installed)
    agent = place.agent(installed)
    with pytest.raises(LlmhostError) as failed:
        agent.restart(["x; touch injected", "$(touch injected)"])
    assert failed.value.code == "usage"
    assert agent.stop()["left"] == []
    assert not trace.exists()
    assert not list(place.home.rglob("injected"))


def test_two_nodes_live_on_one_machine_and_one_may_go(standing):
    one, two = standing.installed, standing.up("n2")
    assert one.folder != two.folder
    assert one.proxy_socket != two.proxy_socket
    assert ask(one) == ask(two)
    assert standing.agent(two).remove() == {"removed": True, "left": [], "kept": []}
    assert not Path(two.folder).exists()
    assert ask(one)
    assert len([argv for argv in standing.processes().values() if "llmhost.supervisor" in argv]) == 1


def test_several_bootstraps_at_once_do_no_harm_and_the_last_node_leaves_nothing(place):
    with ThreadPoolExecutor(3) as pool:
        installed = [one.result() for one in [pool.submit(place.up) for _ in range(3)]]
    assert len({one.proxy_socket for one in installed}) == 1
    agent = place.agent(installed[0])
    assert [(child["name"], child["state"]) for child in agent.status()["children"]] == [("proxy", "up")]
    assert len([argv for argv in place.processes().values() if "llmhost.supervisor" in argv]) == 1
    assert len(list(Path(installed[0].folder, "releases").glob("[0-9a-f]*"))) == 1
    agent.remove()
    assert not (place.home / ".llmhost").exists()
    assert not Path(installed[0].proxy_socket).parent.exists()
    assert not place.processes()


# A new release: the same program, with one line more.
UPGRADE = """
import json, sys
from pathlib import Path
from tests.bootstrap.place import Place
from tests.support.sshd import Sshd
folder, cache, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
class Running:
    user_home, client_key = folder / "home", folder / "sshd" / "client_key"
    from llmhost.ssh.target import SshTarget
    import getpass
    target = SshTarget("127.0.0.1", port, getpass.getuser())
place = Place.__new__(Place)
place.folder, place.cache, place.sshd, place.home, place.sessions = folder, cache, Running, folder / "home", []
installed = place.up()
print(json.dumps({"did": installed.did, "changed": installed.changed, "release": place.agent(installed).status()["release"]}))
"""


@pytest.fixture
def changed_code(tmp_path):
    """The environment in which llmhost is the same version with other code."""
    root = Path(llmhost.__file__).parents[1]
    for name in ("llmhost", "tests", "templates"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "bench"))
    status = tmp_path / "llmhost" / "proxy" / "status.py"
    status.write_text(status.read_text() + "\n# changed\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}


def upgrade(place, environ):
    argv = [sys.executable, "-P", "-c", UPGRADE, str(place.folder), str(place.cache), str(place.sshd.port)]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=100, cwd=place.folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_changed_code_is_an_upgrade_in_place_that_cuts_no_answer(place, changed_code):
    installed = place.up()
    agent = place.agent(installed)
    before = agent.status()
    began = threading.Event()

    def stream():
        body = {"max_tokens": 200, "stream": True, "messages": [{"role": "user", "content": REHEARSE}]}
        with client(installed) as caller, caller.stream("POST", "/v1/messages", json=body) as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line)
                if "content_block_delta" in line:
                    began.set()
        return lines

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stream)
        assert began.wait(20)
        upgraded = upgrade(place, changed_code)
        assert "event: message_stop" in running.result()
    after = agent.status()
    assert upgraded["changed"]
    assert upgraded["release"] == after["release"] != before["release"]
    assert after["supervisor"]["pid"] != before["supervisor"]["pid"]
    assert ask(installed)
    releases = {path.name for path in Path(installed.folder, "releases").glob("[0-9a-f]*")}
    assert releases == {before["release"], after["release"]}
    old = place.up()  # and back again: what was there before is still there
    assert (old.did["pushed"], place.agent(old).status()["release"]) == (False, before["release"])


def test_a_connection_that_breaks_in_the_middle_leaves_what_ran_running(standing):
    class Cutting(Shown):
        def phase(self, code, text):
            super().phase(code, text)
            if code == "start":
                standing.sshd.kill_sessions()

    with pytest.raises(SshFailure):
        standing.up(shown=Cutting(), server={"log_level": "warning"})
    assert ask(standing.installed)
    assert standing.up(server={"log_level": "warning"}).changed
    assert standing.up().changed


def test_a_server_that_cannot_start_says_why(standing):
    with pytest.raises(NotReady) as failed:
        standing.up("n3", server={"log_level": "nonsense"})
    assert failed.value.code == "node_not_up"
    assert "proxy does not come up on the node: exited with code 1" in failed.value.message
    assert "nonsense" in failed.value.message.lower()


def test_a_node_whose_folder_was_deleted_says_so_and_can_be_made_again(standing):
    lost = standing.up("n4")
    agent = standing.agent(lost)
    agent.stop()
    shutil.rmtree(lost.folder)
    with pytest.raises(LlmhostError) as failed:
        agent.status()
    assert failed.value.code == "node_not_installed"
    assert standing.up("n4").changed
