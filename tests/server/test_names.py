"""Names of streams in paths: each that the store takes comes back the same, all others are refused.

The requests are written byte by byte: client libraries change paths before they send them.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from indelible import ANY, EventStore, InvalidInput, NewEvent

from .conftest import Serve


class Client:
    """Sends requests with paths as they are."""

    def __init__(self, address: str) -> None:
        place = urlsplit(address)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        content = None if body is None else json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if content is not None:
            sent["Content-Type"] = "application/json"
        self._connection.request(method, path, content, sent)
        answer = self._connection.getresponse()
        written = answer.read()
        return answer.status, answer.headers, json.loads(written) if written else None

    def append(self, name: str, **options: Any) -> tuple[int, http.client.HTTPMessage, Any]:
        body = {"events": [{"type": "A"}], "expected": "any"}
        return self.request("POST", path_of(name), body, **options)

    def close(self) -> None:
        self._connection.close()


def path_of(name: str, rest: str = "/events") -> str:
    """The path of a stream, with every byte escaped."""
    escaped = "".join(f"%{byte:02X}" for byte in name.encode("utf-8", "surrogatepass"))
    return f"/api/v1/streams/{escaped}{rest}"


@pytest.fixture
def raw(serve: Serve) -> Iterator[Client]:
    client = Client(serve())
    yield client
    client.close()


characters = st.characters() | st.sampled_from(
    "./\\%?#&;:@+ \t\r\n\0\x7f\x85\u2028\u200b\u202e\ufeff\ufffd\ufffe\ud800\udfff\U0010ffff"
)
names = st.text(characters, min_size=1, max_size=12) | st.sampled_from(
    [".", "..", "...", "../..", "a/../b", "%2e", "%252e%252e", "%00", "~", " ", "é" * 255]
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names)
@example(name="e\u0301")  # not normalised: é is another name
@example(name="\u1e9b\u0323")
@example(name="a\u202eb\u2066c")
@example(name="\ud83d\ude42")  # two halves are not the character
@example(name="x" * 256)
@example(name="🙂" * 255)
def test_a_name_comes_back_or_is_refused(raw: Client, store: EventStore, name: str) -> None:
    try:
        store.append(name, NewEvent("A", {}), expected=ANY)
        is_name = True
    except (InvalidInput, UnicodeError):
        is_name = False

    status, headers, answer = raw.append(name)

    assert headers["Content-Type"] == (
        "application/json" if is_name else "application/problem+json"
    )
    if not is_name:
        assert (status, answer["type"]) == (422, "urn:indelible:invalid-input")
        assert raw.request("GET", path_of(name))[0] in (404, 422)
        return
    assert status == 201
    assert answer["stream"] == name
    status, _, page = raw.request("GET", path_of(name))
    assert status == 200
    assert {event["stream"] for event in page["events"]} == {name}
    assert raw.request("GET", path_of(name, ""))[2]["stream"] == name
    assert [event.stream for event in store.read(name)][-1] == name


@pytest.mark.parametrize(
    "escaped",
    [
        "%C0%AF",  # a slash in too many bytes
        "%E0%80%AF",
        "%C0%80",  # NUL in two bytes
        "%ED%A0%80",  # half a surrogate pair
        "%ED%A0%BD%ED%B9%82",  # both halves, each in three bytes
        "%F4%90%80%80",  # beyond Unicode
        "%FF",
        "a%80",
        "%E2%82",
        "%00",
        "a%0Ab",
        "a%0D%0ASet-Cookie:%20a=b",
        "%7F",
    ],
)
def test_what_is_no_text_is_refused(raw: Client, escaped: str) -> None:
    body = {"events": [{"type": "A"}], "expected": "any"}
    for method, rest, sent in (
        ("POST", "/events", body),
        ("POST", "/close", {"expected": "any"}),
    ):
        status, headers, answer = raw.request(method, f"/api/v1/streams/{escaped}{rest}", sent)
        assert (status, answer["type"]) in (
            (422, "urn:indelible:invalid-input"),
            (404, "urn:indelible:stream-not-found"),
        )
        assert "Set-Cookie" not in headers
    for path in (f"streams/{escaped}", f"streams/{escaped}/events"):
        assert raw.request("GET", f"/api/v1/{path}")[0] in (404, 422)
    status, _, answer = raw.request("GET", f"/api/v1/events?stream={escaped}")
    assert status == 422 or answer["events"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        # No path leads elsewhere: dots and escaped slashes are parts of a name, or no route.
        ("/api/v1/../../health/live", 404),
        ("/api/v1/streams/../events", 404),
        ("/api/v1/streams/%2e%2e/events", 404),
        ("/api/v1/streams/..%2f..%2fhealth%2flive/events", 404),
        ("/api/v1/streams/%252e%252e/events", 404),
        ("/health%2flive", 404),
        ("/health/%6cive", 404),
        ("//health/live", 404),
        ("/health/live/", 404),
        ("/health//live", 404),
        ("/HEALTH/LIVE", 404),
        ("/health/live;a=b", 404),
        ("/health/live?x", 422),
        ("/api/v1/streams//events", 404),
        ("/%2e%2e/etc/passwd", 404),
        ("/..%5c..%5cwindows", 404),
        ("/health/live%00", 404),
        ("/health/live%0d%0aX:%20y", 404),
    ],
)
def test_no_trick_with_a_path_leads_elsewhere(raw: Client, path: str, status: int) -> None:
    found, headers, answer = raw.request("GET", path)

    assert found == status, answer
    assert "Location" not in headers
    assert "X" not in headers
    assert answer["type"].startswith("urn:indelible:")


def test_no_trick_with_a_path_needs_no_token(serve: Serve) -> None:
    client = Client(serve(requires_token=True))
    for path in (
        "/health%2flive", "/health/%6cive", "/health/live/", "/health/live/../../api/v1/head",
        "/health/live%00", "/health/live;/api/v1/head", "//health/live", "/api/v1/head%3f/health",
        "/api/v1/openapi.json", "/nothing", "/", "/health/live%2f..%2f..%2fapi%2fv1%2fhead",
    ):  # fmt: skip
        assert client.request("GET", path)[0] == 401, path
    assert client.request("GET", "/health/live")[0] == 200
    client.close()


@pytest.mark.parametrize(
    "value", ['"\xe4"', 'W/"4"', '"4", "5"', '"%0d%0aX:y"', '"' + "9" * 30 + '"']
)
def test_no_header_of_a_request_gets_into_an_answer(raw: Client, value: str) -> None:
    body = {"events": [{"type": "A"}]}
    status, headers, _ = raw.request("POST", path_of("a-1"), body, If_Match=value)
    assert status == 422
    assert "X" not in headers


def test_facts_of_a_problem_stay_in_its_body(raw: Client, store: EventStore) -> None:
    name = 'a"\\/<script>\u2028é'
    store.append(name, NewEvent("A", {}), expected=ANY)
    body = {"events": [{"type": "A"}], "expected": 7}

    status, headers, answer = raw.request("POST", path_of(name), body)

    assert status == 409
    assert answer["conflicts"][0]["stream"] == name
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert all(value.isascii() for value in headers.values())
