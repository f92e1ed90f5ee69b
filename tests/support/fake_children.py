"""Specs of fake servers, as `llmhost.fleet` makes them for the real one."""

from __future__ import annotations

import sys
from pathlib import Path

from llmhost.supervisor.spec import ChildSpec, Listen, Probe

ROOT = Path(__file__).parents[2]
TOKEN = "token-of-the-fake"
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def argv(*options: str) -> tuple[str, ...]:
    # The module's name is in the command line, as it is in that of the real one: that is how an orphan is told from a stranger.
    options = ("-m", "llmhost.proxy", *options)
    return (sys.executable, "-m", "tests.support.fake_server", *options)


def node(paths, *options: str, id: str = "n1", grace_s: float = 5.0, **config) -> ChildSpec:
    """A server on the node's Unix socket."""
    path = str(paths.node_socket(id))
    return ChildSpec(
        name=f"node-{id}",
        argv=argv(*options),
        config={"name": f"node-{id}", "token": TOKEN, "socket": path, "fd": None, **config},
        env=ENVIRONMENT,
        probe=Probe("/internal/status", f"unix:{path}", TOKEN),
        sockets=(path,),
        grace_s=grace_s,
    )


def gateway(
    port: int, *options: str, explicit: bool = False, span: int = 50, grace_s: float = 5.0, **config
) -> ChildSpec:
    """A server on an inherited port."""
    return ChildSpec(
        name="gateway",
        argv=argv(*options),
        config={"name": "gateway", "token": TOKEN, "fd": None, **config},
        env=ENVIRONMENT,
        listen=Listen(port, explicit, span),
        probe=Probe("/internal/status", token=TOKEN),
        grace_s=grace_s,
    )
