"""`python -m llmhost.tunnel.supervisor`: the supervisor of the operator's machine, which owns children and links."""

from __future__ import annotations

import contextlib
import resource
import sys

from llmhost.supervisor.supervisor import run_program
from llmhost.tunnel.part import LinksPart

# One descriptor per stream, in ssh and in the gateway, which inherit this (tunnel facts §2.3).
WANTED_FILES = 65_536


def raise_file_limit() -> None:
    """Let this process and its children have many open files, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    raise_file_limit()
    run_program(sys.argv[1:], LinksPart)
