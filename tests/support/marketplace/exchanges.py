"""The record of every call: what came in, what went out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Exchange:
    """`route` is the name of the endpoint ("" for none), `identity` who called (never the key), `fault` the kind of a fault that hit it.

    `raw` is the request's body as it came, for scans for secrets; `answered` is the parsed JSON of the answer, if it was JSON.
    """

    at: float
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: str
    body: Any
    route: str = ""
    identity: str = ""
    status: int = 0
    answered: Any = None
    content_type: str = ""
    fault: str = ""
    limited: bool = False
    params: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For `/__requests`: the key of the caller is left out of the headers."""
        shown = asdict(self)
        shown["headers"] = {key: value for key, value in self.headers.items() if key != "authorization"}
        return shown
