"""What links need on this machine: an `ssh` program, and a key that can be used."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.fleet.check import Check, failed, ok, warn
from llmhost.ssh.identity import KEY_NAME, check_identity
from llmhost.supervisor.environment import clean_environment

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

VERSION_S = 5.0


def check_ssh_program() -> Check:
    """The system's client carries links best; without it the built-in one does."""
    program = shutil.which("ssh")
    if program is None:
        return warn(
            "ssh", "no ssh on PATH: links take the built-in transport, which is slower", "install OpenSSH's client"
        )
    try:
        shown = subprocess.run(
            [program, "-V"],
            capture_output=True,
            text=True,
            timeout=VERSION_S,
            check=False,
            env=clean_environment(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return failed("ssh", f"{program} cannot be run: {error}", f"{program} -V")
    return ok("ssh", f"{shown.stderr.strip().partition(',')[0] or 'version unknown'} ({program})")


def check_ssh_key(settings: Settings, paths: Paths) -> Check:
    """The key that `up` would log in with. Makes none: our own is made at the first `up`."""
    own = paths.state_dir / "keys" / KEY_NAME
    file = Path(settings.identity).expanduser() if settings.identity else own
    if file == own and not own.exists():
        return ok("key", "llmhost's own is made at the first `llmhost up --provider ssh`")
    try:
        check_identity(file)
    except LlmhostError as error:
        return failed("key", error.message, error.hint)
    return ok("key", str(file))
