"""The description of the API, and the reference page made from it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from .conftest import Serve


@pytest.fixture
def description(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def operations(description: Any) -> dict[str, Any]:
    return {
        operation["operationId"]: operation
        for methods in description["paths"].values()
        for operation in methods.values()
    }


def test_the_description_is_valid(description: Any) -> None:
    OpenAPIV31SpecValidator(description).validate()


def test_each_operation_is_described(description: Any) -> None:
    found = operations(description)

    assert len(found) == sum(map(len, description["paths"].values()))
    for name, operation in found.items():
        assert operation["summary"], name
        for parameter in operation["parameters"]:
            assert "null" not in json.dumps(parameter["schema"]), (name, parameter)
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                assert link["operationId"] in found, name
    kinds = {tag["name"] for tag in description["tags"]}
    assert {tag for operation in found.values() for tag in operation["tags"]} == kinds


def test_headers_media_types_and_statuses_are_described(description: Any) -> None:
    found = operations(description)

    append = found["append"]
    assert {each["name"] for each in append["parameters"]} == {
        "stream",
        "If-Match",
        "If-None-Match",
    }
    assert set(append["requestBody"]["content"]) == {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    }
    assert append["responses"]["201"]["headers"].keys() == {"ETag"}
    assert append["responses"].keys() >= {"200", "201", "400", "404", "409", "412", "413", "415"}
    assert "Last-Event-ID" in {each["name"] for each in found["subscribe"]["parameters"]}
    assert set(found["read_log"]["responses"]["200"]["content"]) == {
        "application/json",
        "application/x-ndjson",
        "application/cloudevents-batch+json",
    }
    assert found["live"]["security"] == []
    assert "401" not in found["live"]["responses"]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_reference_page_shows_all_operations(client: httpx.Client, description: Any) -> None:
    answer = client.get("/docs")

    assert answer.headers["content-type"].startswith("text/html")
    elements = _Page(answer.text).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert operations(description).keys() <= set(ids)
    assert {f"schema-{name}" for name in description["components"]["schemas"]} <= set(ids)
    anchors = {a["href"] for tag, a in elements if tag == "a" and "href" in a}
    assert {anchor[1:] for anchor in anchors if anchor and anchor[0] == "#"} <= set(ids)


def test_the_reference_page_loads_only_its_style(client: httpx.Client) -> None:
    elements = _Page(client.get("/docs").text).elements

    assert [a["href"] for tag, a in elements if tag == "link"] == ["docs.css"]
    # The content security policy of the server forbids what is inside the page.
    assert not {tag for tag, _ in elements} & {"script", "style", "img", "iframe"}
    assert not [a for _, a in elements if any(n == "style" or n.startswith("on") for n in a)]
    style = client.get("/docs.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "prefers-color-scheme: dark" in style.text
    assert "url(" not in style.text


def test_another_method_is_refused_with_those_of_the_path(client: httpx.Client) -> None:
    answer = client.delete("/streams/a-1/events")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.json()["type"] == "urn:indelible:method-not-allowed"
    assert client.put("/head").headers["allow"] == "GET, HEAD"
    assert client.head("/head").status_code == 200
    # Without a body its answer would not end.
    assert client.head("/events/subscribe").status_code == 405


def test_requests_are_counted_by_route_and_status(serve: Serve) -> None:
    with httpx.Client(base_url=serve(), timeout=30) as client:
        client.get("/api/v1/head")
        client.get("/api/v1/streams/a-1")
        client.get("/api/v1/streams/a-2")
        answer = client.get("/metrics")

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    count = 'indelible_http_requests_total{method="GET",route="'
    assert f'{count}/api/v1/head",status="200"}} 1' in lines
    assert f'{count}/api/v1/streams/{{stream}}",status="404"}} 2' in lines
    seconds = [line for line in lines if line.startswith("indelible_http_request_seconds_total")]
    assert all(re.fullmatch(r".+} \d+\.\d{6}", line) for line in seconds)
    assert len(seconds) == 2
