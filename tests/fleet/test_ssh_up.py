"""A fleet over SSH from `up` to `down`, on real sshds, with the real servers on the rehearsal backend."""

from __future__ import annotations

import os
import shutil
import signal
import socket

import pytest

from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.ledger import Ledger
from llmhost.fleet.access import ensure_gateway
from llmhost.fleet.plan import UpRequest, make_plan
from llmhost.fleet.remote import prepared
from llmhost.fleet.restart import restart_node
from llmhost.fleet.tunnel import close_tunnel, open_tunnel
from llmhost.fleet.up import up
from llmhost.supervisor.process import wait_gone
from tests.fleet.over_ssh import (
    ask,
    asking,
    bring_up,
    is_clean,
    is_clean_here,
    look,
    nodes_of,
    refused,
    running_on,
    serving_on,
    settings_of,
    take_down,
)
from tests.support.small_ollama import Model, install
from tests.support.system import free_port, processes_touching, wait_until
from tests.support.told import Told


@pytest.fixture
def two(place, machines):
    """A fleet of two machines that is up."""
    one, other = machines(), machines()
    other.authorize(one.client_key.with_suffix(".pub").read_text())
    bring_up(place, one, other, gateway_port=free_port())
    return one, other


def test_two_machines_become_a_ready_fleet_and_are_left_clean(place, machines):
    one, other = machines(), machines()
    other.authorize(one.client_key.with_suffix(".pub").read_text())
    told = Told()
    result = bring_up(place, one, other, told=told, gateway_port=free_port())
    assert (result.exit_code, result.data["changed"]) == (0, True)
    assert "no model is behind this answer" in result.data["proof"]["text"]
    assert [code for code in told.phases if code in ("check", "ready", "prove")][-2:] == ["ready", "prove"]
    assert told.transfers, "the bundle's bytes were told"
    nodes = nodes_of(place)
    assert {id: (node["state"], node["host"]) for id, node in nodes.items()} == {
        "n1": ("ready", str(one.target)),
        "n2": ("ready", str(other.target)),
    }
    assert ask(place).status == 200
    assert all(running_on(machine) for machine in (one, other))
    down = take_down(place)
    assert (down.exit_code, [node["verified"] for node in down.data["destroyed"]]) == (0, [True, True])
    assert is_clean(one)
    assert is_clean(other)
    assert is_clean_here(place)
    assert not list((place.paths.state_dir / "hosts").iterdir()), "the host keys are forgotten with the nodes"


def test_a_second_up_changes_nothing_and_says_so(place, two):
    before = [serving_on(machine) for machine in two]
    gateway = place.child("gateway")["pid"]
    told = Told()
    result = bring_up(place, told=told, request=asking())
    assert (result.data["changed"], result.data["proof"]) == (False, None)
    assert result.data["plan"]["action"] == "keep"
    assert any("nothing changed" in note for note in told.notes)
    assert [serving_on(machine) for machine in two] == before
    assert place.child("gateway")["pid"] == gateway


def test_another_host_joins_and_one_leaves_without_a_new_gateway(place, machine, machines):
    bring_up(place, machine, gateway_port=free_port())
    gateway = place.child("gateway")["pid"]
    other = machines()
    plan = bring_up(place, other).data["plan"]
    assert (plan["action"], [node["action"] for node in plan["nodes"]]) == ("extend", ["keep", "create"])
    assert set(nodes_of(place)) == {"n1", "n2"}
    result = take_down(place, "n1")
    assert result.exit_code == 0
    assert is_clean(machine)
    assert set(nodes_of(place)) == {"n2"}
    assert ask(place).status == 200
    assert place.child("gateway")["pid"] == gateway
    assert take_down(place).exit_code == 0
    assert is_clean(other)
    assert is_clean_here(place)


