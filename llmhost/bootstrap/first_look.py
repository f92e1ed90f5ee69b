"""The script that looks for a Python on a machine of which nothing is known but that it has a POSIX shell. It leaves nothing behind."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

NAMES = "python3 python3.14 python3.13 python3.12 python3.11"
NEWEST_LOCKED = (3, 14)
PLACES = (
    "~/.llmhost/python/bin/python3",
    "/opt/*/bin/python3",
    "/usr/local/bin/python3",
    "/venv/*/bin/python3",
    "~/*conda3/bin/python3",
)
LOOKED_FOR = f"{NAMES.replace(' ', ', ')} on PATH, then {', '.join(PLACES)}"

# An old Python must get through it, too: it says its version and whether it will do.
_TRY = (
    "import sys, zlib, ssl, ctypes; v = sys.version_info; print('%d.%d.%d' % v[:3]);"
    " sys.exit(not (3, 11) <= v[:2] <= NEWEST)"
)

_FIRST = """
LC_ALL=C; export LC_ALL
say() { printf '%s=%s\\n' "$1" "$2"; }
try() {
  [ -x "$1" ] && [ ! -d "$1" ] || return 1
  version=$("$1" -I -S -c "$look" 2>/dev/null </dev/null) && { say python "$1"; return 0; }
  say old "$1 ${version:-which does not work}"
  return 1
}
find_python() {
  for name in $names; do
    found=$(command -v "$name" 2>/dev/null) && try "$found" && return 0
  done
  for found in $places; do
    try "$found" && return 0
  done
}
home=${HOME:-}
[ -n "$home" ] || home=$(cd ~ 2>/dev/null && pwd)
say home "$home"
draft="$home/.llmhost-write-$$"
why=$( (: > "$draft") 2>&1) || say unwritable "$why"
rm -f "$draft" 2>/dev/null
find_python
exit 0
"""


def newest() -> tuple[int, int]:
    """The newest Python there are packages for: those that are locked, or those that are installed here."""
    return max(NEWEST_LOCKED, sys.version_info[:2])


def script(places: Sequence[str] = PLACES) -> str:
    """Prints `home=`, `unwritable=` (why), `python=` (the first that is new enough) and `old=` (others), each where there is one."""
    looked = " ".join(place.replace("~/", '"$HOME"/') for place in places)
    look = _TRY.replace("NEWEST", str(newest()))
    return f"look={shlex.quote(look)}\nnames={shlex.quote(NAMES)}\n" + _FIRST.replace("$places", looked)
