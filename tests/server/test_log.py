"""The routes for the log: read, read for a decision, subscribe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin
from uuid import UUID, uuid4

import httpx
import pytest

from indelible import ANY, EventStore, NewEvent

from .conftest import Serve

EPOCH = UUID(int=7)


def fill(store: EventStore, count: int, stream: str = "a-1") -> None:
    events = [NewEvent("A" if n % 2 else "B", {"n": n}, tags=[f"n:{n}"]) for n in range(count)]
    store.append(stream, events, expected=ANY)


def test_the_log_is_read_by_pages_and_by_lines(client: httpx.Client, store: EventStore) -> None:
    fill(store, 25)
    found: list[int] = []
    address = f"{client.base_url}events?limit=10&type=A"
    while address:
        page = client.get(address).json()
        found += [event["data"]["n"] for event in page["events"]]
        address = urljoin(address, page["links"]["next"]) if "next" in page["links"] else ""

    assert found == list(range(1, 25, 2))
    lines = client.get("/events?type=A&type=B", headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line)["data"]["n"] for line in lines.iter_lines()] == list(range(25))
    assert [e["data"]["n"] for e in client.get("/events?tag=n:7").json()["events"]] == [7]
    assert [e["data"]["n"] for e in client.get("/events?after=23").json()["events"]] == [23, 24]
    backwards = client.get("/events?backwards=true&limit=2").json()["events"]
    assert [event["data"]["n"] for event in backwards] == [24, 23]
    assert client.get("/events?stream=b-1").json()["events"] == []
    assert client.get("/head").json() == {"position": "25"}
    assert client.get("/types").json() == [
        {"type": "A", "events": "12"},
        {"type": "B", "events": "13"},
    ]
    found = client.get("/statistics").json()
    assert int(found.pop("bytes")) > 0
    assert found == {
        "streams": "1",
        "events": "25",
        "head": "25",
        "last_position": "25",
        "channels": [{"channel": "a", "streams": "1", "events": "25"}],
    }


def test_a_decision_is_refused_when_others_were_faster(
    client: httpx.Client, store: EventStore
) -> None:
    query = [{"tags": ["seat:1"]}]

    def take() -> httpx.Response:
        seen = client.post("/events/matching", json={"query": query}).json()
        assert seen["events"] == []
        return seen["marker"]  # type: ignore[no-any-return]

    def append(marker: Any) -> httpx.Response:
        body = {
            "events": [{"type": "SeatTaken", "tags": ["seat:1"]}],
            "expected": "any",
            "conditions": [{"query": query, "after": marker}],
        }
        return client.post("/streams/seat-1/events", json=body)

    first, second = take(), take()
    assert append(first).status_code == 201
    refused = append(second)
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:indelible:append-condition-failed"
    assert append("0").status_code == 409
    assert append("1").status_code == 201
    assert append({"head": "x"}).status_code == 422
    assert append({"head": str(2**63)}).status_code == 422
    assert append({"head": "1", "seen": [str(2**63)]}).status_code == 422
    assert client.post("/events/matching", json={"query": []}).status_code == 422


@contextmanager
def subscribed(client: httpx.Client, **options: Any) -> Iterator[Iterator[dict[str, str]]]:
    with client.stream("GET", "/events/subscribe", **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield messages(answer)


def messages(answer: httpx.Response) -> Iterator[dict[str, str]]:
    found: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name or "comment"] = value
        elif found:
            if "retry" not in found:
                yield found
            found = {}


def test_a_subscription_tells_what_is_there_and_what_comes(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 3)
    with subscribed(client) as found:
        first = [next(found) for _ in range(3)]
        assert [json.loads(each["data"])["data"]["n"] for each in first] == [0, 1, 2]
        assert first[0]["id"].startswith("1@")
        caught_up = next(found)
        assert caught_up["event"] == "caught_up"
        assert json.loads(caught_up["data"]) == {"position": "3"}
        fill(store, 1, "b-1")
        assert json.loads(next(found)["data"])["stream"] == "b-1"


def test_a_client_that_comes_back_continues_where_it_was(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 5)
    with subscribed(client, params={"type": "A"}) as found:
        first = next(found)
    assert json.loads(first["data"])["data"]["n"] == 1

    for known in (first["id"], first["id"].partition("@")[0]):
        with subscribed(client, params={"type": "A"}, headers={"Last-Event-ID": known}) as found:
            assert json.loads(next(found)["data"])["data"]["n"] == 3
    with subscribed(client, params={"after": "4"}) as found:
        assert json.loads(next(found)["data"])["data"]["n"] == 4
    with subscribed(client, params={"after": "head"}) as found:
        assert next(found)["event"] == "caught_up"
        fill(store, 1, "b-1")
        assert json.loads(next(found)["data"])["stream"] == "b-1"


def test_a_client_of_a_log_that_was_restored_is_told(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 5)
    with subscribed(client) as found:
        last = [next(found) for _ in range(5)][-1]["id"]
    store.renew_epoch()
    fill(store, 1, "b-1")

    lost = f"{last.partition('#')[0]}#{uuid4()}"
    answer = client.get("/events/subscribe", headers={"Last-Event-ID": lost})

    assert answer.status_code == 410, answer.text
    assert answer.json()["type"] == "urn:indelible:log-was-restored"


@pytest.mark.parametrize(
    "after",
    [
        *("x", "-1", "1@x", "99", "٣", str(2**63), f"-1@{EPOCH}", f"{2**63}@{EPOCH}"),
        *(f"1@{EPOCH}#{2**63}:{EPOCH}", f"1@{EPOCH}@2026-01-01/1", f"1@{EPOCH}@{2**63}"),
    ],
)
def test_a_start_that_is_none_is_refused(client: httpx.Client, after: str) -> None:
    assert client.get("/events/subscribe", params={"after": after}).status_code == 422


def test_an_idle_subscription_sends_heartbeats_and_ends_with_the_server(serve: Serve) -> None:
    address = serve(heartbeat=0.05)
    with (
        httpx.Client(base_url=f"{address}/api/v1", timeout=30) as client,
        subscribed(client) as found,
    ):
        assert next(found)["event"] == "caught_up"
        assert next(found) == {"comment": "heartbeat"}
        assert next(found) == {"comment": "heartbeat"}
