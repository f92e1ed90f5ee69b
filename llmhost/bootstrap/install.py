"""The bootstrap every node shares: from a machine with sshd to a node proxy that answers on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import llmhost
from llmhost.bootstrap import bundle, ollama
from llmhost.bootstrap.agent import Agent
from llmhost.bootstrap.machine import Machine, inspect
from llmhost.bootstrap.push import push
from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.progress import Progress

if TYPE_CHECKING:
    from llmhost.ssh.session import Session

# The proxy answers within a second; a machine that is unpacking a model may be slow.
START_S = 60.0
LOG_LINES = 5
PULL = "pull"

# Picks one of Agent.models' entries by name; None = none of them will do.
Chooser = Callable[[list[dict[str, Any]]], str | None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What should run on the node.

    `server` are further fields of ServerConfig as plain values (`name`, `timing`, `log_level`); token and backend are put in here.
    `model` None = what `choose` picks among the models that are there. `pull` = the model may be fetched. `install` = Ollama may be
    installed, by `ollama_install` (a POSIX shell command; None = the built-in one, which downloads from `ollama_site`). `tcp` = the node
    proxy also listens on a port of the node's loopback.
    """

    backend: Literal["ollama", "rehearsal"]
    token: str = field(repr=False)
    node_id: str
    model: str | None = None
    context: int | None = None
    pull: bool = False
    install: bool = True
    ollama_install: str | None = None
    ollama_site: str = ollama.SITE
    ollama_env: Mapping[str, str] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    tcp: bool = False
    choose: Chooser | None = None


@dataclass(frozen=True, slots=True)
class Installed:
    """A node whose proxy answers on the node. `changed` = something was pushed, installed, pulled or (re)started; `did` says what.

    `folder` is absolute. `notes` are sentences for people.
    """

    folder: str
    python: str
    machine: Machine
    proxy_socket: str
    proxy_port: int | None
    model: str | None
    notes: tuple[str, ...]
    changed: bool
    did: dict[str, Any]


def node_folder(key: str) -> str:
    """Where a node lives, relative to the remote home."""
    return f".llmhost/nodes/{key}"


def bootstrap(session: Session, folder: str, wish: Wish, progress: Progress, cache: Path | None = None) -> Installed:
    """Check, push, install, pull, start; doing it twice changes nothing. `folder` is relative to the remote home, or absolute.

    `cache` keeps the bundles (None = the usual folder). Phases: `check`, `bundle`, `ollama`, `pull`, `start`, `ready`. Raises LlmhostError
    with the codes of machine.py, bundle.py, push.py, ollama.py and llmhost.node; `model_missing`, `no_model`, `ollama_missing`; NotReady
    (`node_not_up`); SshFailure.
    """
    progress.phase("check", "looking at the machine")
    machine = inspect(session, folder)
    place = folder if folder.startswith("/") else f"{machine.home.rstrip('/')}/{folder}"
    made = bundle.build(machine, cache or bundle.cache_folder(), progress)
    pushed = push(session, made, place, machine.python, progress, machine.disk_free_mb)
    job = _Job(session, machine, place, wish, progress, Agent(session, machine, place))
    job.did = {"pushed": pushed}
    engine, model = job.ollama_and_model() if wish.backend == "ollama" else ({"mode": "none"}, wish.model)
    return job.start(engine, model)


