"""The routes for browsers: sessions, whose text is in a cookie, and tickets for addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.responses import Response

from indelible.access import sessions

from .credentials import COOKIE, SECURE_COOKIE, unknown
from .routing import Call, answer, route


class SessionAnswer(msgspec.Struct):
    """A session. Its text is in the cookie only."""

    expires_at: datetime


class TicketAnswer(msgspec.Struct):
    """A ticket. It works once."""

    ticket: str
    expires_at: datetime


@route("POST", "/session", "access", answer=SessionAnswer, status=201)
async def open_session(call: Call[Any, None]) -> Response:
    """Begin a session: a cookie stands for the token that the request has.

    The cookie works for pages of this server, for 12 hours at most. Scripts cannot read it.
    """
    token_id = call.principal.token_id
    if token_id is None or call.principal.session is not None:
        raise unknown("a session needs a token: send Authorization: Bearer TOKEN")
    created = await call.store._engine.run(sessions.create_session(token_id))
    if created is None:
        raise unknown("the token has expired or was revoked")
    begun = answer(SessionAnswer(created.expires_at), 201)
    begin(call, begun, created)
    return begun


@route("DELETE", "/session", "access", status=204)
async def end_session(call: Call[Any, None]) -> Response:
    """End the session of the cookie, if there is one, and delete the cookie."""
    ended = Response(status_code=204)
    await end(call, ended)
    return ended


@route("POST", "/tickets", "access", answer=TicketAnswer, status=201)
async def create_ticket(call: Call[Any, None]) -> Response:
    """Create a ticket, with which an EventSource of another site subscribes: `?ticket=…`.

    It has the rights of the token, works once, and expires after 30 seconds. A new connection needs
    a new one.
    """
    token_id = call.principal.token_id
    if token_id is None:
        raise unknown("a ticket needs a token: send Authorization: Bearer TOKEN")
    created = await call.store._engine.run(sessions.create_ticket(token_id))
    if created is None:
        raise unknown("the token has expired or was revoked")
    return answer(TicketAnswer(created.text, created.expires_at), 201)


routes = [open_session, end_session, create_ticket]


def begin(call: Call[Any, Any], response: Response, created: sessions.NewSession) -> None:
    """Put the cookie of a new session into an answer."""
    seconds = (created.expires_at - datetime.now(UTC)).total_seconds()
    _set_cookie(call, response, created.text, max(int(seconds), 1))


async def end(call: Call[Any, Any], response: Response) -> None:
    """End the session of a request, if it has one, and delete its cookie in an answer."""
    session = call.principal.session
    if session is not None:
        await call.store._engine.run(sessions.end_session(session))
        call.request.app.state.credentials.forget(session)
    _set_cookie(call, response, "", 0)


def _set_cookie(call: Call[Any, Any], response: Response, text: str, seconds: int) -> None:
    origin = call.header("origin") or ""
    # Behind a proxy, only the origin of the page tells that browsers use https.
    is_secure = call.request.url.scheme == "https" or origin.startswith("https://")
    response.set_cookie(
        SECURE_COOKIE if is_secure else COOKIE,
        text,
        max_age=seconds,
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="lax",  # "strict" would sign out whoever follows a link to a page
    )
