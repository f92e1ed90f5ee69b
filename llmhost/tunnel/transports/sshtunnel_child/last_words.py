"""How the child says why it ends: one line on standard error, `llmhost-link: CODE DETAIL`."""

from __future__ import annotations

SOCKET_FAILED = "socket_unusable"  # the one code that is not about the machine
_MARK = "llmhost-link: "


class Ended(Exception):
    """The link cannot be made or is lost: a code of `llmhost.ssh.failures` or SOCKET_FAILED, and what is known beyond it (may be "")."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code} {detail}".strip())
        self.code = code
        self.detail = detail

    def line(self) -> str:
        """One line whatever the detail holds (it may quote the server)."""
        return f"{_MARK}{self.code} {' '.join(self.detail.split())}".strip() + "\n"


def read(stderr: str) -> tuple[str, str] | None:
    """Code and detail of the last such line in `stderr`; None when there is none."""
    lines = [line for line in stderr.splitlines() if line.startswith(_MARK)]
    if not lines:
        return None
    code, _, detail = lines[-1].removeprefix(_MARK).partition(" ")
    return code, detail
