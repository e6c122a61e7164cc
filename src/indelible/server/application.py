"""The application: its routes, its store, and the layer that guards it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as StarletteRoute

from indelible import AsyncEventStore
from indelible.access import Principal

from . import groups, health, log, openapi, projections, streams
from .leases import Leases
from .problems import Problem, respond
from .security import Guard
from .settings import ServerSettings

_ROUTES = [
    *health.routes,
    *(
        replace(route, path=f"/api/v1{route.path}")
        # Longer paths first: the name of a stream is any text.
        for route in sorted(
            [*log.routes, *streams.routes, *groups.routes, *projections.routes],
            key=lambda route: -len(route.path),
        )
    ),
]
_KINDS = {404: "not-found", 405: "method-not-allowed"}


def create_app(settings: ServerSettings) -> Guard:
    """Create the ASGI application of a server.

    Args:
        settings: its settings. Address, port and TLS are up to the program that runs it.

    Returns:
        The application, for any ASGI server. It opens the store when it starts.

    Example:
        ```python
        app = create_app(ServerSettings(url="postgresql://…"))
        ```
    """
    stopping = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncEventStore.connect(
            settings.url,
            schema=settings.schema,
            pool_size=settings.pool_size,
            timeout=settings.timeout,
        ) as store:
            # Data passes through as it is stored: no class decodes it, and no number loses a digit.
            store._append_settings.codec.keep_as_stored()
            app.state.store = store
            app.state.leases = Leases(store, stopping)
            try:
                yield
            finally:
                stopping.set()
                await app.state.leases.close()

    app = Starlette(
        routes=[
            *(route.endpoint() for route in _ROUTES),
            StarletteRoute("/api/v1/openapi.json", _describe),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refuse},
    )
    app.state.settings = settings
    app.state.stopping = stopping
    app.state.description = openapi.document(_ROUTES)

    async def principal_of(token: str) -> Principal | None:
        found: Principal | None = await app.state.store.principal_of(token)
        return found

    return Guard(app, settings, principal_of, stopping.set)


async def _describe(request: Request) -> Response:
    return JSONResponse(request.app.state.description)


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    kind = _KINDS.get(error.status_code, "bad-request")
    path = request.scope["path"]
    return respond(
        Problem(error.status_code, kind, f"{request.method} {path}: {error.detail.lower()}")
    )
