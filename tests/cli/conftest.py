"""Running `llmhost` in a home of the test's own."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmhost.cli.main import main


@dataclass(frozen=True)
class Home:
    """Where the run keeps its things."""

    root: Path

    @property
    def config_file(self) -> Path:
        return self.root / "config" / "llmhost" / "config.toml"

    @property
    def state(self) -> Path:
        return self.root / "state" / "llmhost"


@pytest.fixture
def home(short_tmp, monkeypatch):
    """A fresh home; the working directory is an empty folder in it."""
    work = short_tmp / "work"
    work.mkdir()
    (short_tmp / "run").mkdir(mode=0o700)
    monkeypatch.chdir(work)
    places = {"HOME": "home", "XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state", "XDG_RUNTIME_DIR": "run"}
    for name, folder in places.items():
        monkeypatch.setenv(name, str(short_tmp / folder))
    with (
        socket.socket() as nobody
    ):  # bound and not listening: what is asked for there is refused, whatever the machine runs
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        yield Home(short_tmp)


@pytest.fixture
def llmhost(home, capsys):
    """One command line in this process: exit code, standard output, standard error."""

    def run(*args):
        code = main(args)
        out, err = capsys.readouterr()
        return code, out, err

    return run
