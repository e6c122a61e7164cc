"""Pages: routes that answer with HTML, and that people can send to each other as links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from indelible.server.problems import Problem, problem_of
from indelible.server.routing import Handler, Route, converted

from . import rendering
from .addresses import address
from .forms import is_own_form

_AUDITED = ("name", "id", "version", "position", "positions", "partition", "to", "reason")
"""The fields of forms that the audit log tells. A token is none of them."""
SECONDS = 2.0
"""Seconds that a page may read. Then its statement is cancelled, and the reader asks for less."""


@dataclass(frozen=True)
class Page(Route):
    """A route that answers with HTML: a whole page, or the part of it that a script asked for.

    Attributes:
        seconds: how long it may read.
    """

    seconds: float = SECONDS
    keeps_blank: ClassVar[bool] = False

    async def _answered(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(None if self.media_types else self.seconds):
                return await self._handled(request)
        except TimeoutError:
            return rendering.error(
                request,
                Problem(
                    503,
                    "too-slow",
                    f"This was stopped after {self.seconds:.0f} seconds. Choose less: a narrower"
                    " filter, or a shorter stretch of the log. If every page stops, look at Health:"
                    " the database may be away.",
                ),
            )
        except Exception as error:
            return rendering.error(request, problem_of(error))

    async def _decoded(self, request: Request) -> Any:
        form = await request.body()
        try:
            fields = parse_qsl(form.decode(), errors="strict")  # those left empty are none
        except UnicodeDecodeError:
            raise Problem(
                400, "malformed-form", "the form contains text that is not UTF-8"
            ) from None
        bound = "".join(value for name, value in fields if name == "csrf")
        if not is_own_form(request.scope["principal"], bound):
            raise Problem(
                403,
                "old-form",
                "This form was made for another session. Go back, reload the page, and send it"
                " again.",
            )
        request.scope["form"] = {name: value[:1_000] for name, value in fields if name in _AUDITED}
        return converted([field for field in fields if field[0] != "csrf"], self.body)


def page(method: str, path: str, **options: Any) -> Callable[[Handler], Page]:
    """Make a page of a function; see `Page`."""
    return lambda handler: Page(method, path, handler, "page", **options)


def see(path: str, **parameters: Any) -> Response:
    """Answer an action: the browser shows another page."""
    return RedirectResponse(address(path, **parameters), 303)


def not_here(what: str) -> Problem:
    """Return the problem of what does not exist, or that the reader may not see."""
    return Problem(404, "not-found", what)
