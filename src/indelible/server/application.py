"""The application: its routes, its store, and the layer that guards it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as StarletteRoute

from indelible import AsyncEventStore
from indelible.core.operation import Operation

from . import health, log, openapi, sessions, streams
from .credentials import Credentials
from .problems import Problem, respond
from .security import Guard
from .settings import ServerSettings

_ROUTES = [
    *health.routes,
    *(
        replace(route, path=f"/api/v1{route.path}")
        # Longer paths first: the name of a stream is any text.
        for route in sorted(
            [*log.routes, *sessions.routes, *streams.routes], key=lambda route: -len(route.path)
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
            checks = asyncio.create_task(guard.end_invalid_streams())
            try:
                yield
            finally:
                stopping.set()
                checks.cancel()
                with suppress(asyncio.CancelledError):
                    await checks

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
    # A path with another slash at its end is another path, and not a reason to redirect.
    app.router.redirect_slashes = False

    async def run(operation: Operation[Any]) -> Any:
        return await app.state.store._engine.run(operation)

    app.state.credentials = Credentials(run)
    guard = Guard(app, settings, app.state.credentials, stopping.set)
    return guard


async def _describe(request: Request) -> Response:
    return JSONResponse(request.app.state.description)


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    kind = _KINDS.get(error.status_code, "bad-request")
    path = request.scope["path"]
    problem = Problem(error.status_code, kind, f"{request.method} {path}: {error.detail.lower()}")
    problem.headers.update(error.headers or {})
    return respond(problem)
