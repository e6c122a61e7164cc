"""CloudEvents in and out, also with the SDK of the CloudEvents project."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from indelible import ANY, EventStore, NewEvent

from .test_log import subscribed
from .test_streams import path

STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
ACCEPT = {"Accept": "application/cloudevents-batch+json"}


def made(**members: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/a", "type": "A", **members}


def send(client: httpx.Client, event: Any, stream: str = "a-1", **headers: str) -> httpx.Response:
    return client.post(
        path(stream),
        content=event if isinstance(event, bytes) else json.dumps(event),
        headers={**(BATCH if isinstance(event, list) else STRUCTURED), **headers},
    )


def received(client: httpx.Client, stream: str = "a-1", **parameters: str) -> Any:
    answer = client.get(path(stream), headers=ACCEPT, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/cloudevents-batch+json"
    return answer.json()


def test_an_event_of_the_sdk_is_stored_and_comes_back(
    client: httpx.Client, store: EventStore
) -> None:
    event_id = str(uuid4())
    given = CloudEvent(
        attributes={
            "specversion": "1.0",
            "id": event_id,
            "source": "https://example.com/shop",
            "type": "com.example.order.placed",
            "subject": "order/17",
            "time": datetime.fromisoformat("2026-01-02T03:04:05+00:00"),
            "datacontenttype": "application/json",
            "dataschema": "https://example.com/order.json",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "tags": "order:17,customer:a%2Cb",
        },
        data={"total": 12},
    )

    answer = send(client, JSONFormat().write(given))

    assert answer.status_code == 201, answer.text
    assert answer.headers["etag"] == '"0"'
    (stored,) = store.read("a-1")
    assert (stored.type, str(stored.id), stored.data) == (
        "com.example.order.placed",
        event_id,
        {"total": 12},
    )
    assert stored.valid_at == given.get_time()
    assert set(stored.tags) == {"order:17", "customer:a,b"}
    assert stored.metadata["cloudevents"]["source"] == "https://example.com/shop"
    (found,) = received(client)
    again = JSONFormat().read(CloudEvent, json.dumps(found))
    for name, value in given.get_attributes().items():
        if name != "tags":
            assert again.get_attributes()[name] == value, name
    assert again.get_data() == {"total": 12}
    assert again.get_extension("position") == "1"


def test_an_event_of_the_store_is_a_cloud_event(client: httpx.Client, store: EventStore) -> None:
    event = NewEvent(
        "A",
        {"n": 1},
        tags=["a:1,%", "b:2"],
        valid_at=datetime.fromisoformat("2026-01-02T03:04:05+00:00"),
    )
    store.append("ä/b-1", event, expected=ANY, channel="shop")

    (found,) = received(client, "ä/b-1")

    assert found == {
        "specversion": "1.0",
        "id": str(event.id),
        "source": "/streams/%C3%A4%2Fb-1",
        "type": "A",
        "subject": "ä/b-1",
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
        "stream": "ä/b-1",
        "version": "0",
        "position": "1",
        "channel": "shop",
        "recordedtime": found["recordedtime"],
        "tags": "a:1%2C%25,b:2",
        "data": {"n": 1},
    }
    read = JSONFormat().read(CloudEvent, json.dumps(found))
    assert read.get_source() == "/streams/%C3%A4%2Fb-1"
    assert all(name.isalnum() and name == name.lower() for name in read.get_attributes())


def test_a_batch_is_appended_and_paged(client: httpx.Client) -> None:
    events = [made(id=str(n), data=n) for n in range(25)]

    answer = send(client, events)

    assert answer.status_code == 201, answer.text
    assert answer.json()["version"] == "24"
    found: list[int] = []
    address = f"{path('a-1')}?limit=10"
    while address:
        page = client.get(address, headers=ACCEPT)
        found += [event["data"] for event in page.json()]
        is_last = "next" not in page.links
        address = "" if is_last else f"{path('a-1')}{page.links['next']['url']}"
    assert found == list(range(25))
    of_the_log = client.get("/events", params={"after": 20}, headers=ACCEPT)
    assert [event["data"] for event in of_the_log.json()] == list(range(20, 25))
    assert send(client, [], "b-1").status_code == 422


def test_the_id_is_made_from_source_and_id_if_it_is_no_uuid(
    client: httpx.Client, store: EventStore
) -> None:
    first = send(client, made())
    again = send(client, made())
    other = send(client, made(source="/b"))

    assert [first.status_code, again.status_code, other.status_code] == [201, 200, 201]
    assert again.json() == {**first.json(), "idempotent": True}
    ids = [event.id for event in store.read("a-1")]
    assert [each.version for each in ids] == [5, 5]
    assert len(set(ids)) == 2
    assert [(event["source"], event["id"]) for event in received(client)] == [
        ("/a", "1"),
        ("/b", "1"),
    ]


@pytest.mark.parametrize(
    "written",
    ["{0}", "{1}", "urn:uuid:{0}", "{{{0}}}", "{2}"],
)
def test_an_id_keeps_its_notation(client: httpx.Client, store: EventStore, written: str) -> None:
    number = uuid4()
    text = written.format(number, str(number).upper(), number.hex)

    assert send(client, made(id=text)).status_code == 201

    (stored,) = store.read("a-1")
    assert (stored.id == number) == (text.lower() == str(number))
    assert isinstance(stored.id, UUID)
    assert received(client)[0]["id"] == text


def test_headers_name_the_expected_version_and_any_is_the_default(client: httpx.Client) -> None:
    def status(number: int, **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return send(client, made(id=str(number)), **named).status_code

    assert status(1, if_none_match="*") == 201
    assert status(2, if_none_match="*") == 412
    assert status(3, if_match='"4"') == 412
    assert status(4, if_match='"0"') == 201
    assert status(5) == 201


@pytest.mark.parametrize(
    ("members", "stored", "back"),
    [
        ({}, None, {"data": None}),
        ({"data": None}, None, {"data": None}),
        ({"data": 0.5}, 0.5, {"data": 0.5}),
        ({"data": "text"}, "text", {"data": "text"}),
        (
            {"data": "<a/>", "datacontenttype": "application/xml"},
            "<a/>",
            {"data": "<a/>", "datacontenttype": "application/xml"},
        ),
        (
            {"data": {"a": 1}, "datacontenttype": "application/vnd.shop+JSON; charset=utf-8"},
            {"a": 1},
            {"data": {"a": 1}, "datacontenttype": "application/vnd.shop+JSON; charset=utf-8"},
        ),
        (
            {"data_base64": "AAECAw==", "datacontenttype": "image/png"},
            "AAECAw==",
            {"data_base64": "AAECAw==", "datacontenttype": "image/png"},
        ),
        ({"data_base64": "AAECAw==", "data": None}, "AAECAw==", {"data_base64": "AAECAw=="}),
        ({"count": 7, "flag": True, "note": None}, None, {"count": 7, "flag": True}),
    ],
)
def test_data_and_attributes_come_back(
    client: httpx.Client, store: EventStore, members: Any, stored: Any, back: dict[str, Any]
) -> None:
    answer = send(client, made(**members))

    assert answer.status_code == 201, answer.text
    (event,) = store.read("a-1")
    assert event.data == stored
    (found,) = received(client)
    assert {name: found.get(name) for name in back} == back
    assert ("data" in found) != ("data_base64" in found)
    assert "note" not in found


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"source": ""}, "source"),
        ({"source": "a b"}, "source"),
        ({"type": ""}, "type"),
        ({"type": "$A"}, None),
        ({"time": "2026-01-01T00:00:00"}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"subject": ""}, "subject"),
        ({"subject": "\0"}, None),
        ({"data_base64": "***"}, "data_base64"),
        ({"data_base64": "AA==", "data": 1}, "data"),
        ({"data": {"a": 1}, "datacontenttype": "text/plain"}, "data"),
        ({"camelCase": "x"}, "camelCase"),
        ({"a_b": "x"}, "a_b"),
        ({"number": 1.5}, "number"),
        ({"number": 2**31}, "number"),
        ({"list": []}, "list"),
        ({"tags": 1}, "tags"),
        ({"tags": "a:1,,b:2"}, None),
    ],
)
def test_what_is_no_cloud_event_is_refused(
    client: httpx.Client, store: EventStore, members: Any, field: str | None
) -> None:
    for event in (made(**members), [made(id="2"), made(**members)]):
        answer = send(client, event)

        assert answer.status_code == 422, answer.text
        if field is not None:
            assert answer.json()["field"].rpartition(".")[2] == field
    assert list(store.read("a-1")) == []


@pytest.mark.parametrize("member", ["specversion", "id", "source", "type"])
def test_a_required_attribute_is_required(client: httpx.Client, member: str) -> None:
    event = made()
    del event[member]

    answer = send(client, event)

    assert answer.status_code == 422
    assert member in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (STRUCTURED, [made()], 422),
        (BATCH, made(), 422),
        (STRUCTURED, "", 400),
        ({"Content-Type": "application/json"}, made(), 422),
        ({"Content-Type": "application/x-ndjson"}, made(), 415),
    ],
)
def test_the_media_type_says_what_the_body_is(
    client: httpx.Client, headers: dict[str, str], body: Any, status: int
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)

    assert client.post(path("a-1"), content=content, headers=headers).status_code == status


def test_other_routes_take_no_cloud_events(client: httpx.Client) -> None:
    answer = client.post("/append", content=json.dumps(made()), headers=STRUCTURED)

    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"cloudevents": "x"},
        {"cloudevents": {"source": 7}},
        {"cloudevents": {"id": "x"}},
        {"cloudevents": {"source": "/a", "list": []}},
    ],
)
def test_metadata_that_is_not_of_a_cloud_event_changes_nothing(
    client: httpx.Client, store: EventStore, metadata: Any
) -> None:
    event = NewEvent("A", {}, metadata=metadata)
    store.append("a-1", event, expected=ANY)

    (found,) = received(client)

    assert (found["source"], found["id"]) == ("/streams/a-1", str(event.id))


def test_an_erased_event_has_no_data(client: httpx.Client, store: EventStore) -> None:
    send(client, made(data=1))
    store.erase_stream("a-1", reason="asked to")

    (found,) = received(client)

    assert "data" not in found
    assert found["erased"] is True
    assert found["source"] == "/streams/a-1"


def test_a_subscription_sends_cloud_events(client: httpx.Client) -> None:
    send(client, made(data=1))
    with subscribed(client, params={"format": "cloudevent"}) as found:
        message = next(found)

    assert message["id"].startswith("1@")
    event = json.loads(message["data"])
    assert (event["specversion"], event["id"], event["data"]) == ("1.0", "1", 1)
