"""`llmhost ssh`: a shell or a command on a node, with the pinned host key and the key that the node was set up with."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.core.errors import UsageError
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.desired import is_remote
from llmhost.fleet.links import link_spec
from llmhost.fleet.visit import Visits
from llmhost.ssh.exchange import Completed
from llmhost.tunnel.spec import LinkSpec, LinkTiming

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# Longer than any command that somebody waits for at a terminal; one that takes longer is for a shell.
COMMAND_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Errand:
    """What to run on a node; no words = a shell."""

    node: NodeRecord
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """For a shell over there: one word is a command line as it stands, several are words that it must not take apart."""
        return self.words[0] if len(self.words) == 1 else shlex.join(self.words)


def check_remote(node: NodeRecord) -> None:
    """Raises UsageError for a node of this machine."""
    if not is_remote(node):
        raise UsageError(f"{node.id} is on this machine: a shell is here already.", hint="llmhost status")


def ssh_argv(errand: Errand, paths: Paths, *, terminal: bool) -> list[str] | None:
    """The system's `ssh` with this node's keys and nothing of ~/.ssh; None where there is none. Nothing secret in it."""
    program = shutil.which("ssh")
    if program is None:
        return None
    spec = link_spec(errand.node, paths, LinkTiming())
    options = [item for name, value in _options(spec).items() for item in ("-o", f"{name}={value}")]
    key = ["-i", spec.identity] if spec.identity else []
    tty = ["-t"] if terminal else ["-T"]
    command = [errand.command] if errand.words else []
    return [program, "-F", "none", "-p", str(spec.target.port), *tty, *options, *key, _login(spec), *command]


def run_there(errand: Errand, settings: Settings, paths: Paths) -> Completed:
    """Run a command without the system's ssh, or where its output is to be kept. Raises UsageError for a shell, SshFailure."""
    if not errand.words:
        raise UsageError(
            "a shell takes a terminal, and an `ssh` program on PATH.",
            hint=f"A single command works without: llmhost ssh {errand.node.id} -- CMD",
            code="no_ssh",
        )
    with Visits(settings, paths) as visits:
        return visits.to(errand.node).run(errand.command, timeout_s=COMMAND_S)


def _login(spec: LinkSpec) -> str:
    return f"{spec.target.user}@{spec.target.host}"


def _options(spec: LinkSpec) -> dict[str, str]:
    agent = spec.agent or os.environ.get("SSH_AUTH_SOCK") or "none"
    return {
        "UserKnownHostsFile": _quoted(spec.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": spec.alias,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes" if spec.identity else "no",
        "IdentityAgent": _quoted(agent),
        "PreferredAuthentications": "publickey",
        "ControlMaster": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "15",
        "LogLevel": "ERROR",
    } | ({} if spec.identity else {"IdentityFile": "none"})


def _quoted(path: str) -> str:
    """As ssh_config(5) wants a path that may have blanks; a percent sign would begin a token."""
    return '"' + path.replace("%", "%%") + '"'
