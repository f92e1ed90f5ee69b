"""What the operator's side asks of `llmhost.node` on a node, as methods."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmhost.bootstrap.machine import Machine
from llmhost.core.errors import LlmhostError, NothingSuitable, Unavailable, UsageError

if TYPE_CHECKING:
    from llmhost.ssh.session import Session

ASK_S = 60.0
# A service that is replaced may finish the answers under way first: 60 s, and the supervisor's own margins.
CHANGE_S = 180.0
# As long as it takes; what stalls is noticed on the node.
PULL_S = 7 * 24 * 3_600.0

# No working directory and none of the user's own packages among ours; text is UTF-8 whatever the locale.
OPTIONS = ("-P", "-s", "-X", "utf8")
# What may stand in the user's profile for another Python and would break this one, or keep it from ending.
THEIRS = (
    *("PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS"),
    *(
        "PYTHONOPTIMIZE",
        "PYTHONDEBUG",
        "PYTHONVERBOSE",
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONIOENCODING",
        "PYTHONUNBUFFERED",
    ),
)
NOT_FOUND = 127  # as a shell has it

OnTransfer = Callable[[str, int, int | None], None]


class Agent:
    """One node's agent, over an open session. Methods raise LlmhostError with the node's own code, or SshFailure.

    `python` may be a Machine; `folder` is absolute, or relative to the remote home.
    """

    def __init__(self, session: Session, python: Machine | str, folder: str) -> None:
        self._session = session
        self._python = python.python if isinstance(python, Machine) else python
        self._folder = folder

    def apply(self, wish: dict[str, Any], *, wait_s: float = 0.0) -> dict[str, Any]:
        """Make the node run `wish`: `{server, ollama, tcp, version}` (llmhost.node.wish).

        → `{proxy_socket, proxy_port, ollama_url, pid, did, children}`, after at most `wait_s` for all to answer.
        """
        wait = ("--wait", f"{wait_s:g}")
        return self._ask("apply", *wait, stdin=json.dumps(wish).encode(), timeout_s=CHANGE_S + wait_s)

    def start(self, *, wait_s: float = 0.0) -> dict[str, Any]:
        """As `apply`, with what the node was last told."""
        return self._ask("start", "--wait", f"{wait_s:g}", timeout_s=CHANGE_S + wait_s)

    def restart(self, services: list[str], *, wait_s: float = 0.0) -> dict[str, Any]:
        """Restart `proxy` and/or `ollama`. → as `apply`."""
        return self._ask("restart", "--wait", f"{wait_s:g}", *services, timeout_s=CHANGE_S + wait_s)

    def status(self) -> dict[str, Any]:
        """`{supervisor, children, gpu, release, proxy_socket, proxy_port, ollama_url, wish}`; no secrets."""
        return self._ask("status")

    def stop(self) -> dict[str, Any]:
        """`{stopped, left}`: pids that still run."""
        return self._ask("stop", timeout_s=CHANGE_S)

    def remove(self) -> dict[str, Any]:
        """Stop and delete the node's folder. → `{removed, left, kept}`: pids that still run, sentences about what was left in place."""
        return self._ask("remove", timeout_s=CHANGE_S)

    def models(self) -> list[dict[str, Any]]:
        """A row of `llmhost.core.ollama_models.row` for each model of the node's Ollama."""
        models: list[dict[str, Any]] = self.shelf()["models"]
        return models

    def shelf(self) -> dict[str, Any]:
        """`{models, served, disk_free}`: as `models`, the model the node serves, and bytes free for others (None = not known)."""
        return self._ask("models")

    def remove_model(self, model: str) -> dict[str, Any]:
        """Delete a model from the node's disk. → `{removed, freed}` in bytes."""
        return self._ask("rm", model, timeout_s=CHANGE_S)  # files of 20 GB, on whatever disk

    def pull(self, model: str, on_transfer: OnTransfer) -> bool:
        """Fetch a model; `on_transfer(what, done, total)` in bytes over all its files. False when it was there."""
        return bool(self._lines("pull", model, tell=lambda line: _moved(line, on_transfer)).get("fetched"))

    def logs(self, source: str, lines: int, on_line: Callable[[str], None], *, follow: bool = False) -> None:
        """The last lines of `proxy`, `ollama` or `supervisor`; with `follow` also those to come, until the session is closed."""
        more = ("--follow",) if follow else ()
        self._lines("logs", "--source", source, "--lines", str(lines), *more, tell=lambda line: on_line(line["line"]))

    def command(self, name: str, *arguments: str) -> str:
        """The command line of one call, for the remote shell; nothing secret in it."""
        lib = shlex.quote(f"{self._folder}/current/lib")
        # A relative folder is below the home, where a session starts; Python wants to know where that is.
        place = lib if self._folder.startswith("/") else f'"$HOME"/{lib}'
        argv = [self._python, *OPTIONS, "-m", "llmhost.node", name, "--folder", self._folder, *arguments]
        # `current` may be swapped while modules are still being imported: so its link is resolved once, before.
        enter = f"cd {place} || exit {NOT_FOUND}; PYTHONPATH=$(pwd -P); export PYTHONPATH; cd"
        return f"unset {' '.join(THEIRS)}; {enter}; exec {shlex.join(argv)}"

    def _ask(self, name: str, *arguments: str, stdin: bytes | None = None, timeout_s: float = ASK_S) -> dict[str, Any]:
        done = self._session.run(self.command(name, *arguments), stdin=stdin, timeout_s=timeout_s)
        answer = _parse(done.out.strip().rpartition("\n")[2])
        if answer is None:
            raise _no_answer(name, done.code, done.err)
        _check(answer)
        return answer

    def _lines(self, name: str, *arguments: str, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Hand every line on; the last one."""
        last: dict[str, Any] = {}

        def hear(text: str) -> None:
            nonlocal last
            line = _parse(text)
            if line is None:
                return
            last = line
            if "error" not in line and "done" not in line:
                tell(line)

        done = self._session.run(self.command(name, *arguments), timeout_s=PULL_S, on_line=hear)
        _check(last)
        if done.code != 0:
            raise _no_answer(name, done.code, done.err)
        return last


def _moved(line: dict[str, Any], on_transfer: OnTransfer) -> None:
    total = line.get("total")
    on_transfer(str(line.get("status") or ""), int(line.get("completed") or 0), int(total) if total else None)


def _parse(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _check(answer: dict[str, Any]) -> None:
    """Raise the node's error as it was, with the exit code its kind has."""
    error = answer.get("error")
    if not isinstance(error, dict):
        return
    kinds: dict[str, type[LlmhostError]] = {
        "usage": UsageError,
        "node_offline": Unavailable,
        "ollama_unavailable": Unavailable,
        "model_too_big": NothingSuitable,
    }
    code = str(error.get("code"))
    raise kinds.get(code, LlmhostError)(str(error.get("message")), hint=str(error.get("hint") or ""), code=code)


def _no_answer(name: str, code: int, err: str) -> LlmhostError:
    if ("No module named" in err and "llmhost" in err) or code == NOT_FOUND:
        return LlmhostError(
            "the node has no llmhost, or lost its Python.",
            hint="Set it up again: llmhost up",
            code="node_not_installed",
        )
    if "invalid choice" in err:  # its own parser's words
        return LlmhostError(
            f"the node runs an older llmhost, which does not know {name!r}.",
            hint="Bring it up to date: llmhost up",
            code="node_outdated",
        )
    said = err.strip().splitlines()[-1][:300] if err.strip() else "it said nothing"
    return LlmhostError(
        f"{name} failed on the node with exit code {code}: {said}.",
        hint="Set it up again: llmhost up, or look there: llmhost ssh",
        code="node_failed",
    )
