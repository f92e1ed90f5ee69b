"""A real Ollama with a scripted model, and backends in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.core.server_config import BackendConfig, Timing
from tests.backends.ollama.scripts import SCRIPTS
from tests.support.ollama_server import OllamaServer, scripted_model

CONTEXT = 16_384


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


@pytest.fixture
async def backend(ollama: OllamaServer) -> AsyncIterator[OllamaBackend]:
    """A backend that serves the scripted model; the first request waits for it."""
    config = BackendConfig("ollama", url=ollama.url, model="scripted", context=CONTEXT)
    found = OllamaBackend(config, Timing(), poll_s=0.2)
    await found.start()
    yield found
    await found.aclose()


@pytest.fixture
async def thinker(ollama: OllamaServer) -> AsyncIterator[OllamaBackend]:
    """A backend that serves the same model as one that reasons first."""
    config = BackendConfig("ollama", url=ollama.url, model="thinker", context=CONTEXT)
    found = OllamaBackend(config, Timing(), poll_s=0.2)
    await found.start()
    yield found
    await found.aclose()
