"""All pages, and how they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount

from indelible.server.problems import Problem

from . import (
    about,
    assets,
    correlation,
    find,
    groups,
    health,
    log,
    overview,
    projections,
    rendering,
    signin,
    states,
    stream,
    stream_changes,
    streams,
    tokens,
    types,
)
from .page import Page

_PAGES: Sequence[Page] = [
    *overview.pages,
    *streams.pages,
    *stream.pages,
    *stream_changes.pages,
    *states.pages,
    *correlation.pages,
    *log.pages,
    *types.pages,
    *find.pages,
    *groups.pages,
    *projections.pages,
    *health.pages,
    *about.pages,
    *signin.pages,
    *tokens.pages,
]


class Site:
    """The page: its routes, and the answers to requests that the guard refuses."""

    @staticmethod
    def routes() -> list[BaseRoute]:
        """Return the routes for the framework."""
        return [
            *(page.endpoint() for page in _PAGES),
            Mount(f"{assets.PREFIX}{assets.version()}", assets.Assets()),
        ]

    @staticmethod
    def refusal(app: Any, scope: Any, problem: Problem) -> Response | None:
        """Return how a page refuses; None for what is no page of this server, or for programs."""
        request = Request({**scope, "app": app})
        if not is_page(scope["path"]) or "text/html" not in request.headers.get("accept", ""):
            return None
        if problem.status == 401 and scope["method"] in ("GET", "HEAD"):
            here = scope["path"] + (b"?" + scope["query_string"]).decode("latin-1").rstrip("?")
            return RedirectResponse(f"/signin?next={quote(here, safe='')}", 303)
        return rendering.error(request, problem)


def is_page(path: str) -> bool:
    """Return whether a path is one of a page, and not of the API."""
    return not path.startswith(("/api/", "/health/", "/metrics"))
