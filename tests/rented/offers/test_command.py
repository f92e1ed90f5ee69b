"""`llmhost offers` against a marketplace with many machines."""

from __future__ import annotations

from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths


def expected(server, card, disk=50.0, hours=4.0, gb=18.6):
    """What each offer that does costs in all, from the marketplace's own catalogue."""
    costs = {}
    for one in server.market.offers.of(card):
        row = one.row(server.market.clock.now(), disk)
        fits = (
            row["num_gpus"] == 1
            and row["verification"] == "verified"
            and not row["external"]
            and row["reliability"] >= 0.98
            and row["inet_down"] >= 500
            and row["disk_space"] >= disk
            and row["cpu_ram"] >= 32_000
            and row["cuda_max_good"] >= 12.4
            and row["direct_port_count"] >= 1
            and row["duration"] >= hours * 3600
        )
        if fits:
            loading = 330 + 8_000 * gb / (min(row["inet_down"], 2500) * 0.6)
            traffic = gb * row["inet_down_cost"] + 0.5 * row["inet_up_cost"]
            costs[one.id] = row["dph_total"] * (hours + loading / 3600) + traffic
    return costs


def test_the_offers_are_those_that_do_with_what_they_really_cost(server, answer):
    code, document = answer("offers")
    costs = expected(server, "RTX 4090")
    assert code == 0
    assert document["ok"]
    offers = document["data"]["offers"]
    assert {each["id"]: round(each["total_usd"], 4) for each in offers} == {
        id: round(cost, 4) for id, cost in costs.items()
    }
    assert offers[0]["id"] == min(costs, key=costs.get)
    assert [each["score"] for each in offers] == sorted(each["score"] for each in offers)
    assert document["data"]["credit_usd"] == 25.0
    assert document["data"]["fit"]["context"] == 65_536
    assert document["data"]["wish"]["gpus"] == ["RTX 4090"]
    assert all(each["reasons"] for each in document["data"]["rejected"])
    assert server.control.billing_now() == []


def test_the_table_explains_prices_and_rejections(llmhost):
    code, out, err = llmhost("offers")
    assert code == 0
    assert "RTX 4090 · qwen3-coder:30b with 65,536 tokens · 4h · 50 GB of disk · credit $25.00" in out
    for title in ("card/h", "disk/h", "download", "ready in", "really/h", "in all", "reliability"):
        assert title in out
    assert "others do not do" in out
    assert "too unreliable: one has a reliability of" in out
    assert "llmhost up" in out
    assert "looking for RTX 4090" in err


def test_all_shows_why_each_of_the_others_does_not_do(server, llmhost):
    _, short, _ = llmhost("offers", "--backend", "rehearsal")
    _, out, _ = llmhost("offers", "--backend", "rehearsal", "--all")
    assert "more, with --all" in short
    assert "more, with --all" not in out
    lone = next(
        one.id for one in server.market.offers if one.fields["num_gpus"] == 1 and not one.fields["direct_port_count"]
    )
    line = next(line for line in out.splitlines() if line.startswith(str(lone)))
    assert "no port" in line


def test_any_h100_with_its_own_window(answer):
    code, document = answer("offers", "--gpu", "H100", "--lease", "2h")
    assert code == 0
    assert {each["gpu"] for each in document["data"]["offers"]} <= {"H100 SXM", "H100 PCIE", "H100 NVL"}
    assert document["data"]["fit"]["context"] == 262_144
    assert document["data"]["command"] == "llmhost up --gpu H100 --lease 2h"


def test_nothing_that_cheap_exits_3_with_the_nearest(answer, llmhost):
    code, document = answer("offers", "--max-price", "0.2")
    assert code == 3
    assert not document["ok"]
    assert document["errors"][0]["code"] == "no_offer"
    assert "--max-price 0.35" in document["errors"][0]["hint"]
    assert document["data"]["relax"][0]["options"] == ["--max-price 0.35"]
    assert document["data"]["rejected"]
    code, out, err = llmhost("offers", "--max-price", "0.2")
    assert code == 3
    assert "too dear" in out
    assert "error: none of" in err


