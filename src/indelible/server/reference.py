"""The reference page: the description of the API as HTML. It loads nothing but its own style."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import Any

_CODE = re.compile(r"`([^`]+)`")
_Json = Mapping[str, Any]


def style() -> str:
    """Return the style sheet of the page."""
    return files("indelible.server").joinpath("reference.css").read_text("utf-8")


def page(description: _Json) -> str:
    """Return the page.

    Args:
        description: the API in OpenAPI 3.1, as `openapi.document` writes it.
    """
    info = description["info"]
    title = escape(f"{info['title']} {info['version']}: HTTP API")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<title>{title}</title><link rel="stylesheet" href="docs.css"></head><body>',
            f"<header><h1>{title}</h1>{_paragraphs(info['description'])}",
            '<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1)</p></header>',
            f"<nav>{_contents(description)}</nav><main>",
            *_operations(description),
            '<h2 id="schemas">Schemas</h2>',
            *(_schema(*named) for named in sorted(description["components"]["schemas"].items())),
            "</main></body></html>",
        ]
    )


def _tagged(description: _Json) -> Iterator[tuple[_Json, list[tuple[str, str, _Json]]]]:
    """Return the operations of each tag, each with its path and method."""
    found = [
        (path, method.upper(), operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    for tag in description["tags"]:
        yield tag, [each for each in found if each[2]["tags"] == [tag["name"]]]


def _contents(description: _Json) -> str:
    parts = []
    for tag, operations in _tagged(description):
        links = "".join(
            f'<li><a href="#{operation["operationId"]}">{_method(method)} '
            f"<code>{escape(path)}</code></a></li>"
            for path, method, operation in operations
        )
        parts.append(f"<details><summary>{escape(tag['name'])}</summary><ul>{links}</ul></details>")
    return "".join(parts)


def _operations(description: _Json) -> Iterator[str]:
    for tag, operations in _tagged(description):
        yield f"<h2>{escape(tag['name'])}</h2>{_paragraphs(tag['description'])}"
        for path, method, operation in operations:
            yield f'<section id="{operation["operationId"]}">'
            yield f"<h3>{_method(method)} <code>{escape(path)}</code></h3>"
            yield _paragraphs(f"{operation['summary']}.\n\n{operation.get('description', '')}")
            yield _parameters(operation["parameters"])
            if "requestBody" in operation:
                yield f"<h4>Body</h4>{_content(operation['requestBody']['content'])}"
            yield "<h4>Answers</h4><dl>"
            for status, answer in operation["responses"].items():
                yield _answer(status, answer, description)
            yield "</dl></section>"


def _method(method: str) -> str:
    return f'<b class="{method.lower()}">{method}</b>'


def _parameters(parameters: Iterable[_Json]) -> str:
    rows = "".join(
        f"<dt><code>{escape(each['name'])}</code> <small>{each['in']},"
        f" {_type(each['schema'])}</small></dt><dd>{_text(each.get('description', ''))}</dd>"
        for each in parameters
    )
    return f"<h4>Parameters</h4><dl>{rows}</dl>" if rows else ""


def _content(content: _Json) -> str:
    parts = []
    for media_type, found in content.items():
        schema = found.get("schema", {})
        parts.append(f"<p><code>{escape(media_type)}</code>: {_type(schema)}</p>")
        if "example" in found:
            parts.append(f"<pre>{escape(json.dumps(found['example'], indent=2))}</pre>")
    return "".join(parts)


def _answer(status: str, answer: _Json, description: _Json) -> str:
    if "$ref" in answer:
        answer = description["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        return f"<dt>{status}</dt><dd>{_text(answer['description'])}</dd>"
    headers = "".join(
        f"<p><code>{escape(name)}</code>: {_text(header['description'])}</p>"
        for name, header in answer.get("headers", {}).items()
    )
    content = _content(answer["content"])
    return f"<dt>{status}</dt><dd>{_text(answer['description'])}{content}{headers}</dd>"


def _schema(name: str, schema: _Json) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<dt><code>{escape(member)}</code> <small>{_type(found)}"
        f"{', required' if member in required else ''}</small></dt>"
        f"<dd>{_text(found.get('description', ''))}</dd>"
        for member, found in schema.get("properties", {}).items()
    )
    text = _paragraphs(schema.get("description", ""))
    return f'<section id="schema-{name}"><h3>{name}</h3>{text}<dl>{rows}</dl></section>'


def _type(schema: _Json) -> str:
    """Return the type of a value in a few words."""
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f'<a href="#schema-{name}">{name}</a>'
        case {"anyOf": kinds}:
            return " or ".join(dict.fromkeys(map(_type, kinds)))
        case {"enum": values}:
            return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": {} as values} if values:
            return f"object of {_type(values)}"
        case {"format": kind}:
            return escape(str(kind))
        case {"type": kind}:
            return escape(str(kind))
    return "any JSON"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part)


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
