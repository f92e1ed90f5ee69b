"""The README says what is there: its settings, commands and metrics are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmhost.cli.registry import COMMANDS
from llmhost.core.settings import Settings
from llmhost.core.settings_layers import environment_names, file_key
from tests.proxy.fleets import gateway, node
from tests.support.proxy_server import short_dir

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
QUESTION = {"max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}


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


def test_every_metric_exists() -> None:
    with short_dir() as folder, node(folder, "n1") as server, gateway(folder, [server]) as front:
        assert front.client.post("/v1/messages", json=QUESTION).status_code == 200
        exported = front.client.get("/metrics").text
    named = set(re.findall(r"`(llmhost_[a-z_]+)", README))
    assert named
    assert not {name for name in named if f"# TYPE {name} " not in exported}
