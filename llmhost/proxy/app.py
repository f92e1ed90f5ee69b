"""The FastAPI app: everything that is not the hot path, and the hot path mounted into it as plain ASGI."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from llmhost import __version__
from llmhost.backends.base import HasNodes, ModelInfo
from llmhost.core.server_config import NodeConfig
from llmhost.messages.errors import ApiError, invalid
from llmhost.messages.headers import ESTIMATE_HEADER
from llmhost.messages.request import parse
from llmhost.proxy.guard import Guard
from llmhost.proxy.messages_route import ClientGone, MessagesRoute, read_body, unexpected
from llmhost.proxy.pipeline import Pipeline
from llmhost.proxy.replies import error_reply, json_reply, reply
from llmhost.proxy.status import ServerStatus

log = logging.getLogger(__name__)

SCOPES = ("exact", "semantic", "all")


def build_app(pipeline: Pipeline, status: ServerStatus, token: str, allowed_hosts: tuple[str, ...] = ()) -> ASGIApp:
    """The whole server. Starting and stopping of backend and cache follows the app's lifespan."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if pipeline.cache:
            await pipeline.cache.start()
        await pipeline.backend.start()
        status.start()
        yield
        status.stop()
        await pipeline.backend.aclose()
        if pipeline.cache:
            await pipeline.cache.aclose()

    app = FastAPI(
        title="llmhost", version=__version__, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.router.redirect_slashes = False  # a gateway that redirects counts as broken for Claude Code
    app.router.routes.insert(0, Route("/v1/messages", MessagesRoute(pipeline), methods=["POST"]))
    _add_probes(app, status)
    _add_models(app, pipeline)
    _add_internal(app, pipeline, status)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientGone, _on_gone)
    app.add_exception_handler(TypeError, _on_unexpected)
    app.add_exception_handler(Exception, _on_unexpected)
    return Guard(app, token, allowed_hosts)


def _add_probes(app: FastAPI, status: ServerStatus) -> None:
    @app.api_route("/", methods=["GET", "HEAD"])
    @app.api_route("/api/hello", methods=["GET", "HEAD"])
    async def hello() -> Response:
        return json_reply({"service": "llmhost", "version": __version__})

    @app.get("/health")
    async def health() -> Response:
        body, code = await status.health()
        return json_reply(body, code)

    @app.get("/ready")
    async def ready() -> Response:
        health = status.backend.health()
        if status.ready():
            return json_reply({"ready": True})
        return json_reply({"ready": False, "state": health.state, "detail": health.detail}, 503)


def _add_models(app: FastAPI, pipeline: Pipeline) -> None:
    @app.get("/v1/models")
    async def models() -> Response:
        served = pipeline.backend.models()
        data = [_model(model, id) for model in served for id in _names(model, main=model is served[0])]
        ids = [entry["id"] for entry in data] or [None]
        return json_reply({"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]})

    @app.get("/v1/models/{id:path}")
    async def model(id: str) -> Response:
        if pipeline.backend.model() is None:
            raise ApiError(503, "no model is loaded yet", retry_after=5)
        target = await pipeline.target_of({"model": id})
        assert target.info is not None, "known as soon as the main model is"
        return json_reply(_model(target.info, target.name))

    @app.post("/v1/messages/count_tokens")
    async def count_tokens(request: Request) -> Response:
        pipeline.activity.touch()
        body = parse(await read_body(request.receive, request.scope["llmhost.headers"]))
        target = await pipeline.target_of(body)
        count, exact = await pipeline.backend.count_tokens(body, target.other)
        return json_reply({"input_tokens": count}, headers={} if exact else {ESTIMATE_HEADER: "true"})


def _add_internal(app: FastAPI, pipeline: Pipeline, status: ServerStatus) -> None:
    @app.get("/internal/status")
    async def full_status() -> Response:
        return json_reply(await status.full())

    @app.put("/internal/nodes")
    async def set_nodes(request: Request) -> Response:
        backend = pipeline.backend
        if not isinstance(backend, HasNodes):
            raise ApiError(404, "this server has no nodes behind it: it is one", should_retry=False)
        nodes = _nodes_of(await read_body(request.receive, request.scope["llmhost.headers"]))
        backend.set_nodes(nodes)
        return json_reply({"nodes": len(nodes)})

    @app.post("/internal/active")
    async def active() -> Response:
        pipeline.activity.touch()  # somebody uses the fleet that this node is of
        return json_reply({"active": True})

    @app.post("/internal/cache/clear")
    async def clear(request: Request) -> Response:
        scope = _scope_of(await read_body(request.receive, request.scope["llmhost.headers"]))
        deleted = await pipeline.cache.clear() if pipeline.cache and scope in ("exact", "all") else 0
        return json_reply({"deleted": deleted})

    @app.get("/metrics")
    async def metrics() -> Response:
        return reply(pipeline.metrics.exposition(), 200, "text/plain; version=0.0.4; charset=utf-8")


def _nodes_of(raw: bytes) -> list[NodeConfig]:
    try:
        told = orjson.loads(raw)["nodes"]
        if not isinstance(told, list):
            raise TypeError
        nodes = [NodeConfig.from_dict(node) for node in told]
    except (ValueError, TypeError, KeyError) as error:
        why = f": {error}" if type(error) is ValueError else ""  # other errors may quote what was sent, tokens included
        raise invalid(f'the body must be {{"nodes": [...]}}{why}') from None
    if len({node.id for node in nodes}) < len(nodes):
        raise invalid("nodes: every id may stand once")
    return nodes


def _scope_of(raw: bytes) -> str:
    try:
        scope = orjson.loads(raw).get("scope", "all") if raw else "all"
    except (orjson.JSONDecodeError, AttributeError):
        raise invalid("the body must be a JSON object") from None
    if scope not in SCOPES:
        raise invalid(f"scope: must be one of {', '.join(SCOPES)}")
    return str(scope)


def _names(served: ModelInfo, *, main: bool) -> list[str]:
    # Claude Code's model picker shows only ids that begin with "claude" or "anthropic" (discovery facts §1.1): these mean the main one.
    return [served.id, f"anthropic/{served.id}"] if main else [served.id]


def _model(served: ModelInfo, id: str) -> dict[str, Any]:
    return {
        "id": id,
        "type": "model",
        "display_name": f"{served.id} (llmhost)",
        "created_at": served.created_at,
        "lifecycle": "active",
        "max_input_tokens": served.context,
        "max_tokens": served.max_output,
    }


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_reply(error)


async def _on_gone(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # goes nowhere: the client has left


async def _on_unexpected(_: Request, error: Exception) -> Response:
    return error_reply(unexpected(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    wording = {404: f"no route {request.url.path}", 405: f"{request.method} is not allowed on {request.url.path}"}
    return error_reply(
        ApiError(error.status_code, wording.get(error.status_code, str(error.detail)), should_retry=False)
    )