@dataclass(slots=True)
class _Job:
    """What every step needs."""

    session: Session
    machine: Machine
    folder: str
    wish: Wish
    progress: Progress
    agent: Agent
    did: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ollama_and_model(self) -> tuple[dict[str, Any], str]:
        """The node's Ollama, running, and the model, on its disk."""
        engine = self._engine()
        self.progress.phase(ollama.PHASE, "starting Ollama" if engine["mode"] == "serve" else "asking the Ollama there")
        # Without a server: a proxy that runs already stays as it is until all is known.
        applied = self.agent.apply(self._told(None, engine), wait_s=START_S)
        self._remember(applied)
        self._check_up(applied, "ollama")
        return engine, self._model()

    def start(self, engine: dict[str, Any], model: str | None) -> Installed:
        """The proxy, and all together."""
        self.progress.phase("start", "starting the node's server")
        applied = self.agent.apply(self._told(self._server(model), engine), wait_s=START_S)
        self._remember(applied)
        self.progress.phase("ready", "waiting until the node's server answers")
        self._check_up(applied, "proxy")
        return Installed(
            folder=self.folder,
            python=self.machine.python,
            machine=self.machine,
            proxy_socket=applied["proxy_socket"],
            proxy_port=applied["proxy_port"],
            model=model,
            notes=(*self.machine.notes, *self.notes, *self._gpu_note()),
            changed=any(bool(value) for value in self.did.values()),
            did=self.did,
        )

    def _engine(self) -> dict[str, Any]:
        before = ((self.agent.status()["wish"] or {}).get("ollama")) or {}
        planned = ollama.plan(self.machine, before)
        if planned.note:
            self.notes.append(planned.note)
        settings = {"env": dict(self.wish.ollama_env), "context": self.wish.context}
        if planned.mode != "install":
            return {**planned.as_wish(), **settings}
        if not self.wish.install:
            raise LlmhostError(
                "the node has no Ollama.", hint="Install it there, or allow llmhost to.", code="ollama_missing"
            )
        wish = self.wish
        program = ollama.install(
            self.session, self.machine, self.folder, self.progress, wish.ollama_install, wish.ollama_site
        )
        self.did["installed"] = True
        return {"mode": "serve", "url": None, "bin": program, **settings}

    def _model(self) -> str:
        model = self.wish.model
        if model is None:
            chosen = self.wish.choose(self.agent.models()) if self.wish.choose else None
            if chosen is None:
                raise LlmhostError(
                    "the node's Ollama has no model that will do.",
                    hint="Name one: llmhost up --model NAME",
                    code="no_model",
                )
            return chosen
        if self.wish.pull:
            self._pull(model)
        elif not any(_same(one["name"], model) for one in self.agent.models()):
            raise LlmhostError(
                f"the node has no model {model!r}.",
                hint=f"Let it be pulled: llmhost up --model {model}",
                code="model_missing",
            )
        return model

    def _pull(self, model: str) -> None:
        self.progress.phase(PULL, f"pulling {model} on the node")

        def show(what: str, done: int, total: int | None) -> None:
            self.progress.transfer(PULL, f"{what} {model}" if what == "pulling" else what, done, total)

        self.did["pulled"] = self.agent.pull(model, show)

    def _server(self, model: str | None) -> dict[str, Any]:
        wish = self.wish
        backend = {"kind": wish.backend, "model": model, "context": wish.context, "node_id": wish.node_id}
        own = {"name": f"node-{wish.node_id}", "gpu": True, **wish.server}
        return {**own, "token": wish.token, "backend": {**backend, **own.get("backend", {})}}

    def _told(self, server: dict[str, Any] | None, engine: dict[str, Any]) -> dict[str, Any]:
        return {"server": server, "ollama": engine, "tcp": self.wish.tcp, "version": llmhost.__version__}

    def _remember(self, applied: dict[str, Any]) -> None:
        did = applied["did"]
        for name in ("started", "replaced", "removed"):
            self.did[name] = sorted({*self.did.get(name, []), *did[name]})

    def _gpu_note(self) -> list[str]:
        if self.machine.gpu or self.wish.backend == "rehearsal":
            return []
        if self.machine.gpu_trouble:
            return [
                f"nvidia-smi on the node fails ({self.machine.gpu_trouble}): with a broken driver the model runs on its processor, slowly."
            ]
        return [
            "the node has no NVIDIA graphics card (nvidia-smi shows none): the model runs on its processor, slowly."
        ]

    def _check_up(self, applied: dict[str, Any], service: str) -> None:
        child = next((one for one in applied["children"] if one["name"] == service), None)
        if child is None and service == "ollama":
            return  # one that was there before
        if child is None or child["state"] != "up":
            raise _not_up(service, child or {})


def _same(one: str, other: str) -> bool:
    def full(name: str) -> str:
        return name if ":" in name.rpartition("/")[2] else f"{name}:latest"

    return full(one).casefold() == full(other).casefold()


def _not_up(service: str, child: dict[str, Any]) -> NotReady:
    why = child.get("reason") or child.get("state") or "it is not there"
    lines = "\n".join(f"  {line}" for line in (child.get("last_lines") or [])[-LOG_LINES:])
    shown = f" Its last words:\n{lines}" if lines else ""
    return NotReady(
        f"{service} does not come up on the node: {why}.{shown}",
        hint=f"See its log: llmhost logs --source {service}",
        code="node_not_up",
    )
