"""`up`, `status`, `down` and what lies between, with the real servers on the rehearsal backend."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmhost.core.errors import LlmhostError, NotReady, UsageError
from llmhost.core.ledger import Ledger
from llmhost.fleet.access import ensure_gateway, gateway_request
from llmhost.fleet.down import Ending, down
from llmhost.fleet.plan import UpRequest, make_plan
from llmhost.fleet.status import status
from llmhost.fleet.up import up
from llmhost.supervisor.launch import ensure_supervisor, find_supervisor
from llmhost.supervisor.loopback import request
from llmhost.supervisor.process import wait_gone
from tests.support.system import free_port, processes_touching, wait_until
from tests.support.told import Told

ROOT = Path(__file__).parents[2]


def bring_up(place, told=None, **flags):
    """`llmhost up --provider local` with these options; without a model unless one is asked for."""
    flags = {"backend": "rehearsal", **flags}
    settings = place.settings(**flags)
    return up(make_plan(UpRequest(), settings, place.paths), settings, place.paths, told or Told())


def take_down(place, *nodes, everything=False):
    return down(place.settings(), place.paths, Ending("default", nodes, everything), Told())


def look(place):
    return status(place.settings(), place.paths, "default").data


def ask(place, text="hello"):
    access = ensure_gateway(place.settings(), place.paths, Told())
    body = {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    return request(
        access.url.removeprefix("http://"), "POST", "/v1/messages", token=access.token, body=body, timeout_s=20
    )


def nothing_is_left(place, port):
    assert processes_touching(place.root) == {}
    assert list(place.paths.runtime_dir.iterdir()) == []
    assert not place.paths.supervisor_lock.exists()
    socket.create_server(("127.0.0.1", port)).close()


@pytest.fixture
def fleet(place):
    """A place with a fleet that is up."""
    bring_up(place, gateway_port=free_port())
    return place


def test_up_makes_a_ready_fleet_and_proves_it(place):
    port, told = free_port(), Told()
    result = bring_up(place, told, gateway_port=port)
    assert result.exit_code == 0
    assert result.data["changed"] is True
    assert "no model is behind this answer" in result.data["proof"]["text"]
    (node,) = result.data["nodes"]
    assert (node["state"], node["backend"], node["model"]) == ("ready", "rehearsal", "rehearsal")
    assert result.data["gateway"]["url"] == f"http://127.0.0.1:{port}"
    assert [code for code in told.phases if code != "load"] == ["supervisor", "start", "ready", "prove"]
    assert ask(place).data["role"] == "assistant"


def test_a_second_up_changes_nothing_and_says_so(fleet):
    before = [child["pid"] for child in fleet.children()]
    told = Told()
    result = bring_up(fleet, told)
    assert result.data["changed"] is False
    assert result.data["did"]["kept"] == ["node-n1", "gateway"]
    assert any("nothing changed" in note for note in told.notes)
    assert [child["pid"] for child in fleet.children()] == before


def test_up_without_any_option_keeps_what_is_up(fleet):
    settings = fleet.settings(provider=None)
    assert settings.provider == "vast"
    plan = make_plan(UpRequest(), settings, fleet.paths)
    assert (plan.action, plan.provider, plan.choice.backend) == ("keep", "local", "rehearsal")
    assert plan.as_dict()["sources"]["backend"] == "the fleet that is up"


def test_another_window_replaces_the_node_and_keeps_the_port(fleet):
    url = look(fleet)["gateway"]["url"]
    gateway = fleet.child("gateway")["pid"]
    result = bring_up(fleet, context=100_000)
    assert (result.data["did"]["replaced"], fleet.child("gateway")["pid"]) == (["node-n1"], gateway)
    assert result.data["gateway"]["url"] == url
    assert (result.data["gateway"]["context"], result.data["nodes"][0]["context"]) == (100_000, 100_000)


def test_another_port_moves_the_gateway_and_keeps_the_node(fleet):
    node = fleet.child("node-n1")["pid"]
    port = free_port()
    result = bring_up(fleet, gateway_port=port)
    assert result.data["gateway"]["url"] == f"http://127.0.0.1:{port}"
    assert fleet.child("node-n1")["pid"] == node


def test_changed_settings_of_the_gateway_restart_only_the_gateway(fleet):
    result = bring_up(fleet, cache_ttl=60)
    assert (result.data["did"]["replaced"], result.data["did"]["kept"]) == (["gateway"], ["node-n1"])


def test_the_plan_has_the_contracts_keys_and_touches_nothing(place):
    settings = place.settings(backend="rehearsal")
    plan = make_plan(UpRequest(), settings, place.paths).as_dict()
    assert plan["offers"] == [
        {"id": "local", "provider": "local", "gpu": plan["offers"][0]["gpu"], "price_usd_per_hour": 0.0}
    ]
    assert (plan["price_usd_per_hour"], plan["worst_case_usd"], plan["credit_usd"], plan["onstart"]) == (
        0.0,
        0.0,
        None,
        None,
    )
    assert plan["port"] == 8001
    assert plan["sources"]["port"] == "default"
    assert not place.paths.state_dir.exists()


def test_a_second_fleet_is_refused_with_the_way_out(fleet):
    with pytest.raises(UsageError) as failure:
        make_plan(UpRequest(fleet="other"), fleet.settings(), fleet.paths)
    assert failure.value.hint == "Bring it down first: llmhost down --fleet default"


def test_a_port_taken_by_a_stranger_is_named_with_who_has_it_and_nothing_stays(place):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(LlmhostError) as failure:
            bring_up(place, gateway_port=port)
    assert (failure.value.code, failure.value.exit_code) == ("port_in_use", 1)
    assert str(port) in failure.value.message
    assert f"(pid {os.getpid()})" in failure.value.message
    assert look(place)["fleet"]["nodes"] == []
    nothing_is_left(place, free_port())


def test_a_port_conflict_leaves_a_running_fleet_alone(fleet):
    before = [child["pid"] for child in fleet.children()]
    with socket.create_server(("127.0.0.1", 0)) as stranger, pytest.raises(LlmhostError):
        bring_up(fleet, gateway_port=stranger.getsockname()[1])
    assert [child["pid"] for child in fleet.children()] == before
    assert ask(fleet).status == 200


@pytest.mark.parametrize("at", ["supervisor", "start", "ready", "prove"])
def test_ctrl_c_at_any_time_undoes_what_was_started(place, at):
    def interrupt(code):
        if code == at:
            raise KeyboardInterrupt

    port = free_port()
    with pytest.raises(KeyboardInterrupt):
        bring_up(place, Told(interrupt), gateway_port=port)
    assert look(place)["fleet"]["nodes"] == []
    nothing_is_left(place, port)


def test_ctrl_c_in_a_replacement_brings_back_what_was_there(fleet):
    def interrupt(code):
        if code == "prove":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up(fleet, Told(interrupt), context=100_000)
    assert ensure_gateway(fleet.settings(), fleet.paths, Told()).context == 65_536
    assert ask(fleet).status == 200


class Gone(Told):
    """A terminal that is closed in the middle of the work."""

    def note(self, text):
        raise BrokenPipeError


def test_a_closed_terminal_undoes_what_was_started(place):
    def close(code):
        if code == "prove":
            raise BrokenPipeError

    port = free_port()
    with pytest.raises(BrokenPipeError):
        bring_up(place, Gone(close), gateway_port=port)
    assert look(place)["fleet"]["nodes"] == []
    nothing_is_left(place, port)


def cache_of(place):
    """The cache the running gateway was told of, and its process."""
    with find_supervisor(place.paths) as client:
        gateway = next(spec for spec in client.wanted() if spec.name == "gateway")
    return gateway.config["cache"]


def test_a_replacement_that_fails_leaves_the_settings_of_before(fleet):
    def interrupt(code):
        if code == "prove":
            raise KeyboardInterrupt

    before, url = cache_of(fleet), look(fleet)["gateway"]["url"]
    with pytest.raises(KeyboardInterrupt):
        bring_up(fleet, Told(interrupt), redis_url="redis://nobody@127.0.0.1:1/0", cache_ttl=60)
    assert cache_of(fleet) == before
    assert look(fleet)["gateway"]["url"] == url
    assert make_plan(UpRequest(), fleet.settings(), fleet.paths).action == "keep"
    assert ask(fleet).status == 200


def test_the_plan_names_the_gateways_settings_that_would_change_and_no_value(fleet):
    settings = fleet.settings(redis_url="redis://:hidden@127.0.0.1:1", cache_ttl=60)
    plan = make_plan(UpRequest(), settings, fleet.paths)
    assert (plan.action, plan.changes) == ("replace_gateway", ("cache.redis", "cache.ttl_s"))
    assert "cache.redis, cache.ttl_s" in plan.as_dict()["why"]
    assert "hidden" not in json.dumps(plan.as_dict()) + repr(plan)


def test_the_plan_says_that_settings_of_both_servers_replace_both(fleet):
    plan = make_plan(UpRequest(), fleet.settings(proxy_ping_s=3), fleet.paths)
    assert (plan.action, plan.changes) == ("replace", ("timing.ping",))
    assert bring_up(fleet, proxy_ping_s=3).data["did"]["replaced"] == ["node-n1", "gateway"]
    assert make_plan(UpRequest(), fleet.settings(proxy_ping_s=3), fleet.paths).action == "keep"


def test_after_a_crash_the_gateway_has_the_settings_it_was_brought_up_with(place):
    bring_up(place, gateway_port=free_port(), cache_ttl=60, cache_namespace="mine")
    before = cache_of(place)
    os.kill(place.supervisor_pid(), signal.SIGKILL)
    ensure_gateway(place.settings(), place.paths, Told())
    assert cache_of(place) == before
    assert (before["ttl_s"], before["namespace"]) == (60, "mine")


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_text("")], ids=["removed", "emptied"])
def test_a_lost_token_gives_a_gateway_with_a_new_one(fleet, lose):
    before = ensure_gateway(fleet.settings(), fleet.paths, Told())
    node = fleet.child("node-n1")["pid"]
    lose(fleet.paths.gateway_token_file)
    assert make_plan(UpRequest(), fleet.settings(), fleet.paths).changes == ("gateway.token",)
    assert ask(fleet).status == 200
    after = ensure_gateway(fleet.settings(), fleet.paths, Told())
    assert after.token != before.token
    assert after.url == before.url
    assert fleet.child("node-n1")["pid"] == node


def test_a_fleet_taken_down_while_it_is_started_again_is_no_fleet_and_nothing_runs(fleet):
    def forget(code):
        with Ledger.open(fleet.paths.ledger_file) as ledger:
            ledger.remove_node("n1")
            ledger.put_gateway(None)

    pid = fleet.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    wait_gone([pid], 5)
    with pytest.raises(NotReady) as failure:
        ensure_gateway(fleet.settings(), fleet.paths, Told(forget))
    assert (failure.value.code, failure.value.hint) == ("no_fleet", "llmhost up --provider local")
    assert processes_touching(fleet.root) == {}


def test_status_shows_the_way_out_of_a_supervisor_without_a_fleet(place):
    with ensure_supervisor(place.paths):
        advice = look(place)["advice"]
    assert [(one["code"], one["command"]) for one in advice][1:] == [("supervisor_idle", "llmhost down")]
    assert take_down(place).exit_code == 0
    assert [one["code"] for one in look(place)["advice"]] == ["no_fleet"]


def test_status_without_a_fleet(place):
    result = status(place.settings(), place.paths, "default")
    assert result.exit_code == 0
    assert result.data["fleet"]["nodes"] == []
    assert (result.data["gateway"]["state"], result.data["gateway"]["url"]) == ("down", None)
    assert result.data["advice"] == [
        {"code": "no_fleet", "text": "No fleet is up.", "command": "llmhost up --provider local"}
    ]
    assert not place.paths.state_dir.exists()


def test_status_of_a_fleet_has_every_key_of_the_contract(fleet):
    ask(fleet)
    data = look(fleet)
    assert set(data) >= {"fleet", "gateway", "cache", "prefix", "requests", "advice"}
    assert set(data["fleet"]) >= {
        *(
            "name",
            "price_usd_per_hour",
            "spent_usd",
            "budget_usd",
            "lease_ends_at",
            "inventory_age_s",
            "nodes",
            "orphans",
        )
    }
    (node,) = data["fleet"]["nodes"]
    assert set(node) >= {
        *(
            "id",
            "provider",
            "instance_id",
            "gpu",
            "state",
            "model",
            "backend",
            "health",
            "price_usd_per_hour",
            "uptime_s",
        ),
        *("spent_usd", "gpu_util", "vram_used_mb", "vram_total_mb", "tokens_per_second", "in_flight", "tunnel"),
    }
    assert node["health"] == {"ssh": None, "ollama": None, "model": "ok", "proxy": "ok"}
    assert (node["provider"], node["price_usd_per_hour"], node["spent_usd"], node["tunnel"]) == (
        "local",
        0.0,
        0.0,
        None,
    )
    assert set(data["gateway"]) >= {"url", "state", "version", "model", "context"}
    assert set(data["cache"]) >= {
        *(
            "store",
            "state",
            "hit_ratio",
            "entries",
            "memory_bytes",
            "exact",
            "semantic",
            "saved_tokens",
            "saved_seconds",
        )
    }
    assert data["cache"]["exact"]["misses"] == 1
    assert data["requests"]["total"] == 2  # the proof and the question
    assert set(data["prefix"]) == {"prompt_tokens", "reused_tokens", "reuse_ratio"}
    assert "rehearsal" in [advice["code"] for advice in data["advice"]]
    json.dumps(data)


def test_status_is_quick_even_when_everything_is_frozen(fleet):
    url = look(fleet)["gateway"]["url"]
    pids = [fleet.supervisor_pid(), *(child["pid"] for child in fleet.children())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        settings, took = fleet.settings(), []
        for _ in range(3):  # the shared machine may be slow once
            began = time.monotonic()
            data = status(settings, fleet.paths, "default").data
            took.append(time.monotonic() - began)
        assert min(took) < 0.5
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert data["fleet"]["nodes"][0]["state"] == "unreachable"
    assert data["advice"][0]["code"] == "supervisor_silent"
    assert (data["gateway"]["url"], data["gateway"]["state"]) == (url, None)
    assert data["gateway"]["reason"].startswith("not known")


def test_a_killed_supervisor_is_noticed_and_explained(fleet):
    pid = fleet.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    wait_gone([pid], 5)
    data = look(fleet)
    (node,) = data["fleet"]["nodes"]
    assert (node["state"], data["gateway"]["state"]) == ("failed", "down")
    assert f"the supervisor (pid {pid}, running since " in node["reason"]
    assert "was killed or crashed" in node["reason"]
    assert data["advice"][0]["command"] == "llmhost up"


def test_a_supervisor_stopped_by_a_signal_is_explained(fleet):
    pid = fleet.supervisor_pid()
    os.kill(pid, signal.SIGTERM)
    wait_gone([pid], 10)
    data = look(fleet)
    assert data["fleet"]["nodes"][0]["state"] == "failed"
    assert "the supervisor was stopped (SIGTERM) at " in data["advice"][0]["text"]


def test_a_reboot_is_explained(fleet):
    pid = fleet.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    wait_gone([pid], 5)
    holder = json.loads(fleet.paths.supervisor_lock.read_text())
    fleet.paths.supervisor_lock.write_text(json.dumps({**holder, "started_at": 1_000_000_000}))
    assert "this machine was restarted since the supervisor started" in look(fleet)["advice"][0]["text"]


@pytest.mark.parametrize("child", ["node-n1", "gateway"])
def test_a_killed_child_is_shown_and_the_next_request_is_answered(fleet, child):
    os.kill(fleet.child(child)["pid"], signal.SIGKILL)
    wait_until(lambda: fleet.child(child)["restarts"] == 1, "the crash to be noticed", 2)
    assert ask(fleet, f"after {child}").status == 200
    data = look(fleet)
    shown = data["gateway"] if child == "gateway" else data["fleet"]["nodes"][0]
    assert shown["restarts"] == 1
    assert shown["reason"].startswith("killed by SIGKILL")


def test_a_request_held_open_survives_the_death_of_the_node(fleet):
    access = ensure_gateway(fleet.settings(), fleet.paths, Told())
    os.kill(fleet.child("node-n1")["pid"], signal.SIGKILL)
    body = {"max_tokens": 50, "messages": [{"role": "user", "content": "in the gap"}]}
    address = access.url.removeprefix("http://")
    assert request(address, "POST", "/v1/messages", token=access.token, body=body, timeout_s=20).status == 200


def test_the_gateway_comes_back_from_the_ledger_after_a_crash(fleet):
    before = ensure_gateway(fleet.settings(), fleet.paths, Told())
    os.kill(fleet.supervisor_pid(), signal.SIGKILL)
    after = ensure_gateway(fleet.settings(), fleet.paths, Told())
    assert after == before
    assert ask(fleet).status == 200


def test_several_at_once_after_a_crash_give_one_gateway(fleet):
    os.kill(fleet.supervisor_pid(), signal.SIGKILL)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure_gateway(fleet.settings(), fleet.paths, Told()), range(8)))
    assert len({access.url for access in found}) == 1
    lines = fleet.paths.log_file("supervisor").read_text().splitlines()
    assert sum('"supervisor_started"' in line for line in lines) == 2


def test_several_ups_at_once_give_one_fleet(place):
    port = free_port()
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: bring_up(place, gateway_port=port), range(6)))
    assert {result.data["gateway"]["url"] for result in results} == {f"http://127.0.0.1:{port}"}
    assert [child["restarts"] for child in place.children()] == [0, 0]


def test_without_a_fleet_there_is_no_gateway_and_the_way_is_told(place):
    for call in (
        lambda: ensure_gateway(place.settings(), place.paths, Told()),
        lambda: gateway_request(place.settings(), place.paths, "GET", "/internal/status"),
    ):
        with pytest.raises(NotReady) as failure:
            call()
        assert (failure.value.exit_code, failure.value.hint) == (7, "llmhost up --provider local")


def test_the_gateway_can_be_asked_with_its_token(fleet):
    assert gateway_request(fleet.settings(), fleet.paths, "GET", "/internal/status")["ready"] is True
    cleared = gateway_request(fleet.settings(), fleet.paths, "POST", "/internal/cache/clear", {"scope": "all"})
    assert cleared == {"deleted": 0}
    with pytest.raises(LlmhostError) as failure:
        gateway_request(fleet.settings(), fleet.paths, "GET", "/no/such/route")
    assert "404" in failure.value.message


def test_down_leaves_nothing_and_twice_is_fine(place):
    port = free_port()
    bring_up(place, gateway_port=port)
    result = take_down(place)
    expected = {"id": "n1", "instance_id": None, "spent_usd": 0.0, "verified": True, "kept": []}
    assert result.data == {"destroyed": [expected], "still_billing": []}
    assert result.exit_code == 0
    nothing_is_left(place, port)
    again = take_down(place)
    assert (again.data, again.exit_code) == ({"destroyed": [], "still_billing": []}, 0)
    assert look(place)["gateway"]["state"] == "down"


def test_down_after_kill_9_cleans_up(place):
    port = free_port()
    bring_up(place, gateway_port=port)
    os.kill(place.supervisor_pid(), signal.SIGKILL)
    assert take_down(place).data["destroyed"][0]["verified"] is True
    nothing_is_left(place, port)


def test_down_ends_a_frozen_supervisor(place):
    port = free_port()
    bring_up(place, gateway_port=port)
    os.kill(place.supervisor_pid(), signal.SIGSTOP)
    assert take_down(place).data["destroyed"][0]["verified"] is True
    nothing_is_left(place, port)


def test_down_of_a_named_node_and_of_one_that_is_not_there(fleet):
    with pytest.raises(UsageError) as failure:
        take_down(fleet, "n7")
    assert failure.value.code == "no_such_node"
    assert ask(fleet).status == 200
    assert [node["id"] for node in take_down(fleet, "n1").data["destroyed"]] == ["n1"]
    assert processes_touching(fleet.root) == {}


def test_down_of_a_node_that_is_not_there_is_wrong_without_a_ledger_too(place):
    with pytest.raises(UsageError) as failure:
        take_down(place, "n9")
    assert (failure.value.code, failure.value.exit_code) == ("no_such_node", 2)


def test_down_of_another_fleet_leaves_this_one_alone(fleet):
    result = down(fleet.settings(), fleet.paths, Ending("other"), Told())
    assert (result.data["destroyed"], result.exit_code) == ([], 0)
    assert "'other'" in result.warnings[0]
    assert "llmhost down --fleet default" in result.warnings[0]
    assert ask(fleet).status == 200


def test_a_damaged_ledger_is_an_error_that_keeps_it_and_down_stops_everything(fleet):
    Path(fleet.paths.ledger_file).write_bytes(b"damage" * 2000)
    with pytest.raises(LlmhostError) as failure:
        bring_up(fleet)
    assert failure.value.code == "ledger_corrupt"
    seen = status(fleet.settings(), fleet.paths, "default")
    assert ([error["code"] for error in seen.errors], seen.exit_code) == (["ledger_corrupt"], 1)
    assert seen.data["supervisor"]["state"] == "running"
    result = take_down(fleet)
    assert result.exit_code == 1
    assert result.errors[0]["code"] == "ledger_corrupt"
    assert processes_touching(fleet.root) == {}
    assert fleet.paths.ledger_file.read_bytes() == b"damage" * 2000


def test_a_node_that_cannot_get_ready_ends_with_7_and_its_log(place):
    settings = place.settings(backend="rehearsal", gateway_port=free_port(), ready_timeout_s=0.05)
    plan = make_plan(UpRequest(), settings, place.paths)
    with pytest.raises(NotReady) as failure:
        up(plan, settings, place.paths, Told())
    assert failure.value.exit_code == 7
    assert ".log" in failure.value.message
    assert look(place)["fleet"]["nodes"] == []


def test_the_nodes_token_is_in_the_ledger_only_and_the_gateways_in_its_file_only(fleet):
    with Ledger.open(fleet.paths.ledger_file) as ledger:
        secrets = [ledger.nodes()[0].token, fleet.paths.gateway_token_file.read_text().strip()]
    shown = b"".join(path.read_bytes() for path in fleet.paths.log_dir.iterdir())
    for pid in (fleet.supervisor_pid(), *(child["pid"] for child in fleet.children())):
        shown += Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    for secret in secrets:
        assert secret.encode() not in shown


def test_a_state_folder_that_cannot_be_written_is_a_clear_error(place):
    place.paths.state_dir.parent.rmdir()
    place.paths.state_dir.parent.write_text("a file where a folder should be")
    with pytest.raises(LlmhostError) as failure:
        bring_up(place)
    assert failure.value.code == "state_unwritable"
    assert failure.value.hint


def test_down_stops_everything_even_when_nothing_can_be_written(fleet):
    code = """
import json, resource
from llmhost.core.paths import Paths
from llmhost.core.settings import load_settings
from llmhost.fleet.down import Ending, down
from llmhost.core.progress import SilentProgress
settings, paths = load_settings({}), Paths.from_environment()
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
result = down(settings, paths, Ending("default"), SilentProgress())
print(json.dumps([result.exit_code, result.errors[0]["code"]]))
"""
    done = subprocess.run([sys.executable, "-c", code], env=fleet.environ, cwd=ROOT, capture_output=True, text=True)
    assert json.loads(done.stdout or "null") == [1, "state_unwritable"], done.stderr
    assert processes_touching(fleet.root) == {}
    assert take_down(fleet).exit_code == 0


def test_a_runtime_folder_that_is_somebody_elses_is_refused(place):
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir()
    place.paths.runtime_dir.parent.mkdir()
    place.paths.runtime_dir.symlink_to(elsewhere)
    with pytest.raises(LlmhostError) as failure:
        bring_up(place)
    assert failure.value.code == "state_unsafe"
    assert "XDG_RUNTIME_DIR" in failure.value.hint
