"""Routes: functions with the types of their query, body and answer, which OpenAPI describes."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from indelible import AsyncEventStore, InvalidInput
from indelible.access import Principal

from .problems import Problem, respond
from .settings import ServerSettings

Q = TypeVar("Q")
B = TypeVar("B")

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
_AT = re.compile(r"(?P<fault>.*) - at `\$\.?(?P<field>.*)`", re.DOTALL)
_encode = msgspec.json.Encoder().encode


class NoQuery(msgspec.Struct):
    """The query of a route without parameters."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One request for a route.

    Attributes:
        store: the store.
        settings: the settings of the server.
        principal: who sent it.
        path: the parts of the path that have names.
        query: the parameters.
        body: the body; None for a route without one.
        request: the request itself.
    """

    store: AsyncEventStore
    settings: ServerSettings
    principal: Principal
    path: Mapping[str, str]
    query: Q
    body: B
    request: Request

    def header(self, name: str) -> str | None:
        """Return a header."""
        return self.request.headers.get(name)

    def accepts(self, media_type: str) -> bool:
        """Return whether the client asks for a media type."""
        return media_type in (self.header("accept") or "")


Handler = Callable[[Call[Any, Any]], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Header:
    """A header that a route reads, for the description.

    Attributes:
        name: its name.
        description: what it means.
        pattern: what its value looks like, as a regular expression.
    """

    name: str
    description: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Link:
    """What a client may do next with an answer, for the description.

    Attributes:
        operation: the name of the route.
        parameters: its parameters, as runtime expressions of OpenAPI.
        body: its body, which may contain such expressions.
    """

    operation: str
    parameters: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True)
class Route:
    """A route.

    Attributes:
        method: the HTTP method.
        path: the path, with names in braces.
        handler: answers a call. Its docstring describes the route.
        tag: the group of routes that it belongs to.
        query: the type of its parameters.
        body: the type of its body; None for none.
        bodies: further media types of its body, each with its type.
        answer: the type of its answer; None for no JSON.
        status: the usual status of the answer.
        media_types: further media types of the answer.
        headers: the headers that it reads.
        answer_headers: the headers of its answer, each with a description.
        problems: the statuses of problems that only this route has.
        example: a body, for the description.
        links: what a client may do next with the answer.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    query: type = NoQuery
    body: Any = None
    answer: Any = None
    status: int = 200
    media_types: tuple[str, ...] = ()
    bodies: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[int, ...] = ()
    example: Any = None
    links: tuple[Link, ...] = ()
    keeps_blank: ClassVar[bool] = True
    """Whether a parameter without text is one. A field of a form that is left empty is none."""

    @cached_property
    def _decoders(self) -> dict[str, msgspec.json.Decoder[Any]]:
        kinds = {JSON: self.body, **self.bodies}
        return {media_type: msgspec.json.Decoder(kind) for media_type, kind in kinds.items()}

    def endpoint(self) -> StarletteRoute:
        """Return the route for the framework."""
        made = StarletteRoute(self.path, self._serve, name=self.name)
        made.methods = {self.method}
        if self.method == "GET" and EVENT_STREAM not in self.media_types:
            made.methods.add("HEAD")  # the answer of a subscription has no end
        return made

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.handler.__name__

    async def _serve(self, request: Request) -> Response:
        begun = time.perf_counter()
        response = await self._answered(request)
        # The one place that knows the route, the status and the seconds of each request.
        request.app.state.requests.record(
            self.method, self.path, response.status_code, time.perf_counter() - begun
        )
        return response

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._handled(request)
        except Exception as error:
            return respond(error)

    async def _handled(self, request: Request) -> Response:
        state = request.app.state
        call = Call(
            state.store,
            state.settings,
            request.scope["principal"],
            {name: _unquoted(value) for name, value in request.path_params.items()},
            converted(_parameters(request, keep_blank=self.keeps_blank), self.query),
            None if self.body is None else await self._decoded(request),
            request,
        )
        return await self.handler(call)

    async def _decoded(self, request: Request) -> Any:
        media_type = media_type_of(request.headers.get("content-type", JSON))
        decoder = self._decoders.get(media_type)
        if decoder is None:
            raise Problem(
                415,
                "unsupported-media-type",
                f"the body must be {' or '.join(self._decoders)}, not {media_type or 'of no type'}",
            )
        body = await request.body()
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            raise invalid(str(error)) from error
        except RecursionError as error:
            raise Problem(400, "malformed-json", "the body is nested too deeply") from error
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Problem(400, "malformed-json", f"the body is not valid JSON: {error}") from error


def route(method: str, path: str, tag: str, **options: Any) -> Callable[[Handler], Route]:
    """Make a route of a function; see `Route`."""
    return lambda handler: Route(method, path, handler, tag, **options)


def answer(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = JSON,
) -> Response:
    """Answer with a value as JSON."""
    return Response(_encode(value), status, headers, media_type)


def media_type_of(header: str) -> str:
    """Return the media type of a Content-Type header, without its parameters."""
    return header.partition(";")[0].strip().lower()


def _unquoted(escaped: str) -> str:
    try:
        return unquote(escaped, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput(f"the path contains a name that is not UTF-8: {escaped!r}") from None


@cache
def _fields(kind: type) -> dict[str, msgspec.structs.FieldInfo]:
    return {each.encode_name: each for each in msgspec.structs.fields(kind)}


def converted(pairs: Iterable[tuple[str, str]], kind: type) -> Any:
    """Return the parameters of an address, or the fields of a form, as a struct.

    Raises:
        Problem: one is not known, is given twice, or has another type.
    """
    fields = _fields(kind)
    given: dict[str, Any] = {}
    for name, value in pairs:
        known = fields.get(name)
        if known is None:
            names = ", ".join(fields) or "none"
            raise Problem(422, "invalid-input", f"{name} is no parameter here: {names}", field=name)
        if known.default_factory is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Problem(422, "invalid-input", f"{name} must be given once only", field=name)
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error


def _parameters(request: Request, *, keep_blank: bool) -> list[tuple[str, str]]:
    text = request.scope["query_string"].decode("latin-1")
    try:
        return parse_qsl(text, keep_blank_values=keep_blank, errors="strict")
    except UnicodeDecodeError:
        raise InvalidInput(f"the parameters contain text that is not UTF-8: {text!r}") from None


def invalid(text: str) -> Problem:
    """Return the problem of a parameter or a body that msgspec refused with a text."""
    found = _AT.fullmatch(text)
    if found is None:
        return Problem(422, "invalid-input", text, field="")
    name = found["field"]
    return Problem(422, "invalid-input", f"{name}: {found['fault']}", field=name)
