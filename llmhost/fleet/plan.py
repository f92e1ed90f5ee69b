"""What `up` would do, with where each value came from. Looks, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from llmhost.core import secrets
from llmhost.core.errors import UsageError
from llmhost.core.gpu import read_gpu
from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.desired import LOCAL, SSH, VAST, phase_of, server_changes, server_settings
from llmhost.fleet.hosts import HostWish, free_ids
from llmhost.providers.base import BackendChoice, BackendName, BackendWish, Offer
from llmhost.providers.local import LocalProvider
from llmhost.providers.ollama_api import same_model

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

DEFAULT_PORT = 8001  # contract §3
INHERITED = "the fleet that is up"
TOKEN_LOST = "gateway.token"
OF_THE_GATEWAY = ("cache.", "links.", TOKEN_LOST)
Action = Literal["create", "replace", "replace_gateway", "keep"]


@dataclass(frozen=True, slots=True)
class UpRequest:
    """What was asked of `up`. None = whatever the settings say.

    `hosts` are for ssh, `tunnel` (whether links and gateway are wanted) for all other machines, `count` and `offer_id` for rented ones;
    `rents` = something was asked for that only rented ones have.
    """

    provider: str | None = None
    fleet: str | None = None
    backend: BackendName | None = None
    model: str | None = None
    context: int | None = None
    port: int | None = None
    hosts: HostWish = field(default_factory=HostWish)
    tunnel: bool = True
    count: int | None = None
    offer_id: int | None = None
    rents: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One node and a gateway. `sources` says for each value who wants it; `action` what becomes of what is there.

    `changes` names the settings of the running servers that would become others; no value, because some are secret. `leaving` are nodes of
    another provider that this one takes the place of.
    """

    fleet: str
    provider: str
    node_id: str
    choice: BackendChoice
    wish: BackendWish
    gateway: GatewayRecord
    action: Action
    offers: tuple[Offer, ...]
    sources: dict[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        return list(self.choice.notes)

    def as_dict(self) -> dict[str, Any]:
        """The contract's `data.plan`, and what was chosen."""
        return {
            "provider": self.provider,
            "fleet": self.fleet,
            "action": self.action,
            "node": self.node_id,
            "leaving": list(self.leaving),
            "backend": self.choice.backend,
            "model": self.choice.model,
            "context": self.choice.context,
            "pull": self.choice.missing,
            "starts_ollama": "ollama_bin" in self.choice.spec,
            "why": self._why(),
            "changes": list(self.changes),
            "port": self.gateway.port,
            "port_explicit": self.gateway.explicit,
            "sources": self.sources,
            "offers": [offer.as_dict() for offer in self.offers],
            "price_usd_per_hour": sum(offer.price_usd_per_hour for offer in self.offers),
            "worst_case_usd": 0.0,  # nothing on this machine bills
            "credit_usd": None,
            "onstart": None,
        }

    def _why(self) -> str:
        settings = f"these settings are others than it runs with: {', '.join(self.changes)}" if self.changes else ""
        return "; ".join(filter(None, (self.choice.why, settings)))


def which_provider(request: UpRequest, settings: Settings, nodes: list[NodeRecord]) -> tuple[str, str]:
    """Where the nodes are to run, and who says so: without a wish, where they run."""
    provider, source = request.provider or settings.provider, source_of("provider", request.provider, settings)
    if source == "default" and request.hosts.hosts:
        return SSH, "the hosts that were named"
    if source == "default" and request.rents:
        return VAST, "the options for rented machines"
    if nodes and source == "default":
        return newest(nodes).provider, INHERITED
    if source == "default" and settings.hosts:
        return SSH, settings.source("hosts")
    return provider, source


def newest(nodes: list[NodeRecord]) -> NodeRecord:
    """One that serves, before one that is on its way out."""
    return next((node for node in reversed(nodes) if phase_of(node) is None), nodes[-1])


def make_plan(request: UpRequest, settings: Settings, paths: Paths) -> Plan:
    """Decide what `up` would do on this machine.

    Raises UsageError (a second fleet), Unavailable (Ollama asked for and not to be had) and what the
    ledger raises.
    """
    fleet = request.fleet or settings.fleet
    nodes, gateway = recorded(paths)
    refuse_second_fleet(fleet, nodes)
    provider, provider_source = which_provider(request, settings, nodes)
    others = tuple(node.id for node in nodes if node.provider != LOCAL)
    existing = next((node for node in nodes if node.provider == LOCAL), None)
    wish, sources = wish_of(request, settings, existing)
    gpu = read_gpu()
    local = LocalProvider(
        settings.ollama_url,
        settings.ollama_bin,
        gpu.gpu if gpu else None,
        vram_mb=gpu.vram_total_mb if gpu else None,
    )
    choice = _keep_started_ollama(local.choose(wish), existing)
    if INHERITED in (sources["model"], sources["backend"]) and existing and serves(existing, choice):
        choice = replace(choice, why="it serves already")
    port, port_source = port_of(request, settings, gateway)
    sources |= {"provider": provider_source, "port": port_source, "fleet": settings.source("fleet")}
    changes = changes_of(gateway, port, paths) if nodes else ()
    action = "replace" if others else _action(existing, choice, gateway, port, changes)
    node_id = existing.id if existing else next(free_ids(others))
    offers = tuple(local.offers())
    return Plan(fleet, provider, node_id, choice, wish, port, action, offers, sources, changes, leaving=others)


def serves(node: NodeRecord, choice: BackendChoice) -> bool:
    """Whether a node that is there already is what was chosen. A window nobody asked for may be any."""
    same_window = choice.context is None or node.context == choice.context
    same_backend = node.backend == choice.backend and (choice.model is None or node.model == choice.model)
    return same_backend and same_window and node.spec.get("ollama_url") == choice.spec.get("ollama_url")


def recorded(paths: Paths) -> tuple[list[NodeRecord], GatewayRecord | None]:
    """What the ledger says; nothing when there is none."""
    ledger = Ledger.open_existing(paths.ledger_file)
    if ledger is None:
        return [], None
    with ledger:
        return ledger.nodes(), ledger.gateway()


def refuse_second_fleet(fleet: str, nodes: list[NodeRecord]) -> None:
    """Raises UsageError (`another_fleet`)."""
    other = next((node.fleet for node in nodes if node.fleet != fleet), None)
    if other is not None:
        raise UsageError(
            f"fleet {other!r} is up, and this release serves one fleet from a state directory.",
            hint=f"Bring it down first: llmhost down --fleet {other}",
            code="another_fleet",
        )


def wish_of(request: UpRequest, settings: Settings, existing: NodeRecord | None) -> tuple[BackendWish, dict[str, str]]:
    """What was asked for; what was not is taken from the node that is there, unless that was only a stopgap."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in ("backend", "model", "context"):
        values[name] = getattr(request, name) if getattr(request, name) is not None else getattr(settings, name)
        sources[name] = source_of(name, getattr(request, name), settings)
    if existing and not existing.spec.get("fallback") and _agrees(values, existing):
        for name in (name for name in values if values[name] is None):
            values[name], sources[name] = getattr(existing, name), INHERITED
    return BackendWish(**values, pull=bool(values["model"]) and sources["model"] == "flag"), sources


def _agrees(asked: dict[str, Any], existing: NodeRecord) -> bool:
    """Another backend brings its own model, another model its own window: then nothing of what is there stays."""
    if asked["backend"] not in (None, existing.backend):
        return False
    return asked["model"] is None or (existing.model is not None and same_model(asked["model"], existing.model))


def source_of(name: str, given: Any, settings: Settings) -> str:
    """Who wants a value: `flag`, or what the settings say."""
    return "flag" if given is not None and given != getattr(settings, name) else settings.source(name)


def port_of(request: UpRequest, settings: Settings, known: GatewayRecord | None) -> tuple[GatewayRecord, str]:
    """The gateway as it should be, with the servers' settings, and who wants its port."""
    server = server_settings(settings)
    asked = request.port if request.port is not None else settings.gateway_port
    if asked is not None:
        source = "flag" if request.port is not None else settings.source("gateway_port")
        return GatewayRecord(asked, True, server), source
    if known is not None:
        return replace(known, server=server), "the gateway that was there"
    return GatewayRecord(DEFAULT_PORT, False, server), "default"


def _keep_started_ollama(choice: BackendChoice, existing: NodeRecord | None) -> BackendChoice:
    """The Ollama that answers may be the one we started: then it stays ours to run and to stop."""
    if not existing or choice.backend != "ollama" or existing.spec.get("ollama_url") != choice.spec.get("ollama_url"):
        return choice
    ours = {key: value for key, value in existing.spec.items() if key in ("ollama_bin", "ollama_env")}
    return replace(choice, spec=choice.spec | ours)


def _action(
    existing: NodeRecord | None,
    choice: BackendChoice,
    gateway: GatewayRecord | None,
    port: GatewayRecord,
    changes: tuple[str, ...],
) -> Action:
    if existing is None:
        return "create"
    if not serves(existing, choice) or any(not name.startswith(OF_THE_GATEWAY) for name in changes):
        return "replace"
    moved = port.explicit and gateway is not None and gateway.port != port.port
    return "replace_gateway" if moved or changes else "keep"


def changes_of(gateway: GatewayRecord | None, planned: GatewayRecord, paths: Paths) -> tuple[str, ...]:
    """What of the running servers' settings would become another."""
    if gateway is None:
        return ()
    lost = () if secrets.read(paths.gateway_token_file) else (TOKEN_LOST,)
    return (*server_changes(gateway.server, planned.server), *lost)
