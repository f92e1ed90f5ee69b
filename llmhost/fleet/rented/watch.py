"""The watch over what is rented: a child of the operator's supervisor that ends every charge in time, whoever else is gone.

`python -P -m llmhost.fleet.rented.watch`, with its configuration as one JSON line on standard input, which then is its lifeline.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.fleet.desired import WATCH
from llmhost.supervisor.spec import ChildSpec

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

MODULE = "llmhost.fleet.rented.watch"
# Settings it works with beside the market's own (`vast_…`), so that two `up` with other wishes want the same process.
NEEDED = ("alert_command", "identity", "log_level", "node_connect_timeout_s", "node_drain_s", "transport")
GRACE_S = 5.0


def watch_spec(settings: Settings, paths: Paths, running: Iterable[ChildSpec] = ()) -> ChildSpec:
    """What the supervisor runs while anything is rented.

    The account's key is part of the configuration, which travels over sockets and pipes of ours only. A shell that has no key wants the
    watch that runs already (`running`), which has one.
    """
    key = _key(settings)
    known = next((spec for spec in running if spec.name == WATCH), None)
    if key is None and known is not None:
        return known
    config = {"settings": _values(settings, key), "paths": _places(paths)}
    return ChildSpec(WATCH, (sys.executable, "-P", "-m", MODULE), config, grace_s=GRACE_S)


def _key(settings: Settings) -> str | None:
    """None also for a file that cannot be read: the watch says what it lacks, and whoever wants it goes on."""
    from llmhost.providers.vast.key import find_key

    try:
        return find_key(settings)
    except LlmhostError:
        return None


def _values(settings: Settings, key: str | None) -> dict[str, Any]:
    names = [name for name in type(settings).model_fields if name.startswith("vast_") or name in NEEDED]
    return {**{name: getattr(settings, name) for name in names}, "vast_api_key": key}


def _places(paths: Paths) -> dict[str, str]:
    return {
        "config_dir": str(paths.config_dir.absolute()),
        "state_dir": str(paths.state_dir.absolute()),
        "runtime_dir": str(paths.runtime_dir.absolute()),
    }


def main() -> int:
    """Run it until standard input ends; the exit code."""
    from llmhost.fleet.rented.watch_child import run

    return run(sys.stdin.buffer)


if __name__ == "__main__":
    sys.exit(main())
