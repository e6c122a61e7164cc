"""Who sends a request: the principal of its token, its ticket, or the cookie of its session."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from indelible.access import Principal, sessions, tokens
from indelible.core.operation import Operation

from .problems import Problem

Run = Callable[[Operation[Any]], Awaitable[Any]]

COOKIE = "indelible"
SECURE_COOKIE = "__Host-indelible"
"""The cookie where the address is https: browsers let no other host and no plain page set it."""
TICKET_PATHS = frozenset({"/api/v1/events/subscribe"})
"""The paths that take a ticket: those of an EventSource, which sends no headers."""
_SECONDS_KNOWN = 5.0
"""Seconds for which a token or a session that was accepted is not looked up again."""
_MOST_KNOWN = 1024


class Credentials:
    """Finds principals, and remembers them for a moment.

    Args:
        run: runs an operation on the store.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def principal_of(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]
    ) -> Principal | None:
        """Return who sends a request; None if it has neither token, ticket nor cookie.

        Args:
            scope: the request.
            headers: its headers.

        Raises:
            Problem: what it has is not valid.
        """
        if authorization := headers.get(b"authorization"):
            return await self._by_token(authorization.decode("latin-1"))
        if scope["path"] in TICKET_PATHS and (given := _ticket(scope["query_string"])):
            principal: Principal | None = await self._run(sessions.redeem_ticket(given))
            if principal is None:
                raise unknown("the ticket was used before, or has expired: get another")
            return principal
        if text := _cookie(headers.get(b"cookie", b"").decode("latin-1")):
            _check_own_page(scope, headers)
            return await self._known_or_found(text, sessions.principal_of_session, _NO_SESSION)
        return None

    def forget(self, session: str) -> None:
        """Look up a session again, because it has ended."""
        self._known.pop(session, None)

    async def valid(self, token_ids: set[str], session_hashes: set[str]) -> set[str]:
        """Return which of some tokens and sessions are valid."""
        found: set[str] = await self._run(sessions.valid_access(token_ids, session_hashes))
        return found

    async def _by_token(self, authorization: str) -> Principal:
        kind, _, text = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise unknown("this server takes tokens only: send Authorization: Bearer TOKEN")
        return await self._known_or_found(text.strip(), tokens.principal_of, _NO_TOKEN)

    async def _known_or_found(
        self, text: str, find: Callable[[str], Operation[Principal | None]], if_none: str
    ) -> Principal:
        key = hashlib.sha256(text.encode()).hexdigest()  # for a session, the hash that it has
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        principal: Principal | None = await self._run(find(text))
        if principal is None:
            raise unknown(if_none)
        self._known[key] = time.monotonic() + _SECONDS_KNOWN, principal
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return principal


_NO_TOKEN = "the token is not known, has expired or was revoked"  # noqa: S105 - a message
_NO_SESSION = "the session has ended: sign in again"


def unknown(detail: str) -> Problem:
    """Return the problem of a request without a valid token, ticket or session."""
    problem = Problem(401, "unauthorized", detail)
    problem.headers["WWW-Authenticate"] = "Bearer"
    return problem


def own_origins(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the origins of the server's own pages.

    A server behind a proxy does not know whether browsers reach it by https.
    """
    host = headers.get(b"host", b"").lower()
    if not host:
        return ()
    https = b"https://" + host
    return (https,) if scope["scheme"] == "https" else (https, b"http://" + host)


def _ticket(query: bytes) -> str | None:
    return parse_qs(query.decode("latin-1")).get("ticket", [None])[0]


def _cookie(header: str) -> str | None:
    found = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    return found.get(SECURE_COOKIE) or found.get(COOKIE)


def _check_own_page(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
    """Refuse the cookie in a request that a page elsewhere may have made the browser send."""
    origin = headers.get(b"origin")
    if origin is None:
        # Browsers send the origin with each write, and with reads of other sites' pages. A link
        # that someone follows may be anywhere: the browser shows the answer to them alone.
        is_own = scope["method"] in ("GET", "HEAD") and (
            headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")
            or headers.get(b"sec-fetch-dest") == b"document"
        )
    else:
        is_own = origin.lower() in own_origins(scope, headers)
    if not is_own:
        raise Problem(
            403,
            "other-origin",
            "the cookie of a session works for pages of this server only: send a token",
        )
