"""What is left on a machine of a node without its program: an installation or a removal that was cut off. It can only be swept away."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from llmhost.ssh.session import Session

NOT_INSTALLED = "node_not_installed"  # what bootstrap/agent.py says when it finds no agent


def sweep(session: Session, folder: str, python: str) -> bool:
    """Delete the folder of such a node; False when that would not be right (see `command`). Raises SshFailure."""
    return session.run(command(folder, python)).code == 0


def command(folder: str, python: str) -> str:
    """For the shell there. It fails, and changes nothing, when the Python is what is missing, or when the node's supervisor runs.

    The folder is moved aside first, so that an interrupted installation which still goes on there cannot complete it. Empty folders above
    it are removed, too. Pure.
    """
    place = PurePosixPath(folder)
    aside = place.with_name(f".{place.name}.gone")
    words = {"F": place, "A": aside, "N": place.parent, "L": place.parent.parent, "P": python}
    steps = (
        *(f"{name}={shlex.quote(str(word))}" for name, word in words.items()),
        '"$P" -I -S -c "" || exit 1',
        # the brackets keep this line from finding itself
        'if ps -A -o args= 2>/dev/null | grep -e "--lo[c]k .*$F/" >/dev/null; then exit 1; fi',
        'if test -e "$F"; then rm -rf "$A"; mv "$F" "$A"; fi',
        'rm -rf "$A" && test ! -e "$F" || exit 1',
        'rmdir "$N" "$L" 2>/dev/null || true',  # others may live there
    )
    return "; ".join(steps)
