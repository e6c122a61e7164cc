"""The routes for streams: append, read, information, life cycle."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urljoin
from uuid import uuid4

import httpx
import pytest

from indelible import ANY, NO_STREAM, EventStore, NewEvent, StreamAppend

NDJSON = "application/x-ndjson"
ODD_NAMES = [
    "a/b",
    "/a",
    "a//b",
    "a b",
    "a+b",
    "a%2Fb",
    "a?b#c&d=e",
    "ä-ö",
    "日本-1",
    "🙂",
    "a;b=c",
    "back\\slash",
    '"quoted"',
    "'; DROP TABLE events; --",
    "events",
    "a\u202eb",
    "e\u0301",
    "x" * 255,
]


def path(stream: str, rest: str = "/events") -> str:
    return f"/streams/{quote(stream, safe='')}{rest}"


def append(client: httpx.Client, stream: str, *events: dict[str, Any], **fields: Any) -> Any:
    body = {"events": list(events) or [{"type": "Happened"}], "expected": "any", **fields}
    return client.post(path(stream), json=body)


def test_what_was_appended_is_read(client: httpx.Client, store: EventStore) -> None:
    event_id = str(uuid4())
    answer = append(
        client,
        "order-1",
        {
            "type": "OrderPlaced",
            "data": {"total": 12},
            "id": event_id,
            "metadata": {"by": "ann"},
            "tags": ["order:1"],
            "valid_at": "2026-01-02T03:04:05+01:00",
        },
        expected="no-stream",
    )

    assert answer.status_code == 201
    assert answer.headers["etag"] == '"0"'
    result = answer.json()
    assert result == {
        "stream": "order-1",
        "version": "0",
        "position": "1",
        "recorded_at": result["recorded_at"],
        "idempotent": False,
    }
    (event,) = client.get(path("order-1")).json()["events"]
    assert event == {
        "position": "1",
        "stream": "order-1",
        "version": "0",
        "id": event_id,
        "type": "OrderPlaced",
        "channel": "order",
        "data": {"total": 12},
        "metadata": {"by": "ann"},
        "tags": ["order:1"],
        "recorded_at": result["recorded_at"],
        "valid_at": "2026-01-02T02:04:05Z",
    }
    (stored,) = store.read("order-1")
    assert (str(stored.id), stored.data) == (event_id, {"total": 12})


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_stream_may_have_any_name(client: httpx.Client, store: EventStore, name: str) -> None:
    assert append(client, name).status_code == 201
    assert append(client, name, expected=0).status_code == 201

    found = client.get(path(name)).json()["events"]
    assert [event["stream"] for event in found] == [name, name]
    assert client.get(path(name, "")).json()["version"] == "1"
    assert [event.stream for event in store.read(name)] == [name, name]


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\rb", "\x7f", "x" * 256])
def test_a_name_that_no_stream_may_have_is_refused(client: httpx.Client, name: str) -> None:
    answer = append(client, name)

    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:indelible:invalid-input"
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_name_that_is_not_utf_8_is_refused(client: httpx.Client) -> None:
    assert client.get("/streams/%FF/events").status_code == 422


def test_the_version_that_is_expected_is_checked(client: httpx.Client) -> None:
    append(client, "a-1")

    conflict = append(client, "a-1", expected=7)
    assert conflict.status_code == 409
    facts = conflict.json()
    assert (facts["type"], facts["expected"], facts["actual"]) == (
        "urn:indelible:wrong-expected-version",
        "7",
        "0",
    )
    assert facts["conflicts"][0]["stream"] == "a-1"
    assert append(client, "a-1", expected="no-stream").json()["expected"] == "no-stream"
    assert append(client, "b-1", expected="stream-exists").status_code == 409
    assert append(client, "a-1", expected="0").status_code == 201
    assert append(client, "a-1", expected="stream-exists").status_code == 201


def test_headers_name_the_expected_version_too(client: httpx.Client) -> None:
    def send(stream: str, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"events": [{"type": "Happened"}]}
        return client.post(path(stream), json=body, headers=named).status_code

    assert send("a-1", if_match="*") == 412
    assert send("a-1", if_none_match="*") == 201
    assert send("a-1", if_none_match="*") == 412
    assert send("a-1", if_match='"0"') == 201
    assert send("a-1", if_match='"0"') == 412
    assert send("a-1", if_match="*") == 201
    assert send("a-1", if_match="0") == 422
    assert send("a-1", if_none_match='"1"') == 422
    assert send("a-1", if_match='"2"', if_none_match="*") == 422
    assert send("a-1") == 422


def test_a_repeated_request_stores_nothing_twice(client: httpx.Client, store: EventStore) -> None:
    event = {"type": "Happened", "id": str(uuid4())}

    first = append(client, "a-1", event, expected="no-stream")
    again = append(client, "a-1", event, expected="no-stream")

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "idempotent": True}
    assert len(list(store.read("a-1"))) == 1
    elsewhere = append(client, "b-1", event)
    assert (elsewhere.status_code, elsewhere.json()["type"]) == (
        409,
        "urn:indelible:duplicate-event",
    )


@pytest.mark.parametrize(
    "data",
    [
        "12345678901234567890.123456789",
        "1e300",
        "-0.5",
        "9007199254740993",
        '"\\u00e4\\ud83d\\ude42"',
        "[]",
        "null",
        "true",
        '{"a": {"b": [1, 2.50, null]}}',
    ],
)
def test_data_passes_through_as_it_is(client: httpx.Client, data: str) -> None:
    body = f'{{"events":[{{"type":"Happened","data":{data}}}],"expected":"no-stream"}}'
    headers = {"Content-Type": "application/json"}
    assert client.post(path("a-1"), content=body, headers=headers).status_code == 201

    text = client.get(path("a-1")).text
    found = json.loads(text, parse_float=str, parse_int=str)["events"][0]["data"]
    assert found == json.loads(
        data.replace("1e300", "1" + "0" * 300), parse_float=str, parse_int=str
    )


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"events":[{"type":"A"}],"expected":"any"', 400, None),
        ("", 400, None),
        ('{"events":[{"typ":"A"}],"expected":"any"}', 422, "events[0]"),
        ('{"events":[{"type":1}],"expected":"any"}', 422, "events[0].type"),
        ('{"events":[{"type":"A","id":"x"}],"expected":"any"}', 422, "events[0].id"),
        ('{"events":[{"type":"A","valid_at":"x"}],"expected":"any"}', 422, "events[0].valid_at"),
        ('{"events":[],"expected":"any"}', 422, None),
        ('{"events":[{"type":""}],"expected":"any"}', 422, None),
        ('{"events":[{"type":"$A"}],"expected":"any"}', 422, None),
        ('{"events":[{"type":"A","data":{"a":"\\u0000"}}],"expected":"any"}', 422, None),
        ('{"events":[{"type":"A","data":"\\ud800"}],"expected":"any"}', 400, None),
        ('{"events":[{"type":"A","valid_at":"2026-01-01T00:00:00"}],"expected":"any"}', 422, None),
        ('{"events":[{"type":"A"}],"expected":"some"}', 422, None),
        ('{"events":[{"type":"A"}],"expected":-7}', 422, None),
        ('{"events":[{"type":"A"}],"expected":99999999999999999999}', 422, None),
        ('{"events":[{"type":"A"}],"expected":"any","more":1}', 422, ""),
        ('{"events":[{"type":"A"}]}', 422, None),
    ],
)
def test_a_wrong_body_is_refused_with_its_field(
    client: httpx.Client, store: EventStore, body: str, status: int, field: str | None
) -> None:
    answer = client.post(path("a-1"), content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    if field is not None:
        assert problem["field"] == field
    assert list(store.read("a-1")) == []


def test_an_event_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = append(client, "a-1", {"type": "A", "data": "x" * 1_100_000})

    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:indelible:event-too-large"


def test_pages_lead_to_all_events(client: httpx.Client, store: EventStore) -> None:
    store.append("a-1", [NewEvent("A", {"n": n}) for n in range(25)], expected=NO_STREAM)

    def all_pages(start: str) -> list[int]:
        found, address = [], f"{client.base_url}streams/a-1/events{start}"
        while True:
            page = client.get(address).json()
            found += [event["data"]["n"] for event in page["events"]]
            if "next" not in page["links"]:
                return found
            address = urljoin(address, page["links"]["next"])

    assert all_pages("?limit=10") == list(range(25))
    assert all_pages("?limit=5") == list(range(25))
    assert all_pages("?limit=10&backwards=true") == list(reversed(range(25)))
    assert all_pages("?limit=10&from_version=3&to_version=17") == list(range(3, 18))


def test_one_event_per_line_without_a_limit(client: httpx.Client, store: EventStore) -> None:
    store.append("a-1", [NewEvent("A", {"n": n}) for n in range(1_200)], expected=NO_STREAM)

    answer = client.get(path("a-1"), headers={"Accept": "application/x-ndjson"})

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(each)["data"]["n"] for each in answer.iter_lines()] == list(range(1_200))
    missing = client.get(path("b-1"), headers={"Accept": "application/x-ndjson"})
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=1001", None),
        ("from_version=-1", "from_version"),
        ("from_version=x", "from_version"),
        ("backwards=maybe", "backwards"),
        ("as_of=yesterday", None),
        ("as_of=2026-01-01T00:00:00", None),
        ("valid_at=x", None),
        ("from=1", "from"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_wrong_parameters_are_refused(
    client: httpx.Client, store: EventStore, parameters: str, field: str | None
) -> None:
    store.append("a-1", NewEvent("A", {}), expected=ANY)

    answer = client.get(f"{path('a-1')}?{parameters}")

    assert answer.status_code == 422, answer.text
    if field is not None:
        assert answer.json()["field"] == field


def test_a_stream_as_it_was_known_and_as_it_holds(client: httpx.Client, store: EventStore) -> None:
    first = store.append("a-1", NewEvent("A", {"n": 0}), expected=ANY)
    store.append("a-1", NewEvent("A", {"n": 1}), expected=ANY)

    def numbers(**parameters: str) -> list[int]:
        found = client.get(path("a-1"), params=parameters).json()["events"]
        return [event["data"]["n"] for event in found]

    assert numbers(as_of=str(first.position)) == [0]
    assert numbers(as_of=first.recorded_at.isoformat()) == [0]
    assert numbers(valid_at=first.recorded_at.isoformat()) == [0]


def test_an_erased_event_says_so(client: httpx.Client, store: EventStore) -> None:
    store.append("a-1", NewEvent("A", {"n": 0}), expected=ANY)
    store.erase_stream("a-1", reason="asked to")

    (event,) = client.get(path("a-1")).json()["events"]

    assert (event["data"], event["erased"], event["metadata"]) == (None, True, {})


def test_several_streams_at_once_or_none(client: httpx.Client, store: EventStore) -> None:
    appends: list[dict[str, Any]] = [
        {"stream": "a-1", "expected": "no-stream", "events": [{"type": "A"}]},
        {"stream": "b-1", "expected": "no-stream", "events": [{"type": "B"}, {"type": "B"}]},
    ]

    answer = client.post("/append", json={"appends": appends})
    assert answer.status_code == 201
    assert [(each["stream"], each["version"]) for each in answer.json()] == [
        ("a-1", "0"),
        ("b-1", "1"),
    ]
    appends[0]["expected"] = 0
    conflict = client.post("/append", json={"appends": appends})
    assert conflict.status_code == 409
    assert [each["stream"] for each in conflict.json()["conflicts"]] == ["b-1"]
    assert len(list(store.read_all())) == 3
    checked = {"appends": [{"stream": "a-1", "expected": 0}]}
    assert client.post("/append", json=checked).status_code == 201


def test_the_life_of_a_stream(client: httpx.Client) -> None:
    append(client, "a-1")

    assert client.post(path("a-1", "/archive"), json={}).status_code == 409
    wrong = client.post(path("a-1", "/close"), json={"expected": 4})
    assert wrong.status_code == 409
    closed = client.post(path("a-1", "/close"), json={"expected": 0, "reason": "done"})
    assert closed.json()["closed_at"] is not None
    refused = append(client, "a-1")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:indelible:stream-closed")
    assert client.post(path("a-1", "/archive"), json={}).json()["archived_at"] is not None
    assert client.post(path("a-1", "/reopen"), json={}).json()["closed_at"] is None
    assert append(client, "a-1").status_code == 201
    assert client.post(path("b-1", "/reopen"), json={}).status_code == 404


def test_a_stream_is_erased_and_tells_of_its_changes(client: httpx.Client) -> None:
    append(client, "a-1", {"type": "A", "data": {"name": "Ann"}})
    assert client.post(path("a-1", "/erase"), json={}).status_code == 422
    assert client.post(path("a-1", "/erase"), json={"reason": " "}).status_code == 422
    assert client.get(path("a-1", "/changes")).json() == []

    erased = client.post(path("a-1", "/erase"), json={"reason": "request 7"})

    assert erased.json()["erased_at"] is not None
    assert client.get(path("a-1")).json()["events"][0]["erased"] is True
    (change,) = client.get(path("a-1", "/changes")).json()
    assert (change["operation"], change["events"], change["reason"]) == ("erase", "1", "request 7")
    assert client.post(path("b-1", "/erase"), json={"reason": "x"}).status_code == 404


def test_only_events_of_some_types_are_read(client: httpx.Client) -> None:
    append(client, "a-1", {"type": "A"}, {"type": "B"}, {"type": "C"}, {"type": "A"})
    found = client.get(path("a-1"), params={"type": ["A", "B"], "limit": 2}).json()
    assert [event["version"] for event in found["events"]] == ["0", "1"]
    rest = client.get(f"{path('a-1')}{found['links']['next']}").json()
    assert [event["version"] for event in rest["events"]] == ["3"]


def test_streams_are_listed(client: httpx.Client) -> None:
    for name in ("a-1", "a-2", "b-1"):
        append(client, name)

    def names(**parameters: str) -> list[str]:
        answer = client.get("/streams", params=parameters)
        found = [each["stream"] for each in answer.json()["streams"]]
        lines = client.get("/streams", params=parameters, headers={"Accept": NDJSON})
        assert [json.loads(each)["stream"] for each in lines.iter_lines()] == found
        return found

    assert names() == ["a-1", "a-2", "b-1"]
    assert names(channel="a") == ["a-1", "a-2"]
    assert names(prefix="a-2") == ["a-2"]
    assert names(after="a-1") == ["a-2", "b-1"]
    assert names(after="a-1", channel="a") == ["a-2"]
    assert names(after="a-1", limit="1") == ["a-2"]
    assert client.get(path("a-3", "")).status_code == 404


def test_pages_lead_to_all_streams(client: httpx.Client, store: EventStore) -> None:
    names = sorted(f"{channel}-{n:02}" for channel in "ab" for n in range(12))
    store.append_many([StreamAppend(name, NewEvent("A", {}), expected=ANY) for name in names])

    def all_pages(parameters: str) -> list[str]:
        found, address = [], f"{client.base_url}streams{parameters}"
        while True:
            page = client.get(address)
            found += [each["stream"] for each in page.json()["streams"]]
            links = page.json()["links"]
            assert links.get("next") == page.links.get("next", {}).get("url")
            if "next" not in links:
                return found
            address = urljoin(address, links["next"])

    assert all_pages("?limit=10") == names
    assert all_pages("?limit=12&channel=b") == names[12:]
    assert all_pages("?limit=1&prefix=a-1") == ["a-10", "a-11"]
    lines = client.get("/streams?limit=5", headers={"Accept": NDJSON})
    assert [json.loads(each)["stream"] for each in lines.iter_lines()] == names[:5]
    for wrong in ("limit=0", "limit=1001", "after=%00", "channel=%00"):
        assert client.get(f"/streams?{wrong}").status_code == 422, wrong


def test_metadata_that_cannot_be_stored_is_refused(client: httpx.Client) -> None:
    for metadata in ({"a": "\0"}, {"a": {"b": ["\0"]}}, {"a\0": 1}):
        answer = append(client, "a-1", {"type": "A", "metadata": metadata})
        assert answer.status_code == 422, answer.text
        assert "metadata" in answer.json()["detail"]
