"""What is left on a machine of a node without its program: an installation or a removal that was cut off. It can only be swept away."""

from __future__ import annotations

import shlex

from llmhost.ssh.session import Session

# An unpacking that was cut off from us may still go on, and would make the folder anew: it holds this lock (bootstrap/remote_unpack.py).
# Of the folders above (.llmhost/nodes), those that are empty go, too.
_PROGRAM = """
import contextlib, fcntl, os, shutil, sys
folder = sys.argv[1]
with contextlib.suppress(OSError):
    turn = open(os.path.join(folder, "releases", ".lock"), "a")
    fcntl.flock(turn, fcntl.LOCK_EX)
shutil.rmtree(folder, ignore_errors=True)
with contextlib.suppress(OSError):
    os.rmdir(os.path.dirname(folder))
    os.rmdir(os.path.dirname(os.path.dirname(folder)))
sys.exit(os.path.lexists(folder))
"""
NOT_INSTALLED = "node_not_installed"  # what bootstrap/agent.py says when it finds no agent


def sweep(session: Session, folder: str, python: str) -> bool:
    """Delete the folder of such a node; False when that would not be right (see `command`). Raises SshFailure."""
    return session.run(command(folder, python)).code == 0


def command(folder: str, python: str) -> str:
    """For the shell there. It fails, and changes nothing, when the Python is what is missing, or when the node's supervisor runs. Pure."""
    words = {"F": folder, "P": python}
    steps = (
        *(f"{name}={shlex.quote(word)}" for name, word in words.items()),
        # the brackets keep this line from finding itself
        'if ps -A -o args= 2>/dev/null | grep -e "--lo[c]k .*$F/" >/dev/null; then exit 1; fi',
        f'exec "$P" -I -S -c {shlex.quote(_PROGRAM)} "$F"',
    )
    return "; ".join(steps)
