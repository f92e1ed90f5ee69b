"""`llmhost config init`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmhost.cli.config_file import checked, render, write
from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Session, Spec
from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.result import Result

Provider = Annotated[str | None, typer.Option("--provider", help="Where nodes run: local, or vast (a later release).")]
Model = Annotated[str | None, typer.Option("--model", help="The model to serve, e.g. qwen3-coder:30b.")]
Context = Annotated[int | None, typer.Option("--context", help="The window to load, in tokens.")]
BackendName = Annotated[str | None, typer.Option("--backend", help="ollama or rehearsal.")]
GatewayPort = Annotated[int | None, typer.Option("--gateway-port", help="The gateway's port.")]
OllamaHost = Annotated[str | None, typer.Option("--ollama-host", help="Where Ollama is, host:port.")]
ClaudeBin = Annotated[str | None, typer.Option("--claude-bin", help="The claude program to run.")]
RedisUrl = Annotated[
    str | None, typer.Option("--redis-url", help="Keep cached answers in this Redis; - reads it from standard input.")
]
SkipRedis = Annotated[bool, typer.Option("--skip-redis", help="Keep cached answers in memory only.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file; it is kept beside the new one.")]

QUESTIONS = (
    ("provider", "Where do nodes run: local (this machine), or vast (rented; a later release)?", "local"),
    ("model", "Which model (empty: the best one that is there)?", ""),
    ("ollama_host", "Where is Ollama?", "127.0.0.1:11434"),
    ("gateway_port", "Which port for the gateway (empty: 8001, or the next free one)?", ""),
)
REDIS_QUESTION = "Redis URL for cached answers, e.g. rediss://user:password@host:6379 (empty: memory only; not echoed)?"


def run(
    ctx: typer.Context,
    provider: Provider = None,
    model: Model = None,
    context: Context = None,
    backend: BackendName = None,
    gateway_port: GatewayPort = None,
    ollama_host: OllamaHost = None,
    claude_bin: ClaudeBin = None,
    redis_url: RedisUrl = None,
    skip_redis: SkipRedis = False,
    force: Force = False,
) -> Result:
    """Write the configuration file.

    Asks on a terminal for what no option gives; with --yes, or without a terminal, only options count.
    """
    session = session_of(ctx)
    if skip_redis and redis_url:
        raise UsageError("--skip-redis and --redis-url exclude each other.", hint="Give one of them.")
    _refuse_existing(session.paths.config_file, force)
    values = {
        "provider": provider,
        "model": model,
        "context": context,
        "backend": backend,
        "gateway_port": gateway_port,
        "ollama_host": ollama_host,
        "claude_bin": claude_bin,
        "redis_url": _read_url() if redis_url == "-" else redis_url,
    }
    if _may_ask(session):
        _ask(session, values, skip_redis)
    return _write(session.paths.config_file, {k: v for k, v in values.items() if v not in (None, "")}, force)


def _read_url() -> str:
    url = sys.stdin.readline().strip()
    if not url:
        raise UsageError(
            "--redis-url - found no URL on standard input.",
            hint="echo rediss://USER:PASSWORD@HOST:6379 | llmhost config init --redis-url -",
        )
    return url


def _may_ask(session: Session) -> bool:
    invocation = session.invocation
    return not (invocation.yes or invocation.json) and sys.stdin.isatty() and sys.stderr.isatty()


def _ask(session: Session, values: dict[str, Any], skip_redis: bool) -> None:
    for name, question, default in QUESTIONS:
        if values[name] is None:
            values[name] = session.renderer.ask(question, default)
    if values["redis_url"] is None and not skip_redis:
        values["redis_url"] = session.renderer.ask(REDIS_QUESTION, hidden=True)


def _write(path: Path, values: dict[str, Any], force: bool) -> Result:
    values, warnings = checked(values)
    kept = write(path, render(values), force=force)
    return Result(
        data={"path": str(path), "written": sorted(values), "kept": str(kept) if kept else None}, warnings=warnings
    )


def _refuse_existing(path: Path, force: bool) -> None:
    if (path.exists() or path.is_symlink()) and not force:
        raise LlmhostError(
            f"{path} exists already and is left as it is.",
            hint="Edit it, or replace it with: llmhost config init --force (the old one is kept beside it)",
            code="config_exists",
        )


def view(data: dict[str, Any]) -> Iterable[str]:
    yield f"wrote {data['path']}"
    if data["kept"]:
        yield f"the old one is {data['kept']}"


SPEC = Spec(
    run,
    (
        "llmhost config init",
        "llmhost config init --yes --provider local --skip-redis",
        "echo rediss://default:PASSWORD@redis.example:6379 | llmhost config init --redis-url -",
    ),
    view,
)
