"""Projections over HTTP: status, rebuild, and their documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from indelible import (
    ANY,
    DocumentProjection,
    EventStore,
    NewEvent,
    Query,
    RecordedEvent,
    TableProjection,
    handles,
)
from tests.support.daemons import Running
from tests.support.waiting import wait_until

from .conftest import Serve


class Orders(DocumentProjection[dict]):
    name = "all/orders"
    indexes = ("status",)

    @handles("Placed")
    def placed(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"status": "open", "total": event.data["total"]}

    @handles("Shipped")
    def shipped(self, document: dict | None, event: RecordedEvent) -> dict:
        return {**(document or {}), "status": "shipped"}


class Deliveries(DocumentProjection[dict]):
    name = "deliveries"
    query = Query(channel="delivery")

    @handles("Placed")
    def placed(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"n": 1}


class InlineOrders(Orders):
    name = "inline"


class Elsewhere(TableProjection):
    name = "elsewhere"

    @handles("Placed")
    def placed(self, event: RecordedEvent, connection: Any) -> None:
        pass


@pytest.fixture
def daemon(store: EventStore, url: str, schema: str) -> Iterator[Running]:
    for number in range(5):
        total = 2**53 + 1 if number == 0 else number
        store.append(f"order-{number}", NewEvent("Placed", {"total": total}), expected=ANY)
    store.append("order/5", NewEvent("Placed", {"total": 5}), expected=ANY)
    store.append("order-1", NewEvent("Shipped", {}), expected=ANY)
    for projection in (Orders, Deliveries, Elsewhere):
        store.catch_up(projection)
    running = Running("sync", url, schema, [Orders, Deliveries, Elsewhere])
    yield running
    running.stop()


def builds(client: httpx.Client, projection: str = "all%2Forders") -> list[dict[str, Any]]:
    answer = client.get(f"/projections/{projection}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def documents(client: httpx.Client, **params: Any) -> dict[str, Any]:
    answer = client.get("/projections/all%2Forders/documents", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def keys(page: dict[str, Any]) -> list[str]:
    return [found["key"] for found in page["documents"]]


@pytest.mark.usefixtures("daemon")
def test_the_status_of_projections_is_shown(client: httpx.Client) -> None:
    names = [build["projection"] for build in client.get("/projections").json()]
    assert names == ["all/orders", "deliveries", "elsewhere"]
    (build,) = builds(client)
    assert build["state"] == "serving"
    assert (build["kind"], build["lifecycle"], build["version"]) == ("documents", "async", 1)
    assert (build["checkpoint"], build["lag_events"]) == ("7", "0")
    assert build["partitions"][0]["handled"] == "7"
    missing = client.get("/projections/nothing")
    assert missing.status_code == 404
    assert missing.json()["type"] == "urn:indelible:projection-not-found"


@pytest.mark.usefixtures("daemon")
def test_documents_are_read_and_found(client: httpx.Client) -> None:
    first = client.get("/projections/all%2Forders/documents/order-0")
    assert str(2**53 + 1) in first.text  # as it is stored, to the last digit
    assert first.json()["document"]["status"] == "open"
    assert (first.json()["checkpoint"], first.json()["head"]) == ("7", "7")
    slash = client.get("/projections/all%2Forders/documents/order%2F5").json()
    assert (slash["key"], slash["document"]["total"]) == ("order/5", 5)
    missing = client.get("/projections/all%2Forders/documents/order-9")
    assert missing.json()["type"] == "urn:indelible:document-not-found"

    assert keys(documents(client)) == [*(f"order-{n}" for n in range(5)), "order/5"]
    assert keys(documents(client, where=json.dumps({"status": "shipped"}))) == ["order-1"]
    assert keys(documents(client, where=json.dumps({"total": 3, "status": "open"}))) == ["order-3"]
    assert keys(documents(client, key=["order-4", "order-2", "x"])) == ["order-2", "order-4"]
    found, query = [], "?limit=2"
    while query:
        page = client.get(f"/projections/all%2Forders/documents{query}").json()
        found += keys(page)
        query = page["links"].get("next", "")
    assert found == [*(f"order-{n}" for n in range(5)), "order/5"]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("all%2Forders/documents?where=x", 422),
        ("all%2Forders/documents?where=[]", 422),
        ("all%2Forders/documents?limit=1001", 422),
        ("all%2Forders/documents?key=a&after=b", 422),
        ("all%2Forders/documents?version=2", 404),
        ("all%2Forders/documents/order-0?version=x", 422),
        ("elsewhere/documents", 422),
        ("nothing/documents", 404),
    ],
)
def test_documents_that_cannot_be_read(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(f"/projections/{path}")

    assert answer.status_code == status, answer.text


@pytest.mark.usefixtures("daemon")
def test_a_rebuild_is_carried_out_by_the_daemons(client: httpx.Client) -> None:
    (before,) = builds(client)

    answer = client.post("/projections/all%2Forders/rebuild", json={})

    assert answer.status_code == 202, answer.text
    ordered = answer.json()
    assert ordered["build"] != before["build"]
    assert ordered["projection"] == "all/orders"
    wait_until(
        lambda: (
            [(each["build"], each["state"]) for each in builds(client)]
            == [(ordered["build"], "serving")]
        ),
        60,
    )
    assert len(documents(client)["documents"]) == 6


def test_an_event_of_an_inline_projection_is_refused(
    client: httpx.Client, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, inline=[InlineOrders]):
        pass
    placed = {"type": "Placed", "data": {"total": 1}}
    other = {"type": "Other"}
    alone = client.post("/streams/order-1/events", json={"events": [placed], "expected": "any"})
    several = client.post(
        "/append",
        json={"appends": [{"stream": "order-1", "events": [other, placed], "expected": "any"}]},
    )
    for refused in (alone, several):
        assert refused.status_code == 422
        assert "inline projection 'inline' handles 'Placed'" in refused.json()["detail"]
    allowed = client.post("/streams/order-1/events", json={"events": [other], "expected": "any"})
    assert allowed.status_code == 201


@pytest.mark.usefixtures("daemon")
def test_a_rebuild_that_needs_the_code_is_refused(
    client: httpx.Client, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, inline=[InlineOrders]):
        pass
    inline = client.post("/projections/inline/rebuild", json={})
    assert inline.status_code == 422
    assert "indelible projections rebuild inline" in inline.json()["detail"]
    assert client.get("/projections/inline/documents").status_code == 409
    tables = client.post("/projections/elsewhere/rebuild", json={})
    assert tables.status_code == 422
    assert "cannot be rebuilt in place" in tables.json()["detail"]
    other = client.post("/projections/deliveries/rebuild", json={"version": 2})
    assert other.status_code == 404


@pytest.mark.usefixtures("daemon")
def test_a_token_reads_the_projections_that_it_covers(serve: Serve, store: EventStore) -> None:
    address = f"{serve(requires_token=True)}/api/v1"

    def one(can: str) -> httpx.Client:
        text = store.create_token("test", can=can, channels="delivery").text
        headers = {"Authorization": f"Bearer {text}"}
        return httpx.Client(base_url=address, headers=headers, timeout=60)

    with one("read") as reader, one("manage") as manager, one("append") as other:
        for client in (reader, manager):
            names = [build["projection"] for build in client.get("/projections").json()]
            assert names == ["deliveries"]
            hidden = client.get("/projections/all%2Forders")
            assert hidden.status_code == 404
            assert "deliveries" not in hidden.text
            assert client.get("/projections/nothing").status_code == 404
        assert other.get("/projections").json() == []
        assert reader.get("/projections/deliveries/documents").status_code == 200
        assert manager.get("/projections/deliveries/documents").status_code == 403
        assert reader.post("/projections/deliveries/rebuild", json={}).status_code == 403
        assert manager.post("/projections/deliveries/rebuild", json={}).status_code == 202
        assert other.post("/projections/deliveries/rebuild", json={}).status_code == 404
