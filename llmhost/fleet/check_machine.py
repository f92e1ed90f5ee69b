"""What this machine has to offer: Python, room for the state, the `claude` program, the gateway's port."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.claude.locate import claude_version, find_claude
from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.fleet.check import Check, failed, ok, warn
from llmhost.fleet.plan import DEFAULT_PORT
from llmhost.supervisor.port_owner import port_owner

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# Logs are rotated at a few MB; a model that Ollama pulls into the same disk needs tens of GB and is Ollama's to refuse.
LITTLE_ROOM = 1_000_000_000
NO_ROOM = 20_000_000


def check_python() -> Check:
    return ok("python", f"{platform.python_version()} on {platform.system()} {platform.machine()} ({sys.executable})")


def check_state(paths: Paths) -> Check:
    """Whether the state directory can be written, and how much room there is."""
    try:
        place = _nearest(paths.state_dir)
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"llmhost")
            probe.flush()
        free = shutil.disk_usage(place).free
    except OSError as error:
        detail = f"{paths.state_dir} cannot be written: {error.strerror or error}"
        return failed("state", detail, "point XDG_STATE_HOME to a folder of your own")
    detail = f"{paths.state_dir}, {free / 1e9:,.1f} GB free"
    if free < NO_ROOM:
        return failed("state", f"the disk is full: {detail}", f"df -h {place}")
    return warn("state", f"little room: {detail}", f"df -h {place}") if free < LITTLE_ROOM else ok("state", detail)


def _nearest(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def check_claude(settings: Settings) -> Check:
    """Whether there is a `claude` that runs."""
    try:
        binary = find_claude(settings.claude_bin)
    except LlmhostError as error:
        return failed("claude", error.message, error.hint)
    version = claude_version(binary)
    if version is None:
        return failed("claude", f"{binary} cannot be run", f"{binary} --version")
    return ok("claude", f"{version} ({binary})")


def check_port(settings: Settings, gateway_url: str | None) -> Check:
    """Whether the gateway's port is free, or the gateway's own."""
    port = settings.gateway_port or DEFAULT_PORT
    if gateway_url is not None:
        return ok("port", f"the gateway listens on {gateway_url}")
    if _is_free(port):
        return ok("port", f"{port} is free")
    taken = f"{port} is taken by {port_owner(port) or 'another program'}"
    if settings.gateway_port is None:
        return ok("port", f"{taken}; the gateway takes the next free one")
    return failed("port", taken, "llmhost up --provider local --port N")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
