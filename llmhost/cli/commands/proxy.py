"""`llmhost proxy`: the server in the foreground. The one place of the operator's side that reaches the server's."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Session, Spec
from llmhost.core import secrets
from llmhost.core.addresses import is_loopback
from llmhost.core.errors import Interrupted, LlmhostError, Unavailable, UsageError
from llmhost.core.result import Result
from llmhost.core.server_config import BackendConfig, ServerConfig

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", help="The port to listen on. [default: 8000]")]
Socket = Annotated[str | None, typer.Option("--socket", metavar="PATH", help="Listen on this Unix socket instead.")]
BackendName = Annotated[
    str | None, typer.Option("--backend", help="ollama, or rehearsal (no model). [default: ollama where it answers]")
]
Model = Annotated[str | None, typer.Option("--model", help="The model to serve. [default: the best one there]")]
Context = Annotated[int | None, typer.Option("--context", help="The window to load, in tokens.")]


def run(
    ctx: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = None,
    socket: Socket = None,
    backend: BackendName = None,
    model: Model = None,
    context: Context = None,
) -> Result:
    """Run the Anthropic-compatible server in the foreground, until Ctrl-C.

    It wants the same token as the gateway, which `llmhost env` prints when a fleet is up and which is kept in gateway.token in the state
    directory. With --json it logs JSON lines to standard error.
    """
    if socket is not None and port is not None:
        raise UsageError("--socket and --port exclude each other.", hint="Give one of them.")
    session = session_of(ctx)
    settings = session.settings(api_port=port, backend=backend, model=model, context=context)
    session.paths.create()
    config = server_config(
        settings,
        backend=_choose(session, settings),
        token=secrets.read_or_create(session.paths.gateway_token_file),
        host=host,
        socket=str(Path(socket).absolute()) if socket else None,
        log_json=session.renderer.json,
    )
    if not socket and not is_loopback(host):
        session.renderer.warning(
            f"listening on {host}: whoever reaches it and has the token can use it, without encryption."
        )
    return Result(exit_code=_serve(config))


def server_config(
    settings: Settings, *, backend: BackendConfig, token: str, host: str, socket: str | None, log_json: bool
) -> ServerConfig:
    """What the server is told. Beyond loopback it cannot know under which names it is reached, so any `Host` is accepted."""
    return ServerConfig(
        name="proxy",
        token=token,
        backend=backend,
        cache=settings.cache_config(),
        timing=settings.timing(),
        socket=socket,
        host=host,
        port=None if socket else settings.api_port,
        allowed_hosts=() if socket or is_loopback(host) else ("*",),
        log_json=log_json,
        log_level=settings.log_level,
    )


def _choose(session: Session, settings: Settings) -> BackendConfig:
    from llmhost.providers.base import BackendWish
    from llmhost.providers.local import LocalProvider

    named = settings.model if settings.source("model") == "flag" else None
    backend = settings.backend or ("ollama" if named else None)
    if named and backend == "ollama":
        _refuse_substitute(settings.ollama_url, named)
    wish = BackendWish(backend, settings.model, settings.context)
    choice = LocalProvider(settings.ollama_url, settings.ollama_bin).choose(wish)
    if choice.pending:
        raise Unavailable(
            f"no Ollama answers at {settings.ollama_url}.",
            hint="Start it with: ollama serve   (without a model: llmhost proxy --backend rehearsal)",
            code="ollama_down",
        )
    for note in choice.notes:
        session.renderer.warning(note)
    url = settings.ollama_url if choice.backend == "ollama" else None
    return BackendConfig(choice.backend, url=url, model=choice.model, context=choice.context)


def _refuse_substitute(url: str, model: str) -> None:
    """A model named on the command line is served, or nothing is. Raises Unavailable; an Ollama that does not answer is not judged."""
    from llmhost.providers.ollama_api import OllamaApi, same_model

    api = OllamaApi(url)
    if api.answers() and not any(same_model(one.name, model) for one in api.models()):
        raise Unavailable(f"Ollama at {url} does not have {model}.", hint=f"ollama pull {model}", code="model_missing")


def _serve(config: ServerConfig) -> int:
    from llmhost.proxy import serve

    try:
        code = serve.run(config)
    except OSError as error:
        place = config.socket or f"{config.host}:{config.port}"
        taken = error.errno == errno.EADDRINUSE
        raise LlmhostError(
            f"cannot listen on {place}: {error.strerror or error}.",
            hint="Another program has it; take another with --port." if taken else "Check the address and its rights.",
            code="port_in_use" if taken else "cannot_listen",
        ) from error
    if code == Interrupted.exit_code:
        raise Interrupted("interrupted.", hint="llmhost proxy starts it again")
    return code


SPEC = Spec(
    run,
    (
        "llmhost proxy",
        "llmhost proxy --backend rehearsal --port 8123",
        "llmhost proxy --socket /tmp/llmhost.sock --json",
    ),
)
