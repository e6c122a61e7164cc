"""The routes for the log: read, read for a decision, subscribe."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin
from uuid import UUID, uuid4

import httpx
import pytest

from indelible import ANY, Checkpoint, EventStore, NewEvent
from indelible.server import waiting
from tests.support.served import served

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
    last = store.read_all(backwards=True, limit=1)
    assert client.get("/head").json() == {
        "position": "25",
        "epoch": str(store.epoch()),
        "event_id": str(next(last).id),
    }
    types = client.get("/types").json()
    assert [(found["type"], found["events"]) for found in types] == [("A", "12"), ("B", "13")]
    assert [found["first_position"] for found in types] == ["2", "1"]
    assert [found["last_position"] for found in types] == ["24", "25"]
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
        "2026-11-27T08:00:00",
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
        for _ in range(2):
            heartbeat = next(found)
            assert heartbeat["comment"] == "heartbeat"
            assert heartbeat["id"].startswith("0@")


def test_a_subscription_tells_that_the_log_moved_on_without_a_match(
    client: httpx.Client, store: EventStore
) -> None:
    with subscribed(client, params={"type": "C"}) as found:
        assert next(found)["id"].startswith("0@")
        fill(store, 3)
        moved = next(found)
    assert moved["comment"] == "heartbeat"
    assert moved["id"].startswith("3@")


def test_a_subscription_may_start_at_a_time_and_deliver_what_becomes_due(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 2)
    recorded_at = next(store.read_all(backwards=True)).recorded_at
    fill(store, 1, "b-1")
    due = datetime.now(UTC) + timedelta(seconds=0.5)
    store.append("c-1", [NewEvent("A", {"n": 9}, valid_at=due), NewEvent("A", {})], expected=ANY)

    start = {"after": recorded_at.isoformat(), "deliver_when_valid": "true"}
    with subscribed(client, params=start) as found:
        streams = []
        while len(streams) < 3:
            message = next(found)
            if "event" not in message and "data" in message:
                streams.append({**json.loads(message["data"]), "checkpoint": message["id"]})
        last = streams[-1]["checkpoint"]
    assert [(each["stream"], each["version"]) for each in streams] == [
        ("b-1", "0"),
        ("c-1", "1"),
        ("c-1", "0"),
    ]
    assert Checkpoint.parse(last).due is not None


def test_a_query_may_have_alternatives(client: httpx.Client, store: EventStore) -> None:
    fill(store, 4)
    fill(store, 2, "b-1")
    query = json.dumps([{"tags": ["n:3"]}, {"stream": "b-1", "types": ["A"]}])
    found = client.get("/events", params={"query": query}).json()["events"]
    assert [event["position"] for event in found] == ["4", "6"]
    for wrong in (
        {"query": query, "type": "A"},
        {"query": "x"},
        {"query": "[]"},
        {"query": '[{"typ": []}]'},
    ):
        assert client.get("/events", params=wrong).status_code == 422


def test_facts_are_read_by_valid_time(client: httpx.Client, store: EventStore) -> None:
    days = [datetime(2026, 11, day, tzinfo=UTC) for day in (3, 1, 2)]
    store.append("a-1", [NewEvent("A", {}, valid_at=day) for day in days], expected=ANY)
    for path in ("/events", "/streams/a-1/events"):
        between = {"valid_between": "2026-11-01T00:00:00Z/2026-11-03T00:00:00Z"}
        found = client.get(path, params=between).json()
        assert [event["version"] for event in found["events"]] == ["1", "2"]
        assert found["links"] == {}
        for wrong in ("2026-11-01T00:00:00Z", "x/y", "2026-11-02T00:00:00Z/2026-11-01T00:00:00Z"):
            assert client.get(path, params={"valid_between": wrong}).status_code == 422


def test_the_position_of_a_time_is_told(client: httpx.Client, store: EventStore) -> None:
    fill(store, 2)
    recorded_at = next(store.read_all(backwards=True)).recorded_at
    moment = {"moment": recorded_at.isoformat()}
    assert client.get("/position-at", params=moment).json() == {
        "position": "2",
        "is_final": False,
    }
    fill(store, 1, "b-1")
    assert client.get("/position-at", params=moment).json() == {"position": "2", "is_final": True}
    assert client.get("/position-at").status_code == 422


def test_a_reader_may_check_that_the_log_is_the_one_it_knows(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 3)
    known = Checkpoint(3, store.epoch())
    store.renew_epoch()
    assert client.get("/head", params={"checkpoint": str(known)}).status_code == 410
    today = Checkpoint(3, store.epoch())
    assert client.get("/head", params={"checkpoint": str(today)}).json()["position"] == "3"
    assert client.get("/head", params={"checkpoint": "x"}).status_code == 422


def test_a_client_may_wait_for_a_reader(client: httpx.Client, store: EventStore) -> None:
    store.group("mails").create()
    fill(store, 1)
    wait = {"reader": "mails", "position": "1", "timeout": 0.05}
    assert client.post("/wait", json=wait).json() == {"checkpoint": "0"}
    with store.group("mails").consume() as consumer, next(consumer):
        pass
    assert client.post("/wait", json={**wait, "timeout": 10}).json() == {"checkpoint": "1"}
    assert client.post("/wait", json={**wait, "reader": "x"}).status_code == 404
    assert client.post("/wait", json={**wait, "timeout": 31}).status_code == 422


def test_the_size_of_the_store_is_told(client: httpx.Client, store: EventStore) -> None:
    fill(store, 3)
    fill(store, 1, "b-1")
    found = client.get("/statistics").json()
    assert int(found.pop("bytes")) > 0
    assert found == {
        "streams": "2",
        "events": "4",
        "head": "4",
        "last_position": "4",
        "channels": [
            {"channel": "a", "streams": "1", "events": "3"},
            {"channel": "b", "streams": "1", "events": "1"},
        ],
    }


@pytest.mark.parametrize("path", ["/wait", "/groups/mails/wait"])
def test_a_wait_ends_when_the_server_stops(
    url: str, schema: str, store: EventStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.group("mails").create()
    body = {"position": "9", "timeout": 30, **({"reader": "mails"} if path == "/wait" else {})}
    begun, first_of = threading.Event(), waiting.first_of

    def watched(*work: Any) -> Any:
        begun.set()
        return first_of(*work)

    monkeypatch.setattr(waiting, "first_of", watched)
    with ThreadPoolExecutor(1) as pool:
        with served(url, schema) as address:
            asking = pool.submit(httpx.post, f"{address}/api/v1{path}", json=body, timeout=60)
            assert begun.wait(30)
        answer = asking.result()
    assert answer.status_code == 503
    assert "the server stops" in answer.json()["detail"]
