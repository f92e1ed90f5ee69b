"""The places settings are read from, strongest first: flags, environment, `.env`, `config.toml`.

A setting's flat name `gateway_port` is `port` in section `[gateway]` of the file and `LLMHOST_GATEWAY_PORT` in the
environment; some also go by the names users already have (`REDIS_URL`, `OLLAMA_HOST`, …).
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.paths import Paths

PREFIX = "LLMHOST_"
SECTIONS = ("gateway", "api", "claude", "node", "ollama", "tunnel", "redis", "cache", "proxy", "ready", "log", "vast")
# Names of the contract that users already have.
FOREIGN_NAMES = {
    "model": "MODEL_NAME",
    "api_port": "API_PORT",
    "ollama_host": "OLLAMA_HOST",
    "redis_url": "REDIS_URL",
    "redis_host": "REDIS_HOST",
    "redis_port": "REDIS_PORT",
    "redis_username": "REDIS_USERNAME",
    "redis_password": "REDIS_PASSWORD",
    "redis_tls": "REDIS_TLS",
    "cache_ttl": "CACHE_TTL",
    "cache_max_mb": "CACHE_MAX_MB",
    "vast_api_key": "VAST_API_KEY",
    "vast_url": "VAST_URL",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """Values by flat name, and where each was found.

    `origins` says it shortly (`env REDIS_URL`), `places` so that a user finds it (`/…/config.toml line 3`).
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, origin: str, place: str) -> None:
        self.values[name], self.origins[name], self.places[name] = value, origin, place

    def drop(self, name: str) -> None:
        del self.values[name], self.origins[name], self.places[name]


def environment_names(name: str) -> tuple[str, ...]:
    """The environment variables of a setting, the strongest first."""
    own = PREFIX + name.upper()
    return (own, FOREIGN_NAMES[name]) if name in FOREIGN_NAMES else (own,)


def file_key(name: str) -> str:
    """The setting's place in the file: `gateway.port` for `gateway_port`, `model` for `model`."""
    section, _, key = name.partition("_")
    return f"{section}.{key}" if section in SECTIONS and key else name


@dataclass(slots=True)
class LayerReader:
    """Reads the layers for the settings `names`.

    `options` names the flags that are not called as their setting is. `lenient`: what cannot be read is ignored, with a warning.
    """

    names: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    lenient: bool = False
    warnings: list[str] = field(default_factory=list)

    def layers(
        self,
        flags: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        config_file: Path | None = None,
    ) -> tuple[Layer, ...]:
        """All layers, strongest first; warns about own-looking names that are no settings. Raises as `load_settings` does."""
        env = os.environ if environ is None else environ
        dotenv = (cwd or Path()) / ".env"
        extra = self._dotenv(dotenv)
        for variables, where in ((env, "the environment"), (extra, str(dotenv))):
            self.warnings += _strangers(variables, self.names, where)
        return (
            self._flags(flags),
            _environment_layer(env, self.names, "env", "the environment variable"),
            _environment_layer(extra, self.names, ".env", f"{dotenv}, variable"),
            self._file(config_file or Paths.from_environment(dict(env)).config_file),
        )

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def _flags(self, flags: Mapping[str, Any]) -> Layer:
        layer = Layer()
        for name, value in flags.items():
            if name not in self.names:
                raise KeyError(name)  # a programming error, not the user's
            if value is not None:
                layer.put(name, value, "flag", self.options.get(name, f"--{name.replace('_', '-')}"))
        return layer

    def _dotenv(self, path: Path) -> dict[str, str]:
        try:
            return _read_dotenv(path)
        except LlmhostError as error:
            self._complain(error)
            return {}

    def _file(self, path: Path) -> Layer:
        layer = Layer()
        try:
            text = _read_text(path)
            values = _parse(path, text) if text is not None else {}
        except LlmhostError as error:
            self._complain(error)
            return layer
        for key, value in _flatten(values):
            try:
                _put(layer, self.names, path, text or "", key, value)
            except UsageError as error:
                self._complain(error)
        return layer

    def _complain(self, error: LlmhostError) -> None:
        if not self.lenient:
            raise error
        self.warn(f"{error.message.rstrip('.')}; it is ignored.")


def _environment_layer(variables: Mapping[str, str], names: tuple[str, ...], origin: str, place: str) -> Layer:
    layer = Layer()
    for name in names:
        variable = next((v for v in environment_names(name) if _is_given(v, variables.get(v))), None)
        if variable:
            layer.put(name, variables[variable], f"{origin} {variable}", f"{place} {variable}")
    return layer


def _is_given(variable: str, value: str | None) -> bool:
    """An empty one counts as unset, and so does what Kubernetes puts into every container beside a service called `redis`."""
    return bool(value) and not (variable == "REDIS_PORT" and str(value).startswith("tcp://"))


def _strangers(variables: Mapping[str, str], names: tuple[str, ...], where: str) -> Iterator[str]:
    known = {PREFIX + name.upper() for name in names}
    for variable in sorted(v for v in variables if v.startswith(PREFIX) and v not in known):
        near = difflib.get_close_matches(variable, known, n=1, cutoff=0.8)
        if near:  # without a near name it is most likely somebody else's
            yield f"{variable} in {where} is not a setting; did you mean {near[0]}?"


def _read_dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return {key: value for key, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _put(layer: Layer, names: tuple[str, ...], path: Path, text: str, key: str, value: Any) -> None:
    name, line = key.replace(".", "_"), line_of(text, key)
    place = f"{path} line {line}" if line else str(path)
    if name not in names:
        raise _unknown_key(key, place, names)
    if name in layer.values:
        raise UsageError(f"{file_key(name)} is given twice in {path}.", hint="Keep one of them.", code="config_invalid")
    layer.put(name, value, "file", place)


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{path} is not valid TOML: {error}.",
            hint='Correct that line; strings need quotes, e.g. model = "qwen3-coder:30b".',
            code="config_invalid",
        ) from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and not prefix:
            yield from _flatten(value, f"{key}.")
        else:
            yield prefix + key, value


def line_of(text: str, key: str) -> int | None:
    """The 1-based line that gives `section.key` (or `key`) in a TOML text; None if written in a way not looked for."""
    section, _, last = key.rpartition(".")
    current = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            current = header[1].strip("\"'")
        elif re.match(rf"\s*[\"']?{re.escape(last if current == section else key)}[\"']?\s*=", line):
            return number
    return None


def _unknown_key(key: str, place: str, names: Iterable[str]) -> UsageError:
    known = [file_key(name) for name in names]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else f"Sections are: {', '.join(SECTIONS)}."
    return UsageError(f"unknown setting {key} in {place}.", hint=hint, code="config_invalid")


def _unreadable(path: Path, error: Exception) -> LlmhostError:
    reason = (
        "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
    )
    return LlmhostError(
        f"cannot read {path}: {reason}.",
        hint="Make it a readable text file, or move it away.",
        code="config_unreadable",
    )
