"""The application: its routes, its store, and the layer that guards it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute

from indelible import AsyncEventStore
from indelible.app.discovery import find_all
from indelible.core.operation import Operation

from . import group_leases, groups, health, log, openapi, projections, reference, sessions, streams
from .credentials import Credentials
from .inline import InlineCheck
from .leases import Leases
from .metrics import RequestCounts
from .problems import Problem, respond
from .security import Guard
from .settings import ServerSettings
from .web import Site
from .web.sampler import Sampler

_ROUTES = [
    *health.routes,
    *(
        replace(route, path=f"/api/v1{route.path}")
        # Longer paths first: the name of a stream is any text.
        for route in sorted(
            [
                *log.routes,
                *sessions.routes,
                *streams.routes,
                *groups.routes,
                *group_leases.routes,
                *projections.routes,
            ],
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

    Raises:
        InvalidInput: the module of the settings cannot be imported, or has no such application.

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
            app.state.inline = InlineCheck(store)
            checks = asyncio.create_task(guard.end_invalid_streams())
            app.state.leases = Leases(store, stopping)
            app.state.sampler = Sampler(store)
            try:
                yield
            finally:
                stopping.set()
                checks.cancel()
                with suppress(asyncio.CancelledError):
                    await checks
                await app.state.sampler.close()
                await app.state.leases.close()

    app = Starlette(
        routes=[
            *(route.endpoint() for route in _ROUTES),
            StarletteRoute("/api/v1/openapi.json", _describe),
            StarletteRoute("/api/v1/docs", _show_reference),
            StarletteRoute("/api/v1/docs.css", _style_reference),
            *Site.routes(),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refuse},
    )
    app.state.settings = settings
    app.state.module = None if settings.app is None else find_all(settings.app)
    app.state.folding = asyncio.Semaphore(1)  # one long fold at a time
    app.state.stopping = stopping
    app.state.requests = RequestCounts()
    app.state.description = openapi.document(_ROUTES)
    # A path with another slash at its end is another path, and not a reason to redirect.
    app.router.redirect_slashes = False

    async def run(operation: Operation[Any]) -> Any:
        return await app.state.store._engine.run(operation)

    app.state.credentials = Credentials(run)
    guard = Guard(app, settings, app.state.credentials, stopping.set, partial(Site.refusal, app))
    return guard


async def _describe(request: Request) -> Response:
    return JSONResponse(request.app.state.description)


async def _show_reference(request: Request) -> Response:
    return HTMLResponse(reference.page(request.app.state.description))


async def _style_reference(request: Request) -> Response:
    return Response(reference.style(), media_type="text/css")


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    kind = _KINDS.get(error.status_code, "bad-request")
    path = request.scope["path"]
    problem = Problem(error.status_code, kind, f"{request.method} {path}: {error.detail.lower()}")
    if error.status_code == 405:
        problem.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return Site.refusal(request.app, request.scope, problem) or respond(problem)


def _methods(request: Request) -> set[str]:
    """Return the methods of all routes of a path."""
    return {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }
