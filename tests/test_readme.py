"""The README and the dashboard say what is there: their settings, commands and metrics are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llmhost.cli.registry import COMMANDS
from llmhost.core.settings import Settings
from llmhost.core.settings_layers import environment_names, file_key
from llmhost.proxy.metrics import Metrics

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_row(name: str) -> None:
    names = ", ".join(f"`{variable}`" for variable in environment_names(name))
    row = re.search(rf"^\| `{re.escape(file_key(name))}` \| {re.escape(names)} \| ([^|]*)\|", README, re.MULTILINE)
    assert row
    default = Settings.model_fields[name].default
    shown = row.group(1).strip().strip("`")
    if isinstance(default, bool):
        assert shown == str(default).lower()
    elif isinstance(default, int | float):
        assert float(shown) == default
    elif default is not None:
        assert shown == default


def test_no_variable_is_invented() -> None:
    known = {variable for name in Settings.model_fields for variable in environment_names(name)}
    assert set(re.findall(r"LLMHOST_[A-Z_]+[A-Z]", README)) <= known


def test_every_command_is_named_and_none_is_invented() -> None:
    code = re.findall(r"```sh\n(.*?)```", README, re.DOTALL) + re.findall(r"`([^`\n]+)`", README)
    used = {word for text in code for word in re.findall(r"\bllmhost (?:--json )?([a-z]+)", text)}
    assert used == {command.split()[0] for command in COMMANDS}


def exported() -> set[str]:
    """The metric names of a server; a histogram is queried by its buckets."""
    types = re.findall(r"^# TYPE (\S+) (\S+)", Metrics("rehearsal").exposition().decode(), re.MULTILINE)
    return {f"{name}{suffix}" for name, kind in types for suffix in ("", "_bucket" if kind == "histogram" else "")}


def test_every_metric_exists() -> None:
    named = set(re.findall(r"`(llmhost_[a-z_]+)", README))
    assert named
    assert named <= exported()


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    panels = json.loads((ROOT / "templates" / "grafana-dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert all(set(re.findall(r"llmhost_[a-z_]+", query)) & exported() for query in queries)
    assert {name for query in queries for name in re.findall(r"llmhost_[a-z_]+", query)} <= exported()
