"""The real Claude Code on the real Ollama of a rented machine, whose start script began it early."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.live.test_ollama_session import CONTEXT, MODEL, call, step
from tests.support.build_ollama import ollama_binary
from tests.support.claude import claude_binary, result_text
from tests.support.marketplace.sandbox import sandboxes
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.rented_stack import RentedStack, quick_market

SCRIPTS = {
    "default": ["hello ", "from the ", "scripted model"],
    "[[one]]": step(1, "[[two]]", call("Bash", command="echo step-1")),
    "[[two]]": ["all ", "done"],
}


@pytest.fixture(scope="module")
def ollama_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An `ollama` as an image may carry it, with a model that needs no download."""
    folder = tmp_path_factory.mktemp("ollama")
    server = OllamaServer(folder).start()
    try:
        server.create(MODEL, scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
    finally:
        server.stop()
    models = shlex.quote(str(folder / "models"))
    # for a CPU: flash attention would double the time a prompt takes
    settings = f"OLLAMA_MODELS={models} OLLAMA_FLASH_ATTENTION=0 OLLAMA_NO_CLOUD=1 OLLAMA_NOPRUNE=1"
    return f"#!/bin/sh\n{settings} exec '{ollama_binary()}' \"$@\"\n"


@pytest.mark.timeout(300)  # a first prompt of 17,000 tokens, for a CPU
def test_claude_calls_tools_on_a_rented_machines_model(short_tmp: Path, ollama_program: str) -> None:
    claude_binary()
    machines = sandboxes(short_tmp, programs={"ollama": ollama_program})
    with quick_market(machines=machines) as server:
        stack = RentedStack(server, XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"])
        try:
            data = stack.json("up", "--gpu", "RTX_4090", "--model", MODEL, "--context", CONTEXT, "--yes")
            (node,) = data["nodes"]
            assert (node["state"], node["backend"], node["model"]) == ("ready", "ollama", f"{MODEL}:latest")
            assert node["vram_total_mb"] == 24_564
            run = stack.stream("[[one]] is what to do", "--allowedTools", "Bash", timeout_s=200)
            assert [result_text(block) for block in run.tool_results] == ["step-1"]
            assert run.result["result"] == "all done"
            (row,) = stack.down()["destroyed"]
            assert (row["verified"], stack.billing()) == (True, [])
        finally:
            stack.remove()