def test_following_the_hint_helps(answer):
    _, document = answer("offers", "--region", "SE", "--min-reliability", "0.9999")
    options = document["data"]["relax"][0]["options"]
    given = [word for option in options for word in option.split()]
    code, document = answer("offers", "--region", "SE", "--min-reliability", "0.9999", *given)
    assert code == 0
    assert document["data"]["offers"]


def test_regions_trust_and_disk_are_kept_to(answer):
    _, document = answer(
        "offers", "--region", "us,tw", "--trust", "datacenter", "--disk", "60", "--min-reliability", "0.9"
    )
    found = document["data"]["offers"]
    assert found
    assert all(each["region"] in ("US", "TW") and each["datacenter"] for each in found)
    assert document["data"]["wish"]["disk_gb"] == 60


def test_the_settings_hold_where_no_option_is_given(answer, monkeypatch):
    monkeypatch.setenv("LLMHOST_GPU", "RTX_3090")
    monkeypatch.setenv("LLMHOST_LEASE", "12h")
    _, document = answer("offers")
    assert {each["gpu"] for each in document["data"]["offers"]} == {"RTX 3090"}
    assert document["data"]["wish"]["hours"] == 12


def test_a_machine_that_failed_is_passed_over_and_one_that_served_preferred(answer):
    _, document = answer("offers")
    best, second = document["data"]["offers"][:2]
    paths = Paths.from_environment()
    paths.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Ledger.open(paths.ledger_file) as ledger:
        ledger.rentals.note_machine(
            best["machine_id"], failed_at="2099-01-01T00:00:00+00:00", why="it never opened ssh"
        )
    _, document = answer("offers")
    assert document["data"]["offers"][0]["id"] == second["id"]
    (passed,) = [each for each in document["data"]["rejected"] if each["id"] == best["id"]]
    assert "it never opened ssh" in passed["reasons"][0]["text"]


def test_a_model_that_does_not_fit_says_what_would(answer):
    code, document = answer("offers", "--gpu", "RTX_3060")
    assert (code, document["errors"][0]["code"]) == (3, "model_too_big")
    code, document = answer("offers", "--gpu", "RTX_3060", "--model", "qwen2.5-coder:7b", "--min-reliability", "0.9")
    assert code == 0
    assert any("64,000 is the floor" in warning for warning in document["warnings"])


def test_a_misspelt_card(answer):
    code, document = answer("offers", "--gpu", "RTX_490")
    assert (code, document["errors"][0]["code"]) == (2, "unknown_gpu")
    assert "RTX_4090" in document["errors"][0]["hint"]


def test_looking_creates_no_ledger(answer):
    answer("offers")
    assert not Paths.from_environment().ledger_file.exists()


def test_without_a_key_and_with_a_wrong_one(answer, monkeypatch):
    monkeypatch.setenv("VAST_API_KEY", "wrong")
    code, document = answer("offers")
    assert (code, document["errors"][0]["code"]) == (4, "bad_key")
    monkeypatch.delenv("VAST_API_KEY")
    code, document = answer("offers")
    assert (code, document["errors"][0]["code"]) == (4, "no_key")


def test_quiet_leaves_the_numbers_best_first(answer, llmhost):
    _, document = answer("offers")
    code, out, err = llmhost("offers", "--quiet")
    assert (code, err) == (0, "")
    assert out.split() == [str(each["id"]) for each in document["data"]["offers"]]


def test_wrong_values_are_usage_errors(answer):
    for args in (
        ["--lease", "soon"],
        ["--trust", "blindly"],
        ["--max-price", "0"],
        ["--min-reliability", "2"],
        ["--disk", "1"],
    ):
        code, document = answer("offers", *args)
        assert code == 2, args
        assert document["errors"][0]["code"] == "config_invalid", args
