"""A real Ollama with a scripted model, and backends in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.core.server_config import BackendConfig, Timing
from tests.backends.ollama.scripts import SCRIPTS
from tests.support.ollama_server import OllamaServer, scripted_model

CONTEXT = 4_096  # small, since reading a prompt on a CPU takes time that grows with its square


def create_models(server: OllamaServer) -> None:
    model = scripted_model(SCRIPTS)
    server.create("scripted", model, renderer="qwen3-coder", parser="qwen3-coder")
    server.create("thinker", model, renderer="qwen3-vl-thinking", parser="qwen3-thinking")


@pytest.fixture(scope="session")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """Shared: no test may stop it or change its models."""
    server = OllamaServer(tmp_path_factory.mktemp("ollama")).start()
    try:
        create_models(server)
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def serving(
    url: str, model: str | None = "scripted", *, context: int = CONTEXT, hold_s: float = 20.0, poll_s: float = 0.1
) -> AsyncIterator[OllamaBackend]:
    """A started backend; its first request waits for the model."""
    config = BackendConfig("ollama", url=url, model=model, context=context)
    backend = OllamaBackend(config, Timing(), poll_s=poll_s, hold_s=hold_s, probe_s=5.0)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()


@pytest.fixture
async def backend(ollama: OllamaServer) -> AsyncIterator[OllamaBackend]:
    """Serves the scripted model."""
    async with serving(ollama.url) as found:
        yield found


@pytest.fixture
async def thinker(ollama: OllamaServer) -> AsyncIterator[OllamaBackend]:
    """Serves the same model as one that reasons first."""
    async with serving(ollama.url, "thinker") as found:
        yield found
