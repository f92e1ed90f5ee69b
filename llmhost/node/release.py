"""The release this very program is of, and the one the running supervisor is of.

The supervisor answers with its version, but two releases may have the same one, as every change to a checkout makes. So whoever starts it
writes down from which folder, beside its process id and birth.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import llmhost
from llmhost.core.errors import LlmhostError
from llmhost.node.layout import Layout
from llmhost.node.wish import load_json, save_json
from llmhost.supervisor.process import birth_of


def own_lib() -> str:
    """The folder that holds this `llmhost`, links resolved: `current` may lead elsewhere while we run."""
    return str(Path(llmhost.__file__).resolve().parent.parent)


def name_of(lib: str) -> str:
    """The release's name: the folder above `lib`, or `lib` itself when the code is not in a release."""
    path = Path(lib)
    return path.parent.name if path.name == "lib" else lib


def write_down(layout: Layout, pid: int) -> None:
    """What a full disk does not take costs no more than a supervisor that the next command replaces."""
    with contextlib.suppress(LlmhostError):
        save_json(layout.supervisor_file, {"pid": pid, "birth": birth_of(pid), "lib": own_lib()})
    with contextlib.suppress(OSError):
        layout.python_file.write_text(sys.executable)


def running_lib(layout: Layout, pid: int) -> str | None:
    """From which folder the supervisor with this process id was started; None when nobody wrote it down."""
    known = load_json(layout.supervisor_file) or {}
    if known.get("pid") != pid or known.get("birth") != birth_of(pid):
        return None
    return str(known.get("lib"))
