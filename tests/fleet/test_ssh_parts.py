"""The pure parts of a fleet over SSH: which hosts are which nodes, what serves on them, and what is told to whom."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.settings import load_settings
from llmhost.fleet import desired
from llmhost.fleet.hosts import HostWish, free_ids, places
from llmhost.fleet.installation import alias_of, installation_id
from llmhost.fleet.links import link_failure, link_specs
from llmhost.fleet.shell import Errand, ssh_argv
from llmhost.fleet.together import all_or_raise, at_once
from llmhost.providers.base import BackendWish
from llmhost.providers.ssh import FAVOURITE_VRAM_MB, HostFacts, SshProvider, choose_for
from llmhost.tunnel.spec import LinkSpec, LinkTiming

INSTALLATION = "0123456789abcdef" * 2
GPU = HostFacts("me@gpu", "RTX 4090", 24_564)
SMALL_GPU = HostFacts("me@small", "RTX 3060", 12_288)
NO_GPU = HostFacts("me@cpu")


def record(id="n1", host="gpu", **spec):
    known = {
        "target": {"host": host, "port": 22, "user": "me"},
        "identity": None,
        "key": "/keys/own",
        "transport": "openssh",
        "alias": f"llmhost-01234567-default-{id}",
        "folder": "/home/me/.llmhost/nodes/x",
        "python": "/usr/bin/python3",
        "remote_socket": "/home/me/.llmhost/nodes/x/run/proxy.sock",
        "remote_port": None,
    }
    return NodeRecord(id, "default", "ssh", "ollama", "m:1", 65_536, f"token-of-{id}", {**known, **spec})


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "c", tmp_path / "s", tmp_path / "r")


def found(*hosts, nodes=(), **wish):
    return [
        (place.node_id, place.host, place.record is None)
        for place in places(HostWish(hosts, **wish), list(nodes), "default", INSTALLATION)
    ]


def test_new_hosts_get_the_smallest_free_ids_and_known_ones_keep_theirs():
    nodes = [record("n2", "b"), record("n3", "c")]
    assert found("me@b", "me@d", "me@e", "me@d", nodes=nodes) == [
        *(("n2", "me@b", False), ("n3", "me@c", False), ("n1", "me@d", True), ("n4", "me@e", True))
    ]
    assert found(nodes=nodes) == [("n2", "me@b", False), ("n3", "me@c", False)]
    ids = free_ids(["n1", "n3"])
    assert [next(ids), next(ids)] == ["n2", "n4"]


def test_a_key_that_was_asked_for_is_for_the_hosts_that_were_named():
    nodes = [record("n1", "a"), record("n2", "b", identity="/theirs")]
    wish = HostWish(("me@a",), "/mine", usual_identity="/usual")
    assert [place.identity for place in places(wish, nodes, "default", INSTALLATION)] == ["/mine", "/theirs"]
    wish = HostWish(("me@c",), None, None, "/usual", "sshtunnel")
    *_, new = places(wish, nodes, "default", INSTALLATION)
    assert (new.identity, new.transport) == ("/usual", "sshtunnel")
    assert new.alias == "llmhost-01234567-default-n3"


def test_the_installation_id_is_made_once_and_kept_beside_the_configuration(paths):
    first = installation_id(paths)
    assert installation_id(paths) == first
    assert paths.installation_id_file.read_text() == first
    assert alias_of(first, "f", "n1") == f"llmhost-{first[:8]}-f-n1"


@pytest.mark.parametrize(
    ("host", "wish", "backend", "model", "fallback"),
    [
        (GPU, BackendWish(), "ollama", "qwen3-coder:30b", False),
        (SMALL_GPU, BackendWish(), "rehearsal", None, True),
        (NO_GPU, BackendWish(), "rehearsal", None, True),
        (NO_GPU, BackendWish("ollama"), "ollama", "qwen3-coder:30b", False),
        (NO_GPU, BackendWish(model="m:1", pull=True), "ollama", "m:1", False),
        (GPU, BackendWish("rehearsal"), "rehearsal", None, False),
    ],
)
def test_what_serves_on_a_host(host, wish, backend, model, fallback):
    choice = choose_for(host, wish)
    assert (choice.backend, choice.model, choice.fallback) == (backend, model, fallback)
    assert choice.missing is (backend == "ollama")
    if fallback:
        assert "no model is behind its answers" in choice.notes[0]
        assert host.host in choice.notes[0]
    if backend == "ollama" and host is NO_GPU:
        assert "no GPU" in choice.notes[0]


def test_the_offers_are_the_hosts_for_nothing():
    offers = SshProvider([GPU, NO_GPU]).offers()
    assert [(offer.id, offer.gpu, offer.price_usd_per_hour) for offer in offers] == [
        ("me@gpu", "RTX 4090", 0.0),
        ("me@cpu", None, 0.0),
    ]
    assert HostFacts("x", "g", FAVOURITE_VRAM_MB).has_room
    assert not HostFacts("x", "g", FAVOURITE_VRAM_MB - 1).has_room


def test_the_gateway_is_told_of_nodes_in_its_live_part_only(paths):
    gateway = GatewayRecord(8001, False, desired.server_settings(load_settings({}, environ={})))
    one = desired.gateway_spec([record("n1")], gateway, paths, "token")
    two = desired.gateway_spec(
        [record("n1"), desired.in_phase(record("n2", "b"), desired.DRAINING)], gateway, paths, "token"
    )
    assert one.without_listen() == two.without_listen()
    assert [node["draining"] for node in two.live.body["nodes"]] == [False, True]
    assert two.live.body["nodes"][1]["url"] == f"unix:{paths.node_socket('n2')}"
    assert "links" not in one.config


def test_nodes_that_are_not_there_yet_or_not_any_more_get_no_link_and_no_work(paths):
    nodes = [desired.in_phase(record(f"n{number}"), phase) for number, phase in enumerate((None, *PHASES), start=1)]
    assert [node.id for node in desired.serving(nodes)] == ["n1", "n2"]
    assert [link.name for link in link_specs(nodes, paths, {})] == ["n1", "n2"]
    assert desired.in_phase(nodes[1], None).spec == record("n2").spec


PHASES = (desired.DRAINING, desired.INSTALLING, desired.LEAVING)


def test_a_link_survives_the_control_socket(paths):
    (link,) = link_specs([record()], paths, {"echo_every": 0.5})
    assert LinkSpec.from_dict(link.as_dict()) == link
    assert (link.timing.echo_every, link.identity, link.agent) == (0.5, "/keys/own", None)
    assert link.known_hosts == str(paths.state_dir / "hosts" / link.alias)


def test_the_settings_of_the_links_have_the_links_own_defaults():
    assert load_settings({}, environ={}).link_timing() == asdict(LinkTiming())


def test_the_hosts_are_a_list_in_the_file_and_parted_by_commas_in_the_environment(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('hosts = ["me@a", "me@b:2222"]\n')
    assert load_settings({}, environ={}, config_file=file).hosts == ("me@a", "me@b:2222")
    assert load_settings({}, environ={"LLMHOST_HOSTS": "me@a, me@b"}, config_file=tmp_path / "x").hosts == (
        "me@a",
        "me@b",
    )
    assert load_settings({}, environ={}, config_file=tmp_path / "x").hosts is None


def test_the_ssh_of_a_shell_uses_the_pinned_key_and_nothing_of_the_users(paths):
    argv = ssh_argv(Errand(record(), ("ls", "a b")), paths, terminal=False)
    assert argv is not None
    assert argv[1:3] == ["-F", "none"]
    assert argv[-2:] == ["me@gpu", "ls 'a b'"]
    assert "StrictHostKeyChecking=yes" in argv
    assert "HostKeyAlias=llmhost-01234567-default-n1" in argv
    assert argv[argv.index("-i") + 1] == "/keys/own"
    shell = ssh_argv(Errand(record(), ()), paths, terminal=True)
    assert shell is not None
    assert ("-t" in shell, shell[-1]) == (True, "me@gpu")


def test_a_failed_link_is_an_error_with_the_exit_code_of_its_reason():
    link = {"name": "n1", "state": "failed", "reason": "auth_refused", "reason_text": "it accepts none."}
    assert (link_failure(record(), link).exit_code, link_failure(record(), link).code) == (4, "auth_refused")
    changed = link_failure(record(), {**link, "reason": "host_key_changed"})
    assert changed.hint.endswith("llmhost tunnel --repin n1")
    assert link_failure(record(), {**link, "state": "reconnecting"}).exit_code == 7
    assert (link_failure(record(), None).code, link_failure(record(), None).hint) == ("tunnel_closed", "llmhost tunnel")


def test_work_on_several_keeps_its_order_and_gathers_its_errors():
    def work(number):
        if number % 2:
            raise Unavailable(f"{number} is odd.", code=f"odd{number}")
        return number

    results = at_once([0, 1, 2, 3], work)
    assert [one for one in results if not isinstance(one, LlmhostError)] == [0, 2]
    with pytest.raises(LlmhostError) as several:
        all_or_raise(results)
    assert [one.code for one in several.value.parts()] == ["odd1", "odd3"]
    assert several.value.exit_code == 5
    with pytest.raises(Unavailable):
        all_or_raise(results[:2])
    with pytest.raises(ZeroDivisionError):
        at_once([0], lambda number: 1 // number)


def test_the_ledger_keeps_exactly_the_nodes_it_is_given(tmp_path):
    with Ledger.open(tmp_path / "ledger") as ledger, ledger.transaction():
        ledger.set_nodes([record("n1"), record("n2")])
        ledger.set_nodes([replace(record("n2"), model="other"), record("n3")])
        assert [(node.id, node.model) for node in ledger.nodes()] == [("n2", "other"), ("n3", "m:1")]
