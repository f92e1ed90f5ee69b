"""The first process of a sandboxed container: it runs the onstart script, and inherits whatever that leaves behind.

`python -I -S container_init.py SCRIPT`. As in a real container, processes that lose their parent become children of this one, so that
ending it and all below it ends the container. Its output is the container's log.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(script: str) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # a handler, because what is ignored would be ignored by every child too
    subprocess.Popen(["bash", script], stdin=subprocess.DEVNULL)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
