"""A second `up` with other wishes: what holds from then on is said, and so is what cannot be changed of a machine that is rented."""

from __future__ import annotations

import socket

from tests.support.marketplace.server import MarketServer


def warnings(stack, *args):
    return stack.llmhost("--json", "up", "--backend", "rehearsal", "--yes", *args).expect().json["warnings"]


def test_wishes_for_a_fleet_that_is_up(sandboxed: MarketServer, new_stack):
    stack = new_stack(sandboxed)
    stack.up_vast("--budget", "2", "--lease", "none")
    dearest = ("--max-price", "0.01", "--region", "SE")
    (told,) = warnings(stack, *dearest)
    assert told.startswith("--max-price, --region: what is rented already stays as it is")
    assert warnings(stack, *dearest) == []  # it is known by now

    (told,) = warnings(stack, "--offer", "1")
    assert "offer 1 is not rented" in told
    assert "--count 2 --offer 1" in told

    more = stack.llmhost("up", "--backend", "rehearsal", "--yes", "--budget", "5").expect()
    assert "the budget is $5.00 from now on (it was $2.00)" in more.stderr
    less = stack.llmhost("--json", "up", "--backend", "rehearsal", "--yes", "--budget", "0.000001").expect(3)
    (error,) = less.json["errors"]
    assert error["code"] == "budget_spent"
    assert "llmhost down" in error["hint"]

    assert stack.llmhost("--json", "extend", "0h").expect(2).json["errors"][0]["code"] == "bad_duration"
    fleet = stack.status()["fleet"]
    assert (fleet["budget_usd"], fleet["lease_ends_at"], fleet["nodes"][0]["state"]) == (5.0, None, "ready")
    assert len(stack.billing()) == 1


def test_a_port_that_is_taken_fails_before_anything_is_rented(paper: MarketServer, new_stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = new_stack(paper).llmhost("--json", "up", "--backend", "rehearsal", "--yes", "--port", port).expect(1)
    assert done.json["errors"][0]["code"] == "port_in_use"
    assert paper.control.requests("create") == []


def test_asking_for_a_card_rents_although_a_fleet_is_up_here(paper: MarketServer, new_stack):
    stack = new_stack(paper)
    stack.up("--backend", "rehearsal")
    plan = stack.json("up", "--gpu", "RTX_4090", "--dry-run")["plan"]
    assert (plan["provider"], plan["backend"], plan["leaving"]) == ("vast", "ollama", ["n1"])
    assert plan["sources"]["provider"] == "the options for rented machines"
    assert plan["price_usd_per_hour"] > 0
