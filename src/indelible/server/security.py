"""Who may reach the server: hosts, origins, media types, sizes, tokens; the audit log."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from indelible.access import Principal
from indelible.access.rights import everything

from .problems import MEDIA_TYPE, Problem
from .settings import ServerSettings

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MEDIA_TYPES = frozenset(
    {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/x-ndjson",
    }
)
_OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
"""The paths that need no token: orchestrators ask them."""
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SECONDS_KNOWN = 5.0
"""Seconds for which a token that was accepted is not looked up again."""
_MOST_KNOWN = 1024
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
)
_audit = logging.getLogger("indelible.audit")


class Guard:
    """The outermost layer: it refuses requests, and names the principal of those that it accepts.

    Args:
        app: the application.
        settings: the settings of the server.
        principal_of: looks up a token.
        stop: ends the subscriptions, so that the server can stop.
    """

    def __init__(
        self,
        app: App,
        settings: ServerSettings,
        principal_of: Callable[[str], Awaitable[Principal | None]],
        stop: Callable[[], None],
    ) -> None:
        self.stop = stop
        self._app = app
        self._settings = settings
        self._principal_of = principal_of
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._hosts = _LOCAL_HOSTS | {host.lower() for host in settings.allowed_hosts}
        self._everything = everything("this machine")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        status = 0

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in _HEADERS if header[0] not in own),
                ]
            await send(message)

        principal: Principal | None = None
        try:
            self._check_host(headers)
            self._check_origin(headers)
            if scope["path"] not in _OPEN_PATHS:
                principal = await self._identify(headers)
            receive = self._bounded(scope, headers, receive)
            scope["principal"] = principal
            # Slashes in the names of streams stay escaped, so that they separate no parts.
            scope["path"] = scope.get("raw_path", scope["path"].encode()).decode("ascii")
            await self._app(scope, receive, sending)
        except Problem as problem:
            status = problem.status
            await _refuse(problem, sending)
        if scope["method"] in _WRITES or status in (401, 403):
            _audit.info(
                "%s %s",
                scope["method"],
                scope["path"],
                extra={
                    "principal": principal.name if principal else None,
                    "client": (scope.get("client") or [None])[0],
                    "status": status,
                },
            )

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Refuse names that a page elsewhere may have bound to this machine's address."""
        if self._settings.is_guarded and not self._settings.allowed_hosts:
            return  # such a page has no token
        host = _host_of(headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts and host != self._settings.host.lower():
            raise Problem(
                421,
                "unknown-host",
                f"this server is not known as {host!r}: use its address, or start it with"
                " --allowed-host",
            )

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        """Refuse pages of other sites."""
        origin = headers.get(b"origin")
        if origin is None:
            return
        place = urlsplit(origin.decode("latin-1")).netloc
        if place.lower() != headers.get(b"host", b"").decode("latin-1").lower():
            raise Problem(
                403, "other-origin", "pages of other sites may not use this server from a browser"
            )

    async def _identify(self, headers: dict[bytes, bytes]) -> Principal:
        kind, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not kind:
            if not self._settings.is_guarded:
                return self._everything
            raise _unknown("this server needs a token: send Authorization: Bearer TOKEN")
        if kind.lower() != "bearer":
            raise _unknown("this server takes tokens only: send Authorization: Bearer TOKEN")
        key = hashlib.sha256(text.encode()).digest()
        known = self._known.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        principal = await self._principal_of(text.strip())
        if principal is None:
            raise _unknown("the token is not known, has expired or was revoked")
        self._known[key] = time.monotonic() + _SECONDS_KNOWN, principal
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return principal

    def _bounded(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Refuse a body of another type, or over the limit, while it arrives."""
        if scope["method"] not in _WRITES:
            return receive
        length = headers.get(b"content-length", b"").decode("latin-1")
        has_body = length not in ("", "0") or b"transfer-encoding" in headers
        media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
        # A form of a page elsewhere can send other types, without asking first.
        if has_body and media_type.strip().lower() not in _MEDIA_TYPES:
            raise Problem(
                415,
                "unsupported-media-type",
                f"the body must be JSON (Content-Type: application/json), not {media_type!r}",
            )
        limit = self._settings.max_body_bytes
        if length.isdecimal() and int(length) > limit:
            raise _too_large(limit)
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _too_large(limit)
            return message

        return bounded


def _host_of(header: str) -> str:
    host = header.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _unknown(detail: str) -> Problem:
    problem = Problem(401, "unauthorized", detail)
    problem.headers["WWW-Authenticate"] = "Bearer"
    return problem


def _too_large(limit: int) -> Problem:
    return Problem(
        413, "too-large", f"the body is over the limit of {limit:,} bytes", limit=str(limit)
    )


async def _refuse(problem: Problem, send: Send) -> None:
    body = problem.body()
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **problem.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
