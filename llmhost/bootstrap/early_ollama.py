"""Waits for an Ollama that a rented machine is installing by itself (templates/onstart.sh), where the bootstrap would put one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmhost.ssh.session import Session

# Its curl gives up after a minute without a byte; a command of the user's own may keep its progress to itself for longer.
STALL_S = 300

# The lock is the one of install-ollama.sh, marked; a holder that does not get on is no holder any more.
SCRIPT = """d=$1; was=; still=0
while [ -e "$d.lock/onstart" ] && kill -0 "$(cat "$d.lock/pid")" 2>/dev/null; do
  now=$(du -sk "$d" "$d.early" 2>/dev/null | awk '{ s += $1 } END { print s + 0 }')
  echo "progress $((now * 1024)) 0"
  if [ "$now" = "$was" ]; then still=$((still + 1)); else still=0; fi
  was=${now:-0}
  [ "$still" -lt "$2" ] || rm -rf "$d.lock"
  sleep 1
done
[ -n "$was" ] && { [ -x "$d/bin/ollama" ] || [ -x "$d/ollama" ]; }"""


def wait(session: Session, directory: str, on_line: Callable[[str], None], timeout_s: float) -> bool:
    """Whether there was one, and it has put a program into `directory`; lines `progress BYTES 0` meanwhile. Raises SshFailure."""
    command = shlex.join(["/bin/sh", "-c", SCRIPT, "early", directory, str(STALL_S)])
    return session.run(command, timeout_s=timeout_s, on_line=on_line).code == 0
