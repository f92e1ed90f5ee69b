"""Settings: flag > environment > `.env` > `config.toml` > default, and for each value the place it came from.

The precedence and the names are the public contract's. Importing this module costs a quarter of a second (pydantic),
so the command line imports it inside the commands that need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from llmhost.core import addresses, secrets
from llmhost.core.errors import UsageError
from llmhost.core.server_config import CacheConfig, RedisConfig, Timing
from llmhost.core.settings_layers import Layer, LayerReader, environment_names, file_key

Port = Field(default=None, ge=1, le=65535)
DEFAULT_GATEWAY_PORT = 8001
# Of a lease or an idle time: 90s, 30m, 4h, 2d; `none` and `off` say that there is no end.
LENGTHS = ("lease", "idle")  # those of this form
DURATION = r"^(none|off|[0-9]+(\.[0-9]+)?[smhd])$"
# What even those commands must know that work under wrong settings.
NEEDED = ("fleet",)
SECRETS = ("redis_password", "redis_url", "vast_api_key")


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """One row of `config show`: `key` is the file's `section.key`, `value` is masked where it is secret."""

    name: str
    key: str
    value: Any
    source: str
    environment: tuple[str, ...]


class Settings(BaseSettings):
    """Effective settings. Made by `load_settings`; `Settings(name=value)` takes its arguments and nothing from outside.

    Times ending in `_s` are seconds, in `_ms` milliseconds; sizes in `_mb` are MiB.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    _layers: tuple[Layer, ...] = PrivateAttr(default=())
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    provider: Literal["vast", "local", "ssh"] = "vast"
    fleet: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    gpu: str = "RTX_4090"
    model: str | None = None
    context: int | None = Field(default=None, ge=1)
    backend: Literal["ollama", "rehearsal"] | None = None
    gateway_port: int | None = Port
    api_port: int = Field(default=8000, ge=1, le=65535)
    claude_bin: str | None = None
    claude_max_output_tokens: int = Field(default=8192, ge=1)
    hosts: tuple[str, ...] | None = None
    identity: str | None = None
    transport: Literal["openssh", "sshtunnel"] | None = None
    node_connect_timeout_s: float = Field(default=10.0, gt=0)
    node_drain_s: float = Field(default=60.0, ge=0)
    ollama_host: str | None = None
    ollama_bin: str | None = None
    ollama_install: str | None = None
    tunnel_connect: float = Field(default=10.0, gt=0)
    tunnel_echo_every: float = Field(default=1.0, gt=0)
    tunnel_echo_within: float = Field(default=2.5, gt=0)
    tunnel_misses: int = Field(default=2, ge=1)
    tunnel_woke_after: float = Field(default=5.0, gt=0)
    tunnel_woke_within: float = Field(default=2.0, gt=0)
    tunnel_alive_interval: int = Field(default=5, ge=1)
    tunnel_alive_count: int = Field(default=6, ge=1)
    tunnel_backoff_first: float = Field(default=0.25, gt=0)
    tunnel_backoff_wanted: float = Field(default=2.0, gt=0)
    tunnel_backoff_idle: float = Field(default=30.0, gt=0)
    tunnel_settled_after: float = Field(default=60.0, gt=0)
    tunnel_login_every: float = Field(default=1.0, gt=0)
    tunnel_probe_every: float = Field(default=2.0, gt=0)
    tunnel_drain: float = Field(default=600.0, ge=0)
    redis_url: str | None = Field(default=None, repr=False)
    redis_host: str | None = None
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_username: str | None = None
    redis_password: str | None = Field(default=None, repr=False)
    redis_tls: bool | None = None
    cache_enabled: bool = True
    cache_ttl: int = Field(default=86_400, ge=1)
    cache_max_mb: int = Field(default=256, ge=1)
    cache_namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    cache_sampled: bool = True
    cache_timeout_ms: int = Field(default=50, ge=1)
    proxy_first_byte_s: float = Field(default=5.0, gt=0)
    proxy_ping_s: float = Field(default=10.0, gt=0)
    proxy_heartbeat_s: float = Field(default=240.0, gt=0)
    proxy_upstream_silence_s: float = Field(default=30.0, gt=0)
    ready_timeout_s: float = Field(default=900, gt=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    max_price: float | None = Field(default=None, gt=0)
    budget: float | None = Field(default=None, gt=0)
    lease: str = Field(default="4h", pattern=DURATION)
    idle: str = Field(default="30m", pattern=DURATION)
    regions: tuple[str, ...] | None = None
    trust: Literal["any", "verified", "datacenter"] = "verified"
    min_reliability: float | None = Field(default=None, ge=0, le=1)
    disk: float | None = Field(default=None, ge=8)
    image: str | None = None
    alert_command: str | None = None
    vast_api_key: str | None = Field(default=None, repr=False)
    vast_url: str | None = None
    vast_ssh_user: str = "root"
    vast_min_memory_gb: float = Field(default=32.0, ge=0)
    vast_min_down_mbps: float = Field(default=500.0, ge=0)
    vast_static_ip: bool = False
    vast_attempts: int = Field(default=3, ge=1)
    vast_pace: float = Field(default=1.0, ge=0)
    vast_read_timeout_s: float = Field(default=30.0, gt=0)
    vast_write_timeout_s: float = Field(default=60.0, gt=0)
    vast_settle_s: float = Field(default=20.0, ge=0)
    vast_settle_answers: int = Field(default=3, ge=1)
    vast_poll_s: float = Field(default=10.0, gt=0)
    vast_verify_s: float = Field(default=180.0, gt=0)
    vast_stall_s: float = Field(default=300.0, gt=0)
    vast_unpack_stall_s: float = Field(default=600.0, gt=0)
    vast_boot_s: float = Field(default=900.0, gt=0)
    vast_ssh_s: float = Field(default=180.0, gt=0)
    vast_pull_stall_s: float = Field(default=180.0, gt=0)
    vast_offline_s: float = Field(default=120.0, ge=0)
    vast_contact_s: float = Field(default=2_700.0, gt=0)
    vast_guard_every_s: float = Field(default=15.0, gt=0)
    vast_watch_s: float = Field(default=60.0, gt=0)

    @field_validator("hosts", "regions", mode="before")
    @classmethod
    def _listed(cls, several: Any) -> Any:
        """An environment variable has them in one text, parted by commas or blanks."""
        return tuple(several.replace(",", " ").split()) or None if isinstance(several, str) else several

    @field_validator("redis_url")
    @classmethod
    def _usable(cls, url: str | None) -> str | None:
        trouble = addresses.redis_url_trouble(url) if url else ""
        if trouble:
            raise PydanticCustomError("redis_url", "{trouble}", {"trouble": trouble})
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Our own layers instead of the library's, because only they know which name or line a value came from."""
        given = init_settings.init_kwargs.pop("layers", ()) if isinstance(init_settings, InitSettingsSource) else ()
        return (init_settings, *(InitSettingsSource(settings_cls, layer.values) for layer in given))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about names that look like settings and are none."""
        return self._warnings

    def source(self, name: str) -> str:
        """`flag`, `env NAME`, `.env NAME`, `file` or `default`."""
        return next((layer.origins[name] for layer in self._layers if name in layer.values), "default")

    def entries(self) -> list[SettingEntry]:
        """Every setting with its value (secrets masked), its source and its environment names."""
        return [
            SettingEntry(name, file_key(name), self.shown(name), self.source(name), environment_names(name))
            for name in type(self).model_fields
        ]

    def shown(self, name: str) -> Any:
        """The value as it may be shown."""
        value = getattr(self, name)
        if name == "redis_url" and value:
            return addresses.without_password(value)
        return secrets.mask(value) if name in SECRETS else value

    @property
    def ollama_url(self) -> str:
        """`http://host:port` of Ollama. Raises UsageError when OLLAMA_HOST is no address."""
        try:
            return addresses.ollama_url(self.ollama_host)
        except ValueError as error:
            raise UsageError(
                f"ollama.host ({self.source('ollama_host')}) is no address: {error}.",
                hint="Write it as host:port, e.g. OLLAMA_HOST=127.0.0.1:11434.",
                code="config_invalid",
            ) from error

    def redis_config(self) -> RedisConfig | None:
        """Where Redis is, or None.

        The URL wins over the parts, unless a stronger place than the URL's gave a host. `tls` can encrypt a redis:// URL and never
        decrypts a rediss:// one.
        """
        if self.redis_url and self._rank("redis_url") <= self._rank("redis_host"):
            return RedisConfig(url=self.redis_url, tls=self.redis_tls)
        if not self.redis_host:
            return None
        return RedisConfig(
            host=self.redis_host,
            port=self.redis_port,
            username=self.redis_username,
            password=self.redis_password,
            tls=self.redis_tls if self.redis_tls is not None else not addresses.is_loopback(self.redis_host),
        )

    def cache_config(self) -> CacheConfig:
        """The gateway's response cache."""
        return CacheConfig(
            enabled=self.cache_enabled,
            redis=self.redis_config(),
            ttl_s=self.cache_ttl,
            max_bytes=self.cache_max_mb * 1024 * 1024,
            namespace=self.cache_namespace,
            cache_sampled=self.cache_sampled,
            timeout_s=self.cache_timeout_ms / 1000,
        )

    def timing(self) -> Timing:
        """The intervals of the streaming rules."""
        return Timing(
            first_byte=self.proxy_first_byte_s,
            ping=self.proxy_ping_s,
            heartbeat=self.proxy_heartbeat_s,
            upstream_silence=self.proxy_upstream_silence_s,
        )

    def link_timing(self) -> dict[str, float]:
        """The intervals of the links (tunnel.spec.LinkTiming), in seconds."""
        prefix = "tunnel_"
        names = (name for name in type(self).model_fields if name.startswith(prefix))
        return {name.removeprefix(prefix): getattr(self, name) for name in names}

    def _rank(self, name: str) -> int:
        """0 = the strongest layer that gives it; beyond the last = default."""
        return next((rank for rank, layer in enumerate(self._layers) if name in layer.values), len(self._layers))


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    config_file: Path | None = None,
    options: Mapping[str, str] | None = None,
    lenient: bool = False,
) -> Settings:
    """Read every layer and check the values that hold.

    `flags` maps field names to values; None means not given; `options` names those that are not called as their field is. Raises
    UsageError (`config_invalid`) naming the place of a wrong value, unknown key or syntax error, and LlmhostError (`config_unreadable`)
    for a file that cannot be read. `lenient`: what is wrong is ignored with a warning, a flag and the fleet's name aside. Nothing is
    written.
    """
    read = LayerReader(tuple(Settings.model_fields), options or {}, lenient)
    layers = read.layers(flags or {}, environ=environ, cwd=cwd, config_file=config_file)
    settings = _checked(layers, read)
    settings._layers = layers
    settings._warnings = tuple(read.warnings)
    return settings