def test_another_window_is_applied_in_place(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    gateway = place.child("gateway")["pid"]
    result = bring_up(place, request=asking(context=100_000), context=100_000)
    assert result.data["plan"]["action"] == "change"
    assert nodes_of(place)["n1"]["context"] == 100_000
    assert place.child("gateway")["pid"] == gateway


def test_status_has_the_contracts_tunnel(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    (node,) = look(place)["fleet"]["nodes"]
    link = node["tunnel"]
    assert set(link) >= {"state", "transport", "local", "rtt_ms", "reconnects", "since", "reason", "next_try_at"}
    assert (link["state"], link["transport"], link["reason"], link["next_try_at"]) == ("up", "openssh", None, None)
    assert link["local"] == f"unix:{place.paths.node_socket('n1')}"
    assert link["rtt_ms"] > 0
    assert node["health"] == {"ssh": "ok", "ollama": None, "model": "ok", "proxy": "ok"}
    assert (node["provider"], node["price_usd_per_hour"], node["in_flight"]) == ("ssh", 0.0, 0)
    assert node["uptime_s"] > 0


def test_after_the_supervisor_was_killed_the_next_use_brings_everything_back(place, two):
    before = ensure_gateway(settings_of(place), place.paths, Told())
    pid = place.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    wait_gone([pid], 5)
    assert {node["tunnel"]["state"] for node in nodes_of(place).values()} == {"stopped"}
    assert ensure_gateway(settings_of(place), place.paths, Told()) == before
    assert ask(place).status == 200


def test_the_tunnel_closes_and_opens_and_the_nodes_run_on(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    there = serving_on(machine)
    assert close_tunnel(settings_of(place), place.paths, Told()).data["stopped"] is True
    assert processes_touching(place.root) == {}
    assert serving_on(machine) == there
    node = nodes_of(place)["n1"]
    assert (node["state"], node["tunnel"]["state"]) == ("unreachable", "stopped")
    assert "llmhost tunnel" in [one["command"] for one in look(place)["advice"]]
    result = open_tunnel(settings_of(place), place.paths, None, Told())
    assert (result.exit_code, result.data["tunnels"][0]["state"], result.data["gateway"]["state"]) == (0, "up", "up")
    assert open_tunnel(settings_of(place), place.paths, None, Told()).exit_code == 0
    assert ask(place).status == 200


def test_without_a_tunnel_the_machine_is_set_up_and_nothing_runs_here(place, machine):
    bring_up(place, request=asking(machine.target, identity=machine.client_key, tunnel=False), gateway_port=free_port())
    assert running_on(machine)
    assert processes_touching(place.root) == {}
    assert open_tunnel(settings_of(place), place.paths, None, Told()).exit_code == 0
    assert ask(place).status == 200


def test_the_built_in_transport_carries_a_fleet_too_and_can_be_changed_in_place(place, machine):
    wished = asking(machine.target, identity=machine.client_key, transport="sshtunnel")
    bring_up(place, request=wished, gateway_port=free_port())
    assert nodes_of(place)["n1"]["tunnel"]["transport"] == "sshtunnel"
    assert ask(place).status == 200
    plan = bring_up(place, request=asking(transport="openssh")).data["plan"]
    assert plan["action"] == "change"
    wait_until(lambda: nodes_of(place)["n1"]["tunnel"]["transport"] == "openssh", "the other transport", 20)
    assert ask(place).status == 200


def test_the_gateway_moves_to_a_port_that_was_asked_for(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    port = free_port()
    result = open_tunnel(settings_of(place), place.paths, port, Told())
    assert (result.exit_code, result.data["gateway"]["url"]) == (0, f"http://127.0.0.1:{port}")
    with socket.create_server(("127.0.0.1", 0)) as stranger, pytest.raises(LlmhostError) as failure:
        open_tunnel(settings_of(place), place.paths, stranger.getsockname()[1], Told())
    assert failure.value.code == "port_in_use"
    assert ask(place).status == 200


def test_a_plan_alone_changes_nothing(place, machine):
    wished = asking(machine.target, identity=machine.client_key)
    with prepared(wished, settings_of(place), place.paths, Told()) as job:
        plan = job.plan.as_dict()
    assert (plan["action"], plan["offers"][0]["id"], plan["worst_case_usd"]) == ("create", str(machine.target), 0.0)
    assert plan["nodes"][0]["first_key"] == machine.host_key_fingerprint
    assert plan["nodes"][0]["gpu"] is None
    assert not list(machine.user_home.iterdir())
    assert list((place.paths.state_dir / "hosts").iterdir()) == []
    assert processes_touching(place.root) == {}


@pytest.mark.parametrize("at", ["start", "ready", "prove"])
def test_ctrl_c_at_any_time_undoes_what_was_started_here_and_there(place, machine, at):
    def interrupt(code):
        if code == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up(place, machine, told=Told(interrupt), gateway_port=free_port())
    assert is_clean(machine)
    assert is_clean_here(place)
    assert look(place)["fleet"]["nodes"] == []


@pytest.mark.parametrize("at", ["packing", "copying"])
def test_ctrl_c_before_the_server_is_there_leaves_no_half_of_it(place, machine, at):
    class Impatient(Told):
        def phase(self, code, text):
            if at in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up(place, machine, told=Impatient(), gateway_port=free_port())
    assert is_clean(machine)
    assert not (machine.user_home / ".llmhost").exists()
    assert look(place)["fleet"]["nodes"] == []


def test_what_an_interrupted_up_cannot_undo_stays_on_the_books(place, machine):
    def unplug(code):
        if code == "prove":
            machine.stop()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up(place, machine, told=Told(unplug), gateway_port=free_port())
    assert nodes_of(place)["n1"]["state"] == "destroying"
    assert look(place)["supervisor"]["state"] == "absent"
    machine.start()
    assert take_down(place).exit_code == 0
    assert is_clean(machine)


def test_an_up_without_hosts_does_not_bring_back_a_node_that_was_let_go(place, two):
    _one, other = two
    other.stop()
    assert take_down(place, "n2").exit_code == 1
    other.start()
    bring_up(place, request=asking())
    states = {id: node["state"] for id, node in nodes_of(place).items()}
    assert states == {"n1": "ready", "n2": "destroying"}
    bring_up(place, request=asking(other.target))
    assert nodes_of(place)["n2"]["state"] == "ready", "who names it means it"


def test_a_session_does_not_wait_for_ever_for_a_node_that_was_rebooted(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    with Ledger.open(place.paths.ledger_file) as ledger:
        (node,) = ledger.nodes()
    for module in ("llmhost.supervisor", "llmhost.proxy"):  # all it ran, as a reboot leaves it
        for pid, command in running_on(machine).items():
            if module in command:
                os.kill(pid, signal.SIGKILL)
    wait_until(lambda: nodes_of(place)["n1"]["state"] == "degraded", "the loss to be noticed", 20)
    wait_until(lambda: not place.child("gateway")["reading"]["ready"], "the gateway to know it, too", 20)
    told = Words()
    with pytest.raises(NotReady) as refused_with:
        ensure_gateway(settings_of(place, ready_timeout_s=100), place.paths, told, patience_s=1.0)
    assert refused_with.value.hint == "llmhost restart n1 --proxy"
    assert any("n1" in text for text in told.texts), "what is waited for is named"
    opened = open_tunnel(settings_of(place), place.paths, None, Told())
    assert opened.exit_code == 0
    assert "llmhost restart n1" in opened.warnings[0]
    restart_node(node, [], settings_of(place), place.paths, Told())
    assert ask(place).status == 200


@pytest.mark.parametrize("then", ["up", "down"])
def test_a_removal_that_was_cut_off_over_there_can_be_finished_either_way(place, machine, then):
    bring_up(place, machine, gateway_port=free_port())
    (folder,) = machine.user_home.glob(".llmhost/nodes/*")
    for pid in serving_on(machine):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder / "current" / "lib" / "llmhost")
    if then == "up":
        bring_up(place, request=asking())
        assert ask(place).status == 200
    assert take_down(place).exit_code == 0
    assert is_clean(machine)


def test_a_running_node_is_never_swept_away(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    (folder,) = machine.user_home.glob(".llmhost/nodes/*")
    shutil.rmtree(folder / "current" / "lib" / "llmhost" / "node")
    assert [error["code"] for error in take_down(place).errors] == ["left_behind"]
    assert folder.exists()
    for pid in serving_on(machine):
        os.kill(pid, signal.SIGKILL)
    assert take_down(place).exit_code == 0
    assert is_clean(machine)


class Words(Told):
    """What was said."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def phase(self, code, text):
        self.texts.append(text)


def test_ctrl_c_while_a_node_joins_leaves_the_others_as_they_were(place, machine, machines):
    def interrupt(code):
        if code == "prove":
            raise KeyboardInterrupt

    bring_up(place, machine, gateway_port=free_port())
    other = machines()
    with pytest.raises(KeyboardInterrupt):
        bring_up(place, other, told=Told(interrupt))
    assert is_clean(other)
    assert set(nodes_of(place)) == {"n1"}
    assert ask(place).status == 200


def test_a_local_fleet_gives_way_to_one_over_ssh_and_back(place, machine):
    port = free_port()
    local = place.settings(backend="rehearsal", gateway_port=port)
    up(make_plan(UpRequest("local"), local, place.paths), local, place.paths, Told())
    gateway = place.child("gateway")["pid"]
    plan = bring_up(place, machine, gateway_port=port).data["plan"]
    assert (plan["action"], plan["leaving"]) == ("replace", ["n1"])
    assert {id: node["provider"] for id, node in nodes_of(place).items()} == {"n2": "ssh"}
    assert place.child("gateway")["pid"] == gateway
    back = up(make_plan(UpRequest("local"), local, place.paths), local, place.paths, Told())
    assert [node["provider"] for node in back.data["nodes"]] == ["local"]
    assert is_clean(machine)
    assert ask(place).status == 200


def test_a_machine_that_is_gone_stays_on_the_books_until_it_is_forgotten_by_name(place, two):
    one, other = two
    other.close()
    result = take_down(place, "n2")
    assert (result.exit_code, [error["code"] for error in result.errors]) == (1, ["left_behind"])
    assert str(other.target) in result.errors[0]["message"]
    assert "llmhost down n2 --force" in result.errors[0]["hint"]
    assert nodes_of(place)["n2"]["state"] == "destroying"
    assert ask(place).status == 200
    assert str(other.user_home) in result.errors[0]["message"]
    forced = take_down(place, "n2", force=True)
    assert (forced.exit_code, len(forced.warnings)) == (0, 1)
    assert set(nodes_of(place)) == {"n1"}
    assert take_down(place).exit_code == 0
    assert is_clean(one)


def test_an_up_that_was_killed_leaves_a_node_that_down_removes(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    with Ledger.open(place.paths.ledger_file) as ledger:  # as far as a kill -9 of `up` gets
        (node,) = ledger.nodes()
        ledger.put_node(type(node)(**{**_fields(node), "spec": {**node.spec, "phase": "installing"}}))
    assert nodes_of(place)["n1"]["state"] == "installing"
    assert take_down(place).exit_code == 0
    assert is_clean(machine)


def test_status_tells_an_installation_that_goes_on_from_one_that_was_cut_off(place, machine):
    seen = []
    bring_up(place, machine, told=Told(lambda code: seen.append(look(place))), gateway_port=free_port())
    during = [data for data in seen if data["fleet"]["nodes"] and data["fleet"]["nodes"][0]["state"] == "installing"]
    assert {data["fleet"]["nodes"][0]["reason"] for data in during} == {"it is being set up just now"}
    assert during[0]["advice"][0]["command"] == "llmhost status --watch"
    with Ledger.open(place.paths.ledger_file) as ledger:
        (node,) = ledger.nodes()
        ledger.put_node(type(node)(**{**_fields(node), "spec": {**node.spec, "phase": "installing"}}))
    data = look(place)
    assert data["fleet"]["nodes"][0]["reason"] == "its installation was interrupted"
    assert data["advice"][0]["command"] == "llmhost up"


def test_a_node_that_another_up_finishes(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    with Ledger.open(place.paths.ledger_file) as ledger:
        (node,) = ledger.nodes()
        ledger.put_node(type(node)(**{**_fields(node), "spec": {**node.spec, "phase": "installing"}}))
    bring_up(place, request=asking())
    assert nodes_of(place)["n1"]["state"] == "ready"


def test_a_taken_port_is_found_before_any_machine_is_touched(place, machine):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        error = refused(place, asking(machine.target, identity=machine.client_key), gateway_port=port)
    assert (error.code, error.exit_code) == ("port_in_use", 1)
    assert machine.connections() == 0


def test_the_nodes_token_and_keys_are_in_no_log_and_no_command_line(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    with Ledger.open(place.paths.ledger_file) as ledger:
        secrets = [ledger.nodes()[0].token, place.paths.gateway_token_file.read_text().strip()]
    shown = b"".join(path.read_bytes() for path in place.paths.log_dir.iterdir())
    logs = list(machine.user_home.rglob("*.log"))
    shown += b"".join(path.read_bytes() for path in logs)
    for pid in {*processes_touching(place.root), *processes_touching(machine.user_home)}:
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                shown += file.read()
    assert logs
    for secret in secrets:
        assert secret.encode() not in shown


def test_a_node_proxy_that_was_killed_comes_back_and_the_question_waits(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    for pid, command in running_on(machine).items():
        if "llmhost.proxy" in command:
            os.kill(pid, signal.SIGKILL)
    assert ask(place).status == 200
    wait_until(lambda: nodes_of(place)["n1"]["state"] == "ready", "the node to be ready again", 20)


def test_a_model_that_was_asked_for_is_served_by_an_ollama_that_we_start_there(place, machines):
    tools = place.root / "tools"
    program, environ = install(tools, [Model("qwen3:8b")])
    script = program.read_text().replace("PYTHONPATH=", f"OLLAMA_MODELS={environ['OLLAMA_MODELS']} PYTHONPATH=")
    program.write_text(script)  # the node has a place of its own for models, where this one has none
    machine = machines(environment={"PATH": f"{tools}:{os.environ['PATH']}"})
    request = asking(machine.target, identity=machine.client_key, backend="ollama", model="qwen3:8b")
    result = bring_up(place, request=request, backend="ollama", model="qwen3:8b", gateway_port=free_port())
    node = nodes_of(place)["n1"]
    assert (node["state"], node["backend"], node["model"]) == ("ready", "ollama", "qwen3:8b")
    assert node["health"] == {"ssh": "ok", "ollama": "ok", "model": "ok", "proxy": "ok"}
    assert any("no GPU" in warning for warning in result.warnings)
    restart_node(_node(place), ["ollama"], settings_of(place), place.paths, Told())
    assert ask(place).status == 200
    assert take_down(place).exit_code == 0
    assert is_clean(machine)


def _node(place):
    with Ledger.open(place.paths.ledger_file) as ledger:
        return ledger.nodes()[0]


def test_a_supervisor_that_hangs_makes_status_neither_slow_nor_sure(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    pid = place.supervisor_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        node = nodes_of(place)["n1"]
        assert (node["state"], node["tunnel"]["state"], node["health"]["ssh"]) == ("unreachable", None, "unknown")
    finally:
        os.kill(pid, signal.SIGCONT)


def _fields(node):
    return {name: getattr(node, name) for name in node.__dataclass_fields__}
