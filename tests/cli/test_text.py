"""What people read: status, logs, numbers, errors; and where it goes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from llmhost.cli.main import interrupted
from llmhost.cli.progress import LineProgress
from llmhost.cli.render import Renderer
from llmhost.cli.views import quantities
from llmhost.cli.views.logs import line_text
from llmhost.cli.views.status import view

NODE = {
    "id": "n1",
    "provider": "vast",
    "instance_id": "1",
    "gpu": "RTX 4090",
    "state": "ready",
    "model": "qwen3-coder:30b",
    "backend": "ollama",
    "health": {"ssh": None, "ollama": "ok", "model": "ok", "proxy": "ok"},
    "tunnel": None,
    "price_usd_per_hour": 0.36,
    "uptime_s": 4200,
    "spent_usd": 0.42,
    "tokens_per_second": 92.1,
}


def status(**changed):
    data = {
        "fleet": {
            "name": "default",
            "price_usd_per_hour": 0.36,
            "spent_usd": 0.42,
            "budget_usd": 5.0,
            "lease_ends_at": "2026-11-21T18:00:00Z",
            "inventory_age_s": 12.0,
            "nodes": [NODE],
            "orphans": [],
        },
        "gateway": {"url": "http://127.0.0.1:8001", "state": "up", "model": "qwen3-coder:30b", "context": 65536},
        "cache": {
            "store": "memory",
            "state": "ok",
            "hit_ratio": 0.4,
            "entries": 812,
            "memory_bytes": 9_100_000,
            "exact": {"hits": 310, "misses": 480, "bypass": 22},
            "semantic": {"hits": 0, "misses": 0, "bypass": 0},
            "saved_tokens": 1_200_000,
            "saved_seconds": 912.0,
        },
        "prefix": {"prompt_tokens": 3_000_000, "reused_tokens": 2_870_000, "reuse_ratio": 0.957},
        "requests": {"total": 812, "errors": 3, "in_flight": 1, "p50_ms": 2100, "p99_ms": 31000, "ttft_p50_ms": 640},
        "advice": [{"code": f"c{n}", "text": f"advice {n}", "command": f"command {n}"} for n in range(5)],
    }
    for key, value in changed.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    return data


def shown(data):
    console = Console(file=io.StringIO(), width=120)
    for item in view(data):
        console.print(item)
    return console.file.getvalue()


def test_the_first_line_is_what_it_costs():
    first = shown(status()).splitlines()[0]
    ends = quantities.moment("2026-11-21T18:00:00Z")
    assert f"1 node · $0.36/h · spent $0.42 · of $5.00 · until {ends} · as of 12 s ago" in first


def test_nodes_are_the_thinkers_and_the_cache_is_the_rememberer():
    text = shown(status())
    assert "─ Thinkers ─" in text
    assert "─ Rememberer ─" in text
    assert all(
        word in text for word in ("qwen3-coder:30b on ollama", "1 h 10 min", "92 tok/s", "ollama:ok model:ok proxy:ok")
    )
    assert all(word in text for word in ("40 %", "812 answers, 9.1 MB", "310 hits", "1,200,000 tokens, 15 min 12 s"))
    assert "96 % of 3,000,000 prompt tokens" in text


def test_only_what_is_known_of_a_nodes_health_is_shown():
    health = {"ssh": None, "ollama": "unknown", "model": "ok", "proxy": "ok"}
    text = shown(status(fleet={"nodes": [{**NODE, "health": health}]}))
    assert "model:ok proxy:ok" in text
    assert not any(word in text for word in ("None", "unknown", "ssh", "ollama:"))


def test_the_three_most_urgent_pieces_of_advice_each_have_a_command():
    text = shown(status())
    assert all(f"→ advice {n}\n  command {n}" in text for n in range(3))
    assert "advice 3" not in text


def test_a_rehearsal_says_plainly_that_no_model_is_behind_it():
    assert "No model is behind this" not in shown(status())
    assert "No model is behind this" in shown(status(fleet={"nodes": [{**NODE, "backend": "rehearsal"}]}))


def test_a_cache_in_trouble_says_why():
    assert "degraded, kept in redis: connection refused" in shown(
        status(cache={"state": "degraded", "store": "redis", "detail": "connection refused"})
    )


def test_an_orphan_that_bills_is_shown():
    orphan = {"instance_id": "77", "label": "x", "price_usd_per_hour": 0.5, "since": "yesterday", "ours": True}
    assert "billing: 77 at $0.50/h since yesterday" in shown(status(fleet={"orphans": [orphan]}))


def test_without_a_fleet_nothing_is_invented():
    down = status(fleet={"nodes": []}, gateway={"url": None, "state": "down"}, advice=[])
    text = shown(down)
    assert "none; start one with: llmhost up" in text
    assert "Rememberer" not in text


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        ("dollars", None, "–"),
        ("dollars", 1234.5, "$1,234.50"),
        ("percent", 0.957, "96 %"),
        ("size", 752, "752 B"),
        ("size", 9_100_000, "9.1 MB"),
        ("size", 7e12, "7,000.0 GB"),
        ("duration", 0.4, "0 s"),
        ("duration", 61, "1 min 1 s"),
        ("duration", 90_000, "1 d 1 h"),
        ("milliseconds", 640, "640 ms"),
        ("milliseconds", 2100, "2.1 s"),
        ("count", None, "–"),
    ],
)
def test_numbers_read_easily(function, value, text):
    assert getattr(quantities, function)(value) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"time": "2026-11-21T12:00:01+00:00", "level": "info", "message": "listening", "address": "x"}',
            "listening address=x",
        ),
        (
            '{"time": "2026-11-21T12:00:01+00:00", "level": "error", "message": "bad", "trace": "T1\\nT2"}',
            "ERROR bad\nT1\nT2",
        ),
        ('{"time": "2026-11-21T12:00:01+00:00", "event": "child_up", "pid": 5}', "child_up pid=5"),
        ("time=2026 level=INFO msg=x", "time=2026 level=INFO msg=x"),
        ("{broken", "{broken"),
        ("[1]", "[1]"),
    ],
)
def test_a_line_of_a_log_reads_easily_whatever_it_is(text, words):
    time = "2026-11-21T12:00:01+00:00" if text.startswith('{"time"') else None
    line = line_text({"source": "gateway", "node": None, "time": time, "text": text})
    assert line.endswith(words)
    assert "gateway" in line


def test_off_a_terminal_a_phase_is_a_line_and_a_transfer_only_now_and_then():
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.phase("a", "starting")
    for done in range(1000):
        progress.transfer("pull", "pulling m", done * 1_048_576, 1000 * 1_048_576)
    progress.note("a fact")
    assert stream.getvalue().splitlines() == ["• starting", "• pulling m 0.0 of 1,000.0 MiB", "a fact"]


def test_an_error_is_a_line_and_a_way_out_on_standard_error(llmhost):
    code, out, err = llmhost("env")
    assert (code, out) == (7, "")
    assert err.splitlines() == ["error: fleet 'default' is not up.", "  → llmhost up --provider local"]


def test_an_unexpected_error_is_one_line_and_its_story_only_with_verbose(llmhost, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/" + "x" * 300)
    code, out, err = llmhost("config", "path")
    assert (code, out) == (1, "")
    assert err.startswith("error: unexpected OSError")
    assert "--verbose" in err
    assert "Traceback" not in err
    assert "Traceback" in llmhost("config", "path", "--verbose")[2]


def test_an_interrupted_command_says_how_to_see_what_still_runs(capsys):
    Renderer().error("up", interrupted())
    assert capsys.readouterr().err.splitlines() == ["interrupted.", "  → llmhost status shows what still runs"]


@pytest.mark.parametrize("switch", ["--quiet", "--json"])
def test_quiet_and_json_leave_the_plan_out(switch, llmhost):
    _, out, err = llmhost(switch, "up", "--provider", "local")
    assert "Plan" not in out + err


def test_a_dry_run_shows_the_plan_and_starts_nothing(llmhost, home):
    code, out, _ = llmhost("up", "--provider", "local", "--dry-run", "--port", "8123", "--backend", "rehearsal")
    assert code == 0
    assert "$0.00/h" in out
    assert "port 8123" in out
    assert not home.state.exists()