def _checked(layers: tuple[Layer, ...], read: LayerReader) -> Settings:
    """Lenient, a wrong value gives way to the one below it: so it is tried until all are right."""
    while True:
        sources: dict[str, Any] = {"layers": layers}
        try:
            return Settings(**sources)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
        wrong = {str(detail["loc"][0]): _wrong_value(dict(detail), layers) for detail in details}
        if not read.lenient or any(name in NEEDED or name in layers[0].values for name in wrong):
            raise _wrong_values(wrong, layers)
        for name, words in wrong.items():
            read.warn(f"{words}; it is ignored.")
            next(layer for layer in layers if name in layer.values).drop(name)


def _wrong_values(wrong: Mapping[str, str], layers: tuple[Layer, ...]) -> UsageError:
    flags_only = all(name in layers[0].values for name in wrong)
    return UsageError(
        "; ".join(wrong.values()) + ".",
        hint="Give it another value, or leave the option out."
        if flags_only
        else "Correct it there, or take it out to have the default.",
        code="config_invalid",
    )


def _wrong_value(detail: dict[str, Any], layers: tuple[Layer, ...]) -> str:
    name = str(detail["loc"][0])
    place = next((layer.places[name] for layer in layers if name in layer.values), "default")
    called = place if name in layers[0].values else f"{file_key(name)} from {place}"
    given = "" if name in SECRETS else f" (given: {detail['input']!r})"
    message = str(detail["msg"]).removeprefix("Input ").removeprefix("String ")
    if name in LENGTHS:
        message = "should be a length of time: 90s, 30m, 4h, 2d, 1.5h, or none"
    return f"{called} {message}{given}"
