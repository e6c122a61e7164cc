"""The description of the API in OpenAPI 3.1, made from the routes and their types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from indelible import __version__

from .cloudevents import BATCH, CloudEvent
from .problems import MEDIA_TYPE
from .routing import EVENT_STREAM, JSON, NDJSON, Link, Route

_NAMES = re.compile(r"{(\w+)}")
_DESCRIPTION = """An event store: append events to streams, read streams and the log, subscribe.

Positions and versions are integers, written as text: a client that reads numbers as floating point
would round them. The name of a stream in a path is percent-encoded. Problems are
`application/problem+json` (RFC 9457); `type` says which one it is, and `detail` what to do."""
_TAGS = {
    "streams": "Append to streams, read them, and manage their life cycle.",
    "log": "Read the log of all streams, subscribe to it, and look at the whole store.",
    "groups": "Consumer groups: durable subscriptions that several workers share.",
    "projections": "Read models: their state, rebuilds and documents.",
    "health": "For orchestrators and monitoring.",
}
_REFUSALS = {
    400: "The body is not valid JSON.",
    401: "The token is missing, or not valid (any more).",
    403: "The token lacks a right, or a page of another site sent the request.",
    404: "It does not exist, or the token may not see it.",
    409: "The request conflicts with what is stored. Members of the problem say with what.",
    410: "The log was restored from a copy that lacks events which the client has seen.",
    412: "The stream is not at the version that `If-Match` or `If-None-Match` names.",
    413: "The body, or an event, is too large.",
    415: "The media type of the body is not one of those above.",
    421: "The server is not known under the name in `Host`.",
    422: "A value is not valid. If `field` is there, it names the value.",
    429: "Too many requests.",
    500: "The request failed for a reason that the server's log has.",
    503: "The database cannot be used now: send the request again after `Retry-After` seconds.",
}
_HEADERS_OF_REFUSALS = {
    401: {"WWW-Authenticate": "How to name the token: `Bearer`."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
_ALWAYS = {421, 422, 429, 500, 503}
_WITH_A_TOKEN = {401, 403}
_WITH_A_BODY = {400, 409, 413, 415}
_LINK = 'The address of the next page, relative to this one: `<?after=…>; rel="next"`.'

_MEDIA_TYPES: dict[str, dict[str, Any]] = {
    NDJSON: {"type": "string", "description": "One JSON object per line, as in the JSON answer."},
    EVENT_STREAM: {
        "type": "string",
        "description": "Server-sent events. Messages without a name are events: `data` is JSON, and"
        " `id` a checkpoint for `Last-Event-ID`. `caught_up` tells that all stored events were"
        " sent. `failed` has a problem as its data, and ends the answer.",
    },
    BATCH: {"type": "array", "items": {"$ref": "#/components/schemas/CloudEvent"}},
    "text/plain": {"type": "string"},
}
_PATH_PARAMETERS = {"stream": ("The name of the stream, percent-encoded.", "order-17")}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Describe routes.

    Args:
        routes: the routes, with their whole paths.

    Returns:
        The document, as plain JSON data.
    """
    routes = list(routes)
    kinds = list(
        dict.fromkeys(
            kind
            for route in routes
            for kind in (route.body, *route.bodies.values(), route.answer, CloudEvent)
            if kind is not None
        )
    )
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Indelible",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": _TAGS.get(tag, "")} for tag in _tags(routes)],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "responses": {f"Problem{status}": _refusal(status) for status in _REFUSALS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _tags(routes: list[Route]) -> list[str]:
    used = dict.fromkeys(route.tag for route in routes)
    return [*(tag for tag in _TAGS if tag in used), *(tag for tag in used if tag not in _TAGS)]


_PROBLEM = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457). Some problems have further members.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "examples": ["urn:indelible:invalid-input"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The part of the request that is not valid."},
    },
}


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    text = inspect.getdoc(route.handler) or ""
    summary, _, description = text.partition("\n\n")
    done = {route.status, 200} if route.status == 201 else {route.status}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": summary.replace("\n", " ").rstrip("."),
        "tags": [route.tag],
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route),
            *_header_parameters(route),
        ],
        "responses": {
            **{str(status): _answer(route, status, schema_of) for status in sorted(done)},
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in sorted(_refusals_of(route))
            },
        },
    }
    if description:
        operation["description"] = re.sub(r"(?<!\n)\n(?!\n)", " ", description)
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _bodies(route, schema_of)}
    if _is_open(route):
        operation["security"] = []
    return operation


def _is_open(route: Route) -> bool:
    return route.path.startswith("/health/")


def _refusals_of(route: Route) -> set[int]:
    found = _ALWAYS | set(route.problems)
    if not _is_open(route):
        found |= _WITH_A_TOKEN
    if "{" in route.path:
        found.add(404)
    if route.body is not None:
        found |= _WITH_A_BODY
    return found


def _refusal(status: int) -> dict[str, Any]:
    headers = _HEADERS_OF_REFUSALS.get(status)
    return {
        "description": _REFUSALS[status],
        **({"headers": _headers(headers)} if headers else {}),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _headers(descriptions: Any) -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in descriptions.items()
    }


def _bodies(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": schema_of[route.body]}}
    if route.example is not None:
        content[JSON]["example"] = route.example
    for media_type, kind in route.bodies.items():
        content[media_type] = {"schema": schema_of[kind]}
    return content


def _answer(route: Route, status: int, schema_of: dict[Any, Any]) -> dict[str, Any]:
    content = {kind: {"schema": _MEDIA_TYPES[kind]} for kind in route.media_types}
    if route.answer is not None:
        content = {JSON: {"schema": schema_of[route.answer]}, **content}
    headers = dict(route.answer_headers)
    if NDJSON in route.media_types:
        headers["Link"] = _LINK
    found: dict[str, Any] = {
        "description": "Done." if status == route.status else "It was done before.",
        "content": content,
    }
    if headers:
        found["headers"] = _headers(headers)
    if route.links and status == route.status:
        found["links"] = {
            f"{route.name}_then_{link.operation}": _link(link) for link in route.links
        }
    return found


def _link(link: Link) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": link.operation, "parameters": dict(link.parameters)}
    if link.body is not None:
        found["requestBody"] = link.body
    return found


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    for name in _NAMES.findall(route.path):
        parameter: dict[str, Any] = {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
        if name in _PATH_PARAMETERS:
            parameter["description"], parameter["example"] = _PATH_PARAMETERS[name]
        found.append(parameter)
    return found


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([route.query])
    schema = components[route.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": (kept := _without_null(found)),
            **({"description": kept["description"]} if "description" in kept else {}),
        }
        for name, found in schema["properties"].items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.description,
            "schema": {"type": "string", "pattern": header.pattern},
        }
        for header in route.headers
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: one that may be missing cannot be null."""
    kinds: list[dict[str, Any]] = [
        kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}
    ]
    return kinds[0] if len(kinds) == 1 else schema
