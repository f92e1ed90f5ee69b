"""Renting from end to end: a fleet that serves, one that was asked for twice, one that grows, and its end."""

from __future__ import annotations

import json


def creates(server) -> int:
    return len(server.control.requests("create"))


def test_a_fleet_is_rented_serves_and_is_gone(sandboxed, new_stack):
    stack = new_stack(sandboxed)
    first = stack.up_vast("--budget", "5")
    (node,) = first["nodes"]
    assert (node["id"], node["provider"], node["state"]) == ("n1", "vast", "ready")
    assert [node["instance_id"]] == [str(number) for number in stack.billing()]
    assert first["changed"]
    assert first["proof"]["text"]
    assert first["plan"]["credit_usd"] == 25.0
    assert first["plan"]["worst_case_usd"] > 4 * first["plan"]["price_usd_per_hour"] * 0.99
    assert "LLMHOST-PHASE" in stack.llmhost("logs", "n1", "--source", "onstart").expect().stdout

    again = stack.up_vast()
    assert not again["changed"]
    assert again["plan"]["action"] == "keep"
    assert again["plan"]["budget_usd"] == 5.0  # as it was asked for before
    assert creates(sandboxed) == 1

    ended = stack.down()
    (row,) = ended["destroyed"]
    assert row["verified"]
    assert row["instance_id"] == node["instance_id"]
    assert row["spent_usd"] > 0
    assert stack.billing() == []
    assert ended["still_billing"] == []
    assert stack.leftovers() == {"processes": {}, "sockets": [], "locks": []}


def test_a_fleet_grows_and_changes_in_place_and_is_made_smaller(sandboxed, new_stack):
    stack = new_stack(sandboxed)
    stack.up_vast()
    two = stack.up_vast("--count", "2", "--context", "32768")
    assert two["plan"]["action"] == "extend"
    assert [node["action"] for node in two["plan"]["nodes"]] == ["change", "create"]
    assert [(one["id"], one["state"], one["context"]) for one in two["nodes"]] == [
        ("n1", "ready", 32768),
        ("n2", "ready", 32768),
    ]
    assert creates(sandboxed) == 2

    one_less = stack.json("down", "n2")
    assert [row["id"] for row in one_less["destroyed"]] == ["n2"]
    assert len(stack.billing()) == 1
    with stack.client() as client:
        body = {"max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}
        answer = client.post("/v1/messages", json=body)
    assert (answer.status_code, answer.headers["x-llmhost-node"]) == (200, "n1")
    assert [row["id"] for row in stack.down()["destroyed"]] == ["n1"]
    assert stack.billing() == []


def test_a_machine_that_is_no_good_is_ended_before_the_next_is_rented(sandboxed, new_stack):
    sandboxed.control.plan("dead_host")
    stack = new_stack(sandboxed)
    data = stack.up_vast()
    bad, good = sandboxed.control.instances()
    assert not bad.alive
    assert good.alive
    assert bad.offer.machine_id != good.offer.machine_id
    order = [(each.method, each.route) for each in sandboxed.control.requests() if each.route in ("create", "destroy")]
    assert [route for _, route in order][:3] == ["create", "destroy", "create"]
    assert [node["instance_id"] for node in data["nodes"]] == [str(good.id)]


def test_a_dry_run_buys_nothing_and_writes_no_ledger(paper, new_stack):
    stack = new_stack(paper)
    plan = stack.json("up", "--gpu", "RTX_4090", "--dry-run")["plan"]
    assert plan["offers"][0]["gpu"] == "RTX 4090"
    assert plan["model"] == "qwen3-coder:30b"
    assert plan["price_usd_per_hour"] == plan["offers"][0]["price_usd_per_hour"]
    assert plan["onstart"].startswith("#!")
    assert len(plan["onstart"]) <= 4000
    assert paper.key not in json.dumps(plan)
    assert stack.billing() == []
    assert not (stack.state_dir / "ledger.sqlite3").exists()
    text = stack.llmhost("up", "--gpu", "RTX_4090", "--lease", "none", "--dry-run").expect().stdout
    assert "no lease" in text
    assert "nothing was started" in text


def test_without_a_key_nothing_is_asked(paper, new_stack):
    stack = new_stack(paper, VAST_API_KEY="")
    done = stack.llmhost("--json", "up", "--yes").expect(4)
    assert done.json["errors"][0]["code"] == "no_key"
    assert paper.control.requests() == []
    assert stack.llmhost("down").expect().stdout.strip() == "nothing was running"


def test_too_little_credit_is_refused_before_money_is_spent(paper, new_stack):
    paper.market.account.credit = 0.2
    done = new_stack(paper).llmhost("--json", "up", "--yes").expect(3)
    assert done.json["errors"][0]["code"] == "insufficient_credit"
    assert creates(paper) == 0


def test_options_of_rented_machines_mean_nothing_elsewhere(paper, new_stack):
    stack = new_stack(paper)
    for args in (("--provider", "local", "--gpu", "H100"), ("--provider", "vast", "--host", "me@there")):
        assert stack.llmhost("--json", "up", "--yes", *args).expect(2).json["errors"][0]["code"] == "usage"


def test_another_provider_takes_the_place_of_rented_machines(sandboxed, new_stack):
    stack = new_stack(sandboxed)
    stack.up_vast("--no-tunnel")
    assert "llmhost tunnel" in stack.llmhost("status").expect().stdout
    data = stack.json("up", "--provider", "local", "--backend", "rehearsal", "--yes")
    assert [node["provider"] for node in data["nodes"]] == ["local"]
    assert stack.billing() == []
    (row,) = stack.down()["destroyed"]
    assert row["instance_id"] is None
