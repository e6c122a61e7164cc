"""The description of the API in OpenAPI 3.1, made from the routes and their types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from indelible import __version__

from .problems import MEDIA_TYPE
from .routing import JSON, Route

_NAMES = re.compile(r"{(\w+)}")
_PROBLEMS = ("400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "503")


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
            kind for route in routes for kind in (route.body, route.answer) if kind is not None
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
            "description": "An event store. Positions and versions are integers, written as text.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


_PROBLEM = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457). Some problems have further members.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    text = inspect.getdoc(route.handler) or ""
    summary, _, description = text.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": summary.rstrip("."),
        "tags": [route.tag],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {
            str(route.status): _answer(route, schema_of),
            **({"200": _answer(route, schema_of)} if route.status == 201 else {}),
            **dict.fromkeys(_PROBLEMS, _PROBLEM_ANSWER),
        },
    }
    if description:
        operation["description"] = description.replace("\n", " ")
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": schema_of[route.body]}},
        }
    return operation


_PROBLEM_ANSWER = {
    "description": "The request was refused.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def _answer(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {} for kind in route.media_types}
    if route.answer is not None:
        content = {JSON: {"schema": schema_of[route.answer]}, **content}
    return {"description": "Done.", "content": content}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
        for name in _NAMES.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([route.query])
    schema = components[route.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": found,
            **({"description": text} if (text := _description(found)) else {}),
        }
        for name, found in schema["properties"].items()
    ]


def _description(schema: dict[str, Any]) -> str:
    if "description" in schema:
        return str(schema["description"])
    return next(filter(None, map(_description, schema.get("anyOf", []))), "")
