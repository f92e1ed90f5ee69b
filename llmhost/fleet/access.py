"""How clients reach the gateway: it is made sure that there is one, after a crash or a reboot too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import llmhost
from llmhost.core.errors import LlmhostError, NotReady, Unavailable
from llmhost.core.ledger import Ledger
from llmhost.core.ollama_models import same_model
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.secrets import read
from llmhost.fleet.commit import Desk, gateway_token, no_fleet, restart
from llmhost.fleet.desired import GATEWAY, SUPERVISOR, serving
from llmhost.fleet.links import kick
from llmhost.fleet.observed import Observed, explain_absence, observe
from llmhost.fleet.readiness import LINK_PATIENCE_S, Wait, ready_deadline
from llmhost.supervisor.launch import end_supervisor, ensure_supervisor, find_supervisor, is_running
from llmhost.supervisor.loopback import request

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

REQUEST_S = 30.0


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """What a client needs. `context` is the window really loaded, in tokens."""

    url: str
    token: str = field(repr=False)
    model: str
    context: int


def ensure_gateway(
    settings: Settings, paths: Paths, progress: Progress, *, patience_s: float = LINK_PATIENCE_S
) -> GatewayAccess:
    """The gateway of the fleet, up and ready: started again from the ledger if it is not, replaced if it is another version's.

    One node that answers is enough: the others come back behind it. With none, links get `patience_s` to come back.
    Several callers at once end with the same one. Raises NotReady (`no_fleet`, `not_ready`), LlmhostError.
    """
    seen = observe(paths, settings.fleet)
    if not serving(seen.nodes):
        raise no_fleet(settings.fleet)
    ready = _ready_gateway(seen)
    knows = ready is None or _knows_token(paths)
    if ready is None or not knows:
        progress.phase("gateway", _what_is_wrong(paths, seen) if knows else "its token was lost: replacing the gateway")
        ready = _start_again(
            settings, paths, progress, _Aim([node.id for node in serving(seen.nodes)], knows, patience_s)
        )
    model = ready["reading"]["model"]
    return GatewayAccess(f"http://127.0.0.1:{ready['port']}", gateway_token(paths), model["id"], model["context"])


def gateway_request(settings: Settings, paths: Paths, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One authenticated call of the running gateway; its JSON.

    Raises NotReady when none runs (nothing is started for it), Unavailable when it does not answer, LlmhostError with its own words when
    it refuses.
    """
    seen = observe(paths, settings.fleet)
    child = seen.children.get(GATEWAY)
    token = read(paths.gateway_token_file)
    if child is None or not child["port"] or token is None:
        raise _not_running(settings.fleet, seen)
    try:
        answer = request(f"127.0.0.1:{child['port']}", method, path, token=token, body=body, timeout_s=REQUEST_S)
    except OSError as error:
        raise Unavailable(
            f"the gateway does not answer ({error}).", hint="llmhost status", code="gateway_silent"
        ) from error
    if answer.status != 200 or not isinstance(answer.data, dict):
        raise _refused(path, answer.status, answer.data)
    return answer.data


def offered_model(settings: Settings, paths: Paths, name: str) -> tuple[str, int] | None:
    """Name and window (tokens) of a model that the gateway can be asked for; None when it has none of that name. Raises as

    `gateway_request` does.
    """
    offered = gateway_request(settings, paths, "GET", "/v1/models")["data"]
    found = next((one for one in offered if same_model(str(one["id"]), name)), None)
    return (str(found["id"]), int(found["max_input_tokens"])) if found else None


def _ready_gateway(seen: Observed) -> dict[str, Any] | None:
    """The gateway's child if it needs nothing."""
    child = seen.children.get(GATEWAY)
    if seen.supervisor != "running" or seen.hello["version"] != llmhost.__version__ or child is None:
        return None
    reading = child["reading"] or {}
    return child if child["state"] == "up" and reading.get("ready") and reading.get("model") else None


def _knows_token(paths: Paths) -> bool:
    """Whether the running gateway was told the token that clients read: its file may have been removed or emptied meanwhile."""
    client = find_supervisor(paths)
    if client is None:
        return True  # it ended just now, which is found out soon enough
    with client:
        gateway = next((spec for spec in client.wanted() if spec.name == GATEWAY), None)
    told = (gateway.config or {}).get("token") if gateway else None
    return told == read(paths.gateway_token_file)


@dataclass(frozen=True, slots=True)
class _Aim:
    """Any of these nodes; `keep` = what runs is left alone."""

    ids: list[str]
    keep: bool
    patience_s: float


def _start_again(settings: Settings, paths: Paths, progress: Progress, aim: _Aim) -> dict[str, Any]:
    paths.create()
    started_here = not is_running(paths)
    with Ledger.open(paths.ledger_file) as ledger, ensure_supervisor(paths, progress.note, module=SUPERVISOR) as client:
        try:
            restart(Desk(ledger, client, settings, paths, gateway_token(paths)), keep=aim.keep)
        except LlmhostError:
            if started_here and not client.wanted():
                end_supervisor(client)
            raise
        kick(client)
        return Wait(client, paths, progress, aim.ids, ready_deadline(settings), aim.patience_s).until_served()


def _what_is_wrong(paths: Paths, seen: Observed) -> str:
    if seen.supervisor in ("gone", "absent"):
        return f"starting the gateway again: {seen.why or explain_absence(paths)}"
    if seen.supervisor == "running" and seen.hello["version"] != llmhost.__version__:
        return f"replacing the gateway of version {seen.hello['version']}"
    return "waiting for the gateway"


def _not_running(fleet: str, seen: Observed) -> NotReady:
    if not seen.nodes:
        return no_fleet(fleet)
    why = f": {seen.why}" if seen.why else ""
    return NotReady(f"the gateway is not running{why}.", hint="llmhost up", code="gateway_down")


def _refused(path: str, status: int, data: Any) -> LlmhostError:
    said = data.get("error") if isinstance(data, dict) else None
    words = f": {said['message']}" if isinstance(said, dict) and "message" in said else ""
    return LlmhostError(
        f"the gateway answered {path} with status {status}{words}.", hint="llmhost logs", code="gateway_refused"
    )
