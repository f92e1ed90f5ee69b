"""What a server process (node proxy or gateway) is told when it starts.

The operator's side writes it as one JSON line to the server's standard input, so that no secret stands in argv or in an environment;
standard input stays open afterwards as the lifeline: its end tells the server that whoever started it is gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

T = TypeVar("T")
BackendKind = Literal["ollama", "rehearsal", "node", "fleet"]


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """Where answers come from.

    `url` is `http://host:port` or `unix:/path` (kinds `ollama` and `node`); `token` is sent upstream as a bearer (kind `node`);
    `model` None means the backend's own choice; `context` is the window in tokens to load, None = the backend's default. `parallel` is how
    many requests the engine answers at once (kind `ollama`: its OLLAMA_NUM_PARALLEL, which it does not tell); more wait their turn here.
    """

    kind: BackendKind
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    model: str | None = None
    context: int | None = None
    keep_alive: str | int = -1
    parallel: int = 1
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node as the gateway is told of it (kind `fleet`).

    `url` is `unix:/path` or `http://host:port`; `parallel` how many requests its engine answers at once. `draining` = no new work.
    `trouble` = why it cannot be reached until somebody does something (`code` and a sentence); None = it can, or will be again by itself.
    """

    id: str
    url: str
    token: str = field(repr=False)
    parallel: int = 1
    draining: bool = False
    trouble: tuple[str, str] | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodeConfig:
        """Read what `asdict` wrote, also after JSON. Raises TypeError or ValueError when it is something else."""
        if not isinstance(data, dict):
            raise ValueError("a node must be an object")
        node = _build(cls, data)
        if not all(isinstance(value, str) and value for value in (node.id, node.url, node.token)):
            raise ValueError("a node needs id, url and token")
        if not node.url.startswith(("unix:/", "http://", "https://")):
            raise ValueError(f"node {node.id}: url must begin with unix:/ or http://")
        if type(node.parallel) is not int or node.parallel < 1 or not isinstance(node.draining, bool):
            raise ValueError(f"node {node.id}: parallel must be a number from 1 on, draining true or false")
        return replace(node, trouble=_trouble(node.id, data.get("trouble")))


def _trouble(node: str, told: Any) -> tuple[str, str] | None:
    if told is None:
        return None
    if not isinstance(told, list | tuple) or len(told) != 2 or not all(isinstance(part, str) for part in told):
        raise ValueError(f"node {node}: trouble must be null or a code and a sentence")
    return told[0], told[1]


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """A Redis to keep answers in. `url` wins over the parts. `tls` None = on unless the host is loopback. No repr shows a credential."""

    url: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int = 6379
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool | None = None


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The exact response cache. `redis` None = memory only. `max_bytes` bounds what one process keeps in memory."""

    enabled: bool = True
    redis: RedisConfig | None = None
    ttl_s: int = 86_400
    max_bytes: int = 256 * 1024 * 1024
    namespace: str = "default"
    cache_sampled: bool = True
    timeout_s: float = 0.05


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals of the streaming rules, in seconds.

    Sources: contract §2 (first bytes), claude-code facts §1.8 (idle timers), tunnel facts D6 (`hold`: how long a request waits for a node
    or a link that is coming back before it is told to come again).
    """

    first_byte: float = 5.0
    ping: float = 10.0
    heartbeat: float = 240.0
    upstream_silence: float = 30.0  # a node proxy pings every 10 s: three missed pings are a dead node
    hold: float = 20.0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server process. Exactly one of `fd` (inherited listening socket), `socket` (Unix path) or `host`+`port` is where it listens.

    `also_port` is a second place beside `socket`: a TCP port of 127.0.0.1, for a transport that cannot reach a Unix socket. `nodes` are
    the nodes behind a backend of kind `fleet`, and may be changed while the server runs (`PUT /internal/nodes`). `gpu` = look at the
    machine's graphics cards and tell of them in `GET /internal/status`. `activity_file` is touched while there are requests for messages
    (absolute, or relative to the home; llmhost.core.guard_files); None = no such file.
    """

    name: str
    token: str = field(repr=False)
    backend: BackendConfig
    cache: CacheConfig = field(default_factory=lambda: CacheConfig(enabled=False))
    timing: Timing = field(default_factory=Timing)
    fd: int | None = None
    socket: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    also_port: int | None = None
    nodes: tuple[NodeConfig, ...] = ()
    gpu: bool = False
    model_names: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    log_json: bool = True
    log_level: str = "info"
    lifeline: bool = False
    activity_file: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ServerConfig:
        """Read what `to_json` wrote. Unknown keys are ignored, so that a newer operator can start an older node. Raises ValueError."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("server configuration must be a JSON object")
        cache = dict(data.get("cache") or {})
        if cache.get("redis") is not None:
            cache["redis"] = _build(RedisConfig, cache["redis"])
        if not data.get("token"):
            raise ValueError("a server needs a token")
        data["backend"] = _build(BackendConfig, data["backend"])
        data["cache"] = _build(CacheConfig, cache)
        data["nodes"] = tuple(NodeConfig.from_dict(node) for node in data.get("nodes") or ())
        data["timing"] = _build(Timing, data.get("timing") or {})
        for name in ("model_names", "allowed_hosts"):
            data[name] = tuple(data.get(name) or ())
        return _build(cls, data)


def _build(cls: type[T], data: dict[str, Any]) -> T:
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: value for key, value in data.items() if key in known})
