"""`llmhost` as a command, in a home of its own, against a marketplace on loopback."""

from __future__ import annotations

import json

import pytest

from llmhost.cli.main import main
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer


@pytest.fixture
def server():
    with MarketServer(Market(limits=False)) as server:
        yield server


@pytest.fixture
def llmhost(server, short_tmp, monkeypatch, capsys):
    """One command line in this process: exit code, standard output, standard error."""
    for name, folder in (("HOME", "h"), ("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", "s"), ("XDG_RUNTIME_DIR", "r")):
        (short_tmp / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(short_tmp / folder))
    monkeypatch.chdir(short_tmp)
    monkeypatch.setenv("VAST_URL", server.url)
    monkeypatch.setenv("VAST_API_KEY", server.key)
    monkeypatch.setenv("LLMHOST_VAST_PACE", "0")

    def run(*args):
        code = main(args)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def answer(llmhost):
    """The exit code and the JSON document of a command line."""

    def run(*args):
        code, out, _ = llmhost(*args, "--json")
        return code, json.loads(out)

    return run
