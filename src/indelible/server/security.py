"""Who may reach the server: hosts, origins, media types, rates, principals; the audit log."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from indelible.access import Principal
from indelible.access.rights import everything

from .credentials import Credentials, own_origins, unknown
from .limits import Body, EventStreams, RateLimit, place_of, too_large
from .problems import MEDIA_TYPE, Problem, problem_of
from .settings import ServerSettings
from .web.site import is_page

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:\[\]@/]+))(?::[0-9]*)?")
_MEDIA_TYPES = frozenset(
    {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/x-ndjson",
    }
)
_FORM = "application/x-www-form-urlencoded"
_OPEN_PATHS = frozenset({"/health/live", "/health/ready", "/signin"})
"""The paths that need no token: orchestrators ask them, and people who have not signed in."""
_OPEN_FOLDER = "/static/"
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REFUSALS = frozenset({401, 403, 421, 429})
_ONCE = frozenset(
    {b"authorization", b"content-length", b"content-type", b"cookie", b"host", b"origin"}
)
"""Headers that must not be repeated: others might act on another one than this server."""
_RECHECK = 5.0
"""Seconds after which the rights of open event streams are looked up again."""
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
)
_END = {"type": "http.response.body", "body": b""}
_audit = logging.getLogger("indelible.audit")
_log = logging.getLogger("indelible.server")


class Guard:
    """The outermost layer: it refuses requests, and names the principal of those that it accepts.

    Args:
        app: the application.
        settings: the settings of the server.
        credentials: finds principals.
        stop: ends the subscriptions, so that the server can stop.
        refusal: answers people whose request for a page is refused; see `Site.refusal`.
    """

    def __init__(
        self,
        app: App,
        settings: ServerSettings,
        credentials: Credentials,
        stop: Callable[[], None],
        refusal: Callable[[Scope, Problem], Response | None],
    ) -> None:
        self.stop = stop
        self._refusal = refusal
        self._app = app
        self._settings = settings
        self._credentials = credentials
        self._streams = EventStreams(settings.max_streams)
        self._rate = RateLimit(settings.requests_per_second)
        names = (settings.host, *settings.allowed_hosts)
        self._hosts = _LOCAL_HOSTS | {name.lower().strip("[]") for name in names}
        self._origins = {origin.encode() for origin in settings.allowed_origins}
        self._everything = everything("this machine")
        self._is_guarded = settings.is_guarded
        self._http: App = self._serve
        if settings.allowed_origins:
            self._http = CORSMiddleware(
                self._serve,
                allow_origins=settings.allowed_origins,
                allow_methods=sorted(_WRITES | {"GET", "HEAD"}),
                allow_headers=["Authorization", "If-Match", "If-None-Match", "Last-Event-ID"],
                expose_headers=["ETag", "Link", "Retry-After"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        await (self._http if scope["type"] == "http" else self._app)(scope, receive, send)

    async def end_invalid_streams(self) -> None:
        """End event streams whose tokens were revoked or have expired, again and again."""
        while True:
            await asyncio.sleep(_RECHECK)
            try:
                await self._streams.end_invalid(self._credentials.valid)
            except Exception as error:
                _log.warning("the rights of open event streams could not be looked up: %s", error)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Slashes in the names of streams stay escaped, so that they separate no parts.
        scope["path"] = scope.get("raw_path", scope["path"].encode()).decode("ascii")
        answer = _Answer(send, is_head=scope["method"] == "HEAD")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server runs each request in a task
        principal: Principal | None = None
        try:
            headers = _headers(scope)
            self._check_host(headers)
            self._check_origin(scope, headers)
            principal = await self._identify(scope, headers)
            answer.body = body = self._body(scope, headers, receive)
            scope["principal"] = principal

            async def sending(message: Any) -> None:
                if principal is not None and _begins_events(message):
                    self._streams.enter(task, principal)
                await answer.send(message)

            await self._app(scope, body.receive, sending)
        except Exception as error:
            if answer.status:
                raise
            problem = problem_of(error)
            page = self._refusal(scope, problem)
            if page is None:
                await _refuse(problem, answer)
            else:
                await page(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not self._streams.leave(task):
                raise
            task.uncancel()
            await answer.send(_END)
        finally:
            self._streams.leave(task)
            if scope["method"] in _WRITES or answer.status in _REFUSALS:
                _audit.info(
                    "%s %s",
                    scope["method"],
                    scope["path"],
                    extra={
                        "principal": principal.name if principal else None,
                        "client": _client(scope) or None,
                        "status": answer.status,
                        **({"form": scope["form"]} if scope.get("form") else {}),
                    },
                )

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Refuse names that a page elsewhere may have bound to this machine's address."""
        if self._is_guarded and not self._settings.allowed_hosts:
            return  # such a page has no token
        given = headers.get(b"host", b"").decode("latin-1")
        found = _HOST.fullmatch(given.lower())
        if found is None or (found[1] or found[2]) not in self._hosts:
            raise Problem(
                421,
                "unknown-host",
                f"this server is not known as {given!r}: use its address, or start it with"
                " --allowed-host",
            )

    def _check_origin(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Refuse pages of other sites."""
        origin = headers.get(b"origin")
        if is_page(scope["path"]):
            if scope["method"] not in _WRITES:
                return  # a link may lead here from anywhere
        elif origin is None or origin in self._origins:
            return
        if origin is None:
            raise Problem(403, "no-origin", "a form needs a browser that sends its origin")
        if origin.lower() not in own_origins(scope, headers):
            raise Problem(
                403,
                "other-origin",
                "pages of other sites may not use this server from a browser: start it with"
                " --allowed-origin",
            )

    async def _identify(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal | None:
        """Return who sends the request; None for a path that needs nobody.

        The address of a client pays for requests without a valid token, so that nobody guesses at
        any rate. Those with one are counted apart: many clients may share an address.
        """
        place = place_of(_client(scope)) if self._settings.requests_per_second else ""
        if scope["path"] in _OPEN_PATHS or scope["path"].startswith(_OPEN_FOLDER):
            self._rate.take(place)
            return None
        try:
            principal = await self._credentials.principal_of(scope, headers)
            if principal is None and self._is_guarded:
                raise unknown("this server needs a token: send Authorization: Bearer TOKEN")
        except Problem:
            self._rate.take(place)
            raise
        self._rate.take(place if principal is None else principal.name)
        return principal or self._everything

    def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Body:
        """Refuse a body of another type, or over the limit."""
        length = headers.get(b"content-length", b"").decode("latin-1")
        has_body = scope["method"] in _WRITES and (
            length not in ("", "0") or b"transfer-encoding" in headers
        )
        limit = self._settings.max_body_bytes
        if has_body:
            media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
            # A form of a page elsewhere can send other types, without asking first. Pages look at
            # the origin, and at a field of the form.
            taken = {_FORM} if is_page(scope["path"]) else _MEDIA_TYPES
            if media_type.strip().lower() not in taken:
                raise Problem(
                    415,
                    "unsupported-media-type",
                    f"the body must be {' or '.join(sorted(taken))}, not {media_type!r}",
                )
            if length.isdecimal() and int(length) > limit:
                raise too_large(limit)
        return Body(receive, has_body, limit, self._settings.body_timeout)


class _Answer:
    """The answer to a request: it gets the headers that all have.

    Attributes:
        status: its status; 0 before it begins.
        body: the body of the request; None if it will not be read.
    """

    def __init__(self, send: Send, *, is_head: bool) -> None:
        self._send = send
        self._is_head = is_head
        self.status = 0
        self.body: Body | None = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(header for header in _HEADERS if header[0] not in own),
            ]
            if self.body is None or not self.body.is_complete:
                message["headers"].append((b"connection", b"close"))
            await self._send(message)
            if self._is_head:  # what would have no end ends here, too
                await self._send(_END)
        elif not self._is_head:
            await self._send(message)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in headers and name in _ONCE:
            raise Problem(400, "bad-request", f"header {name.decode()} must be given once only")
        headers[name] = value
    return headers


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _begins_events(message: Any) -> bool:
    return message["type"] == "http.response.start" and any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message["headers"]
    )


async def _refuse(problem: Problem, answer: _Answer) -> None:
    body = problem.body()
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
    await answer.send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await answer.send({"type": "http.response.body", "body": body})
