"""A wrong setting does not keep anyone from looking at a fleet, or from ending it."""

from __future__ import annotations

import json

import pytest

from llmhost.core.errors import UsageError
from llmhost.core.settings import load_settings
from tests.support.stack import Stack

LOOKING = ["status", "down", "cache stats", "cache clear"]


def spoil(kind, home):
    home.config_file.parent.mkdir(parents=True)
    if kind == "dotenv":
        (home.root / "work" / ".env").write_text("CACHE_TTL=1h\n")
    elif kind == "toml":
        home.config_file.write_text("[gateway\n")
    elif kind == "key":
        home.config_file.write_text("[gateway]\nprot = 1\n")
    else:
        home.config_file.mkdir()


@pytest.mark.parametrize("line", LOOKING)
@pytest.mark.parametrize(
    ("kind", "word"), [("dotenv", "cache.ttl"), ("toml", "TOML"), ("key", "gateway.prot"), ("folder", "cannot read")]
)
def test_a_wrong_setting_is_only_a_warning_there(kind, word, line, llmhost, home):
    spoil(kind, home)
    code, out, err = llmhost("--json", *line.split())
    document = json.loads(out)
    assert code == (7 if line.startswith("cache") else 0)
    assert word in " ".join(document["warnings"])
    assert word in err
    assert llmhost("up", "--provider", "local", "--dry-run")[0] != 0


def test_the_fleet_of_a_spoiled_file_is_still_known(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('fleet = "blue"\nnonsense = 1\n[cache]\nttl = "soon"\n[gateway]\nport = 0\n')
    settings = load_settings(environ={}, cwd=tmp_path, config_file=file, lenient=True)
    assert (settings.fleet, settings.cache_ttl, settings.source("cache_ttl")) == ("blue", 86_400, "default")
    assert len(settings.warnings) == 3
    assert all("is ignored" in warning for warning in settings.warnings)


def test_a_value_below_a_wrong_one_holds_in_its_place(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[cache]\nttl = 60\n")
    settings = load_settings(environ={"CACHE_TTL": "1h"}, cwd=tmp_path, config_file=file, lenient=True)
    assert settings.cache_ttl == 60


@pytest.mark.parametrize("given", [{"flags": {"fleet": "a b"}}, {"environ": {"LLMHOST_FLEET": "a b"}}])
def test_which_fleet_is_meant_must_be_known(given, tmp_path):
    with pytest.raises(UsageError, match="fleet"):
        load_settings(**{"environ": {}, **given}, cwd=tmp_path, config_file=tmp_path / "none", lenient=True)


def test_the_service_variables_of_kubernetes_are_no_settings(tmp_path):
    services = {"REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_HOST": "cache.example"}
    settings = load_settings(environ=services, cwd=tmp_path, config_file=tmp_path / "none")
    assert (settings.redis_port, settings.source("redis_port")) == (6379, "default")


def test_a_fleet_can_be_ended_under_wrong_settings():
    stack = Stack(LLMHOST_BACKEND="rehearsal")
    try:
        stack.up()
        (stack.work / ".env").write_text("CACHE_TTL=1h\n")
        assert stack.json("cache", "clear")["deleted"] == 0
        assert [node["id"] for node in stack.json("down")["destroyed"]] == ["n1"]
    finally:
        stack.remove()
