"""A booted instance becomes a node, by the bootstrap of every machine over SSH."""

from __future__ import annotations

import json
import stat
import threading

import pytest

from llmhost.bootstrap.install import node_folder
from llmhost.core.errors import Interrupted
from llmhost.fleet.desired import VAST, is_remote
from llmhost.fleet.hosts import place_of
from llmhost.fleet.links import link_spec
from llmhost.fleet.rented.boot import BootFailed
from llmhost.fleet.rented.node import become_node
from llmhost.onstart.render import BootScript, render
from llmhost.providers.base import BackendChoice
from llmhost.tunnel.spec import LinkTiming
from tests.rented.boot.shop import ONSTART
from tests.support.system import wait_until
from tests.support.told import Told

REHEARSAL = BackendChoice("rehearsal", "asked for by name", None, 32_768)
OLLAMA = BackendChoice("ollama", "asked for by name", "qwen3-coder:30b", 65_536, missing=True)


def asked(session, node, path="/internal/status"):
    """What the node's proxy answers on its socket, asked on the machine itself."""
    script = (
        "import http.client, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "c = http.client.HTTPConnection('localhost'); c.sock = s; "
        "c.request('GET', sys.argv[2], headers={'Authorization': 'Bearer ' + sys.stdin.read()}); "
        "r = c.getresponse(); print(r.status); print(r.read().decode())"
    )
    python, socket = node.spec["python"], node.spec["remote_socket"]
    done = session.run(f'{python} -c "{script}" {socket} {path}', stdin=node.token.encode())
    status, _, body = done.out.partition("\n")
    assert status == "200", done.err
    return json.loads(body)


def becomes(shop, booted, choice=REHEARSAL, **more):
    return become_node(booted, choice, shop.desk, shop.told, **more)


def fails(shop, booted, choice=OLLAMA, **more):
    with pytest.raises(BootFailed) as caught:
        becomes(shop, booted, choice, **more)
    return caught.value


def test_a_rented_instance_serves(shop):
    booted = shop.boot(shop.rent())
    # a rehearsal needs no card
    node = becomes(shop, booted, token="llmh_of_this_test", needs_vram_mb=80_000)
    assert (node.id, node.provider, node.fleet, node.backend) == ("n1", VAST, "default", "rehearsal")
    assert is_remote(node)
    assert node.spec["rental"] == booted.rental.label
    assert node.token == "llmh_of_this_test"
    assert asked(booted.session, node)["model"]
    machine = shop.control.instance(booted.instance.id).machine
    assert node.spec["folder"] == f"{machine.root}/.llmhost/nodes/{booted.alias}"
    # what other commands and the link will log in with
    assert place_of(node).target == booted.target
    link = link_spec(node, shop.place.paths, LinkTiming())
    assert (link.alias, link.remote_socket, link.agent) == (booted.alias, node.spec["remote_socket"], None)
    assert link.identity is not None
    assert link.identity.endswith("id_ed25519")
    # progress, and what is remembered of the machine
    assert shop.kept(booted.rental).phase == "proxy"
    assert shop.note(booted.rental).proven_at is not None
    assert shop.kept(booted.rental).state == "rented"  # ready is what its caller calls it


def test_it_serves_with_the_real_start_script(shop):
    script = BootScript(node_folder(shop.alias(1)), shop.ready_key(), shop.server.url, contact_s=600, guard_every_s=1)
    booted = shop.boot(shop.rent(onstart=render(script)))
    assert (booted.alias, booted.host_key) == (shop.alias(1), "log")
    node = becomes(shop, booted)
    assert asked(booted.session, node)["model"]
    assert node.spec["notes"] == []


@pytest.mark.parametrize(
    ("state", "word"),
    [("failed 401", "its own key is not good for that (failed 401)"), ("", "did not get that far")],
)
def test_a_machine_that_cannot_end_itself_is_told_of(shop, state, word):
    write = f"mkdir -p $HOME/.llmhost/guard; echo {state} >$HOME/.llmhost/guard/state" if state else "true"
    node = becomes(shop, shop.boot(shop.rent(onstart=f"{ONSTART}\n{write}")))
    notes = [note for note in node.spec["notes"] if "end itself" in note]
    assert [word in note for note in notes] == [True]


def test_a_connection_that_is_lost_is_made_again(shop):
    booted = shop.boot(shop.rent())
    hurt = threading.Event()

    def once(code):
        if code == "start" and not hurt.is_set():
            hurt.set()
            shop.control.hurt(booted.instance.id, "drop")
            shop.control.hurt(booted.instance.id, "ok")

    shop.told = Told(once)
    node = becomes(shop, booted)
    assert hurt.is_set()
    assert any("the connection was lost" in note for note in shop.told.notes)
    [session] = [one for one in shop.desk.visits.open if one.alive]
    assert asked(session, node)["model"]


def test_an_instance_that_is_evicted_meanwhile_fails_with_the_market_s_reason(shop):
    booted = shop.boot(shop.rent())

    def once(code):
        if code == "start":
            shop.control.status(booted.instance.id, next_state="stopped")
            shop.control.hurt(booted.instance.id, "drop")

    shop.told = Told(once)
    error = fails(shop, booted, REHEARSAL)
    assert (error.code, error.blame) == ("evicted", "host")
    assert shop.note(booted.rental).why.startswith("evicted")


def test_a_lost_card_is_the_host_s_fault_and_nothing_is_installed(shop):
    booted = shop.boot(shop.rent())
    shop.control.hurt(booted.instance.id, "gpu_lost")
    error = fails(shop, booted, needs_vram_mb=23_000)
    assert (error.code, error.blame) == ("gpu_lost", "host")
    assert booted.session.run("ls -d .llmhost/nodes/*").code != 0
    assert shop.note(booted.rental).failed_at is not None


def test_too_little_memory_on_the_card(shop):
    booted = shop.boot(shop.rent())
    error = fails(shop, booted, needs_vram_mb=80_000)
    assert (error.code, error.blame) == ("vram_short", "host")
    assert "24,564 MiB" in error.message


def test_an_interruption_ends_it_soon(shop):
    booted = shop.boot(shop.rent())

    def stop(code):
        if code == "start":
            shop.desk.stop.set()
            shop.desk.visits.close()

    shop.told = Told(stop)
    with pytest.raises(Interrupted):
        becomes(shop, booted)
    assert shop.note(booted.rental).failed_at is None


def test_nothing_secret_of_ours_reaches_the_machine(shop):
    booted = shop.boot(shop.rent())
    node = becomes(shop, booted)
    wait_until(lambda: asked(booted.session, node), "the proxy", 20)
    root = shop.control.instance(booted.instance.id).machine.root
    holders = [path for path in root.rglob("*") if path.is_file() and shop.server.key.encode() in path.read_bytes()]
    assert holders == []
    with_token = [path for path in root.rglob("*") if path.is_file() and node.token.encode() in path.read_bytes()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in with_token} <= {0o600}
