"""The loop that sends every line of a connection's heartbeat back, for the machine at the other end."""

from __future__ import annotations

import shlex

# `echo`, not `:`, whose failing redirection would end some shells. Nothing here starts a process, however often it beats; what cannot be
# written is let be. The file changes its time also where an empty one that is emptied would not.
_FILE = "case $2 in /*) f=$2;; *) f=$HOME/$2;; esac;"
_BEAT = '{ [ ! -d "${f%/*}" ] || echo >"$f"; } 2>/dev/null;'


def echo_loop(remote_socket: str = "", *, asked: str = "", beat: str | None = None) -> str:
    """The command for whatever login shell. `exec`: that shell leaves the stage, so that the end of our input is the end.

    `asked` is what to do with each line `$l` before it goes back (`$1` is the node proxy's socket); `beat` as in `LinkSpec`.
    """
    steps = [asked, *([_BEAT] if beat else []), "printf '%s\\n' \"$l\";"]
    loop = f"while read -r l; do {' '.join(filter(None, steps))} done"
    # One line: csh takes no line end in quotes.
    script = f"{_FILE} {loop}" if beat else loop
    return shlex.join(["exec", "/bin/sh", "-c", script, "link", remote_socket, *([beat] if beat else [])])
