"""Where a machine is reached over SSH."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from llmhost.core.errors import UsageError

DEFAULT_PORT = 22
_SHAPE = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:@\[\]/]+))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A machine, a port and the user to log in as."""

    host: str
    port: int
    user: str

    @classmethod
    def parse(cls, text: str, default_user: str) -> SshTarget:
        """`[user@]host[:port]`, an IPv6 address in brackets. Raises UsageError (`bad_host`)."""
        shape = _SHAPE.fullmatch(text.strip())
        port = int(shape["port"] or DEFAULT_PORT) if shape else 0
        host = (shape["six"] or shape["host"]) if shape else ""
        user = (shape["user"] if shape else None) or default_user
        # what begins with a dash would be an option to ssh
        if not host or host.startswith("-") or user.startswith("-") or not 0 < port < 65_536:
            raise UsageError(f"{text!r} is not a host.", hint="Say user@host or user@host:port.", code="bad_host")
        return cls(host, port, user)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SshTarget:
        return cls(str(data["host"]), int(data["port"]), str(data["user"]))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + ("" if self.port == DEFAULT_PORT else f":{self.port}")
