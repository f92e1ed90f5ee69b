"""Numbers and times as people read them; what is not known is a dash."""

from __future__ import annotations

from datetime import datetime

UNKNOWN = "–"
_STEPS = ((86_400, "d"), (3600, "h"), (60, "min"))


def dollars(amount: float | None) -> str:
    """`$0.36`."""
    return UNKNOWN if amount is None else f"${amount:,.2f}"


def count(number: float | None) -> str:
    """`1,200,000`."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def percent(ratio: float | None) -> str:
    """`40 %` of a ratio between 0 and 1."""
    return UNKNOWN if ratio is None else f"{ratio * 100:.0f} %"


def size(number: float | None) -> str:
    """Bytes as `9.1 MB`."""
    if number is None:
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return UNKNOWN


def duration(seconds: float | None) -> str:
    """`1 h 10 min`, `42 s`."""
    if seconds is None:
        return UNKNOWN
    for rank, (length, unit) in enumerate(_STEPS):
        if seconds >= length:
            rest = int(seconds % length)
            smaller, name = _STEPS[rank + 1] if rank + 1 < len(_STEPS) else (1, "s")
            return f"{int(seconds // length)} {unit} {rest // smaller} {name}"
    return f"{seconds:.0f} s"


def milliseconds(number: float | None) -> str:
    """`640 ms`, `2.1 s`."""
    if number is None:
        return UNKNOWN
    return f"{number:,.0f} ms" if number < 1000 else f"{number / 1000:,.1f} s"


def clock(time: str | None) -> str:
    """The local time of an RFC 3339 one."""
    try:
        return f"{datetime.fromisoformat(time).astimezone():%H:%M:%S}" if time else UNKNOWN
    except ValueError:
        return UNKNOWN


def moment(time: str | None) -> str:
    """The local date and time of an RFC 3339 one: `21 Nov 18:30`; another text as it is."""
    try:
        return f"{datetime.fromisoformat(time).astimezone():%d %b %H:%M}" if time else UNKNOWN
    except ValueError:
        return str(time)
