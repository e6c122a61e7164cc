"""Sign in with a token: a session begins, and its cookie stands for the token."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from indelible.access import sessions, tokens
from indelible.server.limits import RateLimit, place_of
from indelible.server.problems import Problem
from indelible.server.routing import Call
from indelible.server.sessions import begin, end

from . import rendering
from .page import page, see

_tries = RateLimit(5, 60.0, "tries to sign in within a minute")


class SignInQuery(msgspec.Struct, kw_only=True):
    """Where to go afterwards."""

    next: str = "/"


class SignInForm(msgspec.Struct, kw_only=True):
    """The token, and where to go afterwards."""

    token: str = ""
    next: str = "/"


@page("GET", "/signin", query=SignInQuery)
async def show_sign_in(call: Call[SignInQuery, None]) -> Response:
    """Ask for a token."""
    return _form(call, local(call.query.next))


@page("POST", "/signin", body=SignInForm)
async def sign_in(call: Call[Any, SignInForm]) -> Response:
    """Begin a session, and go to the page that was asked for."""
    form, client = call.body, call.request.client
    _tries.take(place_of(client.host if client else ""))
    run = call.store._engine.run
    principal = await run(tokens.principal_of(form.token.strip()))
    created = None
    if principal is not None and principal.token_id is not None:
        created = await run(sessions.create_session(principal.token_id))
    if created is None:
        return _form(call, local(form.next), is_wrong=True)
    response = RedirectResponse(local(form.next), 303)
    begin(call, response, created)
    return response


class NoForm(msgspec.Struct):
    """A form without fields."""


@page("POST", "/signout", body=NoForm)
async def sign_out(call: Call[Any, NoForm]) -> Response:
    """End the session."""
    response = see("/signin")
    await end(call, response)
    return response


pages = [show_sign_in, sign_in, sign_out]


def local(address: str) -> str:
    r"""Return an address of this server's own pages; `/` for any other.

    A browser takes `//host` and `/\host` for other servers.
    """
    is_local = address.startswith("/") and not address.startswith(("//", "/\\"))
    is_plain = address.isprintable() and "\\" not in address
    return address if is_local and is_plain and not address.startswith("/signin") else "/"


def _form(call: Call[Any, Any], following: str, *, is_wrong: bool = False) -> Response:
    if not call.settings.is_guarded:
        raise Problem(404, "not-found", "This server asks for no tokens: you are in already.")
    return rendering.render(
        call.request,
        "signin.html",
        title="Sign in",
        status=422 if is_wrong else 200,
        following=following,
        is_wrong=is_wrong,
    )
