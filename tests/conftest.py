"""What every test shares: a clean environment of its own, and the fixtures that are needed in more than one folder."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Whatever a developer has set must neither steer a test nor be touched by one.
_FOREIGN = ("LLMHOST_", "REDIS_", "OLLAMA_", "ANTHROPIC_", "CLAUDE", "VAST_", "CACHE_", "CEREBRAS_")
_OURS = ("LLMHOST_TESTS_", "LLMHOST_VAST_OPENAPI")  # what tests are steered by
_FOREIGN_EXACT = ("MODEL_NAME", "API_PORT", "NO_COLOR", "FORCE_COLOR")

pytest.register_assert_rewrite("tests.support")


def pytest_configure(config: pytest.Config) -> None:
    """Give this worker its own HOME before any module reads it; the build cache stays the real one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts its background jobs so, and every program they start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    real_home = Path(os.environ.get("HOME") or Path.home())
    os.environ.setdefault("XDG_CACHE_HOME", str(real_home / ".cache"))
    os.environ.setdefault("GOPATH", str(real_home / "go"))
    for name in list(os.environ):
        if (name.startswith(_FOREIGN) and not name.startswith(_OURS)) or name in _FOREIGN_EXACT:
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="llmhost-tests-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ["HOME"] = home
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets, which pytest's own `tmp_path` is not."""
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
