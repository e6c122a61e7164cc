"""The screens of projections: builds, rebuild, stopped partitions, left-out events, documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from indelible import ANY, DocumentProjection, EventStore, NewEvent, Query, RecordedEvent, handles
from indelible.errors import ProjectionNotFound
from indelible.server.web.projections import Pace, percent
from tests.support.daemons import Running
from tests.support.waiting import wait_until

from .conftest import Serve

HOSTILE = '<img src=x onerror="alert(1)">\u202e'


class Orders(DocumentProjection[dict]):
    name = "orders"
    indexes = ("status",)

    @handles("Placed")
    def placed(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"status": event.data.get("status", "open"), "total": event.data["total"]}


class OrdersNext(Orders):
    version = 2


class Other(DocumentProjection[dict]):
    name = "other"
    query = Query(channel="order")
    on_error = "park"

    @handles("Placed")
    def placed(self, document: dict | None, event: RecordedEvent) -> dict:
        if event.data.get("status") == HOSTILE:
            raise ValueError(f"cannot read {HOSTILE}")
        return {}


class Broken(DocumentProjection[dict]):
    name = f"broken-{HOSTILE}"
    is_broken = True

    @handles("Placed")
    def placed(self, document: dict | None, event: RecordedEvent) -> dict:
        if Broken.is_broken:
            raise ValueError(f"cannot handle {HOSTILE}")
        return {}


Run = Callable[..., Running]


@pytest.fixture
def run(url: str, schema: str) -> Iterator[Run]:
    """Runs projections in a daemon."""
    running: list[Running] = []

    def start(*projections: Any) -> Running:
        running.append(Running("sync", url, schema, projections))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def place(store: EventStore, count: int, **data: Any) -> None:
    for number in range(count):
        store.append(
            f"order-{number:03}", NewEvent("Placed", {"total": number, **data}), expected=ANY
        )


def text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert "<img src=x" not in answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def stopped(store: EventStore, run: Run) -> None:
    """Run a projection until it is stopped at its first event."""
    Broken.is_broken = True
    run(Broken)
    wait_until(lambda: any(part.is_stopped for part in _parts(store)), 60)


def _parts(store: EventStore) -> list[Any]:
    return [
        part
        for build in store.projections()
        if build.name == Broken.name
        for part in build.partitions
    ]


def _skipped(store: EventStore) -> list[Any]:
    try:
        return store.projection("other").parked()
    except ProjectionNotFound:
        return []


def test_progress_tells_a_speed_only_when_it_is_known() -> None:
    pace = Pace()
    for second in range(5):
        pace.add(float(second), 1_000 * second, 500 * second)
        assert pace.sentence(0.63, 60_000) == "63 %"
    pace.add(5.0, 5_000, 2_500)
    assert pace.sentence(0.63, 60_000) == "63 %, 500 events/s, about 1 min left"
    for second in range(6, 20):
        pace.add(float(second), 5_000, 2_500)
    assert pace.sentence(0.63, 60_000) == "63 %, 0 events/s"  # it stands still
    assert percent(0.9999) == "99 %"


def test_an_empty_store_says_how_to_make_a_projection(site: httpx.Client) -> None:
    shown = text(site.get("/projections"))
    assert "No projections yet." in shown
    assert "store.catch_up(Orders)" in shown


def test_builds_are_listed_with_their_state(site: httpx.Client, store: EventStore) -> None:
    place(store, 3)
    store.catch_up(Orders)
    shown = text(site.get("/projections"))
    assert "orders" in shown
    assert "● serving" in shown
    one = text(site.get("/projection", params={"name": "orders"}))
    assert "Version 1" in one
    assert "1 partition as a table" in one
    assert site.get("/projection", params={"name": "nothing"}).status_code == 404


def test_documents_are_shown_by_key_and_found_by_an_indexed_field(
    site: httpx.Client, store: EventStore
) -> None:
    place(store, 60)
    store.append(
        "order-000", NewEvent("Placed", {"total": 2**53 + 1, "status": HOSTILE}), expected=ANY
    )
    store.catch_up(Orders)
    here = {"name": "orders", "tab": "documents"}
    first = site.get("/projection", params=here)
    assert "as of position 61, at the head" in text(first)
    assert "order-049" in first.text
    assert "order-050" not in first.text
    following = site.get("/projection", params={**here, "after": "order-049"})
    assert "order-059" in following.text
    one = text(site.get("/projection", params={**here, "key": "order-000"}))
    assert str(2**53 + 1) in one
    assert "its stream" in one
    assert r"\u202e" in one
    found = site.get("/projection", params={**here, "field": "status", "value": HOSTILE})
    assert "order-000" in found.text
    assert "order-001" not in found.text
    refused = site.get("/projection", params={**here, "field": "total", "value": "1"})
    assert refused.status_code == 422
    assert "has no index" in refused.text
    assert "No document" in text(site.get("/projection", params={**here, "key": "order-999"}))


def test_left_out_events_are_shown_and_discarded(
    site: httpx.Client, store: EventStore, run: Run
) -> None:
    for status in ("open", HOSTILE, HOSTILE):
        store.append(
            "order-1",
            NewEvent("Placed", {"total": 1, "status": status}),
            channel="order",
            expected=ANY,
        )
    run(Other)
    wait_until(lambda: len(_skipped(store)) == 2, 60)
    shown = text(site.get("/projection", params={"name": "other", "tab": "left-out"}))
    assert "cannot read" in shown
    assert "Left out 2" in shown
    asked = text(site.get("/projection/discard", params={"name": "other", "position": 2}))
    assert "Discard the left-out event at position 2" in asked
    seen = {"name": "other", "left_out": 2, "position": 2}
    assert site.post("/projection/discard", data=seen).status_code == 303
    late = site.post("/projection/discard", data=seen)
    assert late.status_code == 409
    assert "1 event is left out now, 2 when you looked" in late.text
    assert "Left out 1" in text(site.get("/projection", params={"name": "other"}))


def test_all_left_out_events_are_discarded_only_with_the_name(
    site: httpx.Client, store: EventStore, run: Run
) -> None:
    for _ in range(2):
        store.append(
            "order-1",
            NewEvent("Placed", {"total": 1, "status": HOSTILE}),
            channel="order",
            expected=ANY,
        )
    run(Other)
    wait_until(lambda: len(_skipped(store)) == 2, 60)
    seen = {"name": "other", "left_out": 2, "typed": "othe"}
    assert site.post("/projection/discard", data=seen).status_code == 422
    assert site.post("/projection/discard", data={**seen, "typed": "other"}).status_code == 303
    assert not store.projection("other").parked()


def test_an_old_version_is_dropped_with_its_name(site: httpx.Client, store: EventStore) -> None:
    place(store, 3)
    store.catch_up(Orders)
    store.rebuild(OrdersNext)
    (old,) = [build for build in store.projections("orders") if build.version == 1]
    form = {"name": "orders", "version": 1, "builds": str(old.id), "typed": "orders"}
    assert site.post("/projection/drop", data={**form, "typed": ""}).status_code == 422
    assert site.post("/projection/drop", data={**form, "builds": "1,99"}).status_code == 409
    assert site.post("/projection/drop", data=form).status_code == 303
    assert [build.version for build in store.projections("orders")] == [2]


def test_a_token_sees_and_changes_only_what_it_may(serve: Serve, store: EventStore) -> None:
    place(store, 1)
    store.append("x-1", NewEvent("Placed", {"total": 1}), channel="order", expected=ANY)
    for projection in (Orders, Other):
        store.catch_up(projection)
    address = serve(requires_token=True)

    def client(**rights: Any) -> httpx.Client:
        token = store.create_token("someone", **rights).text
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "text/html",
            "Origin": address,
        }
        return httpx.Client(base_url=address, headers=headers, timeout=30)

    with client(can=["read"], channels=["order"]) as narrow:
        shown = narrow.get("/projections")
        assert "other" in text(shown)
        assert "name=orders" not in shown.text
        assert narrow.get("/projection", params={"name": "orders"}).status_code == 404
        assert narrow.get("/live/projection", params={"name": "orders"}).status_code == 404
        one = narrow.get("/projection", params={"name": "other"})
        assert "Drop version" not in text(one)
        form = {"name": "other", "left_out": 0}
        assert narrow.post("/projection/discard", data=form).status_code == 403
    with client(can=["manage"]) as manager:
        one = manager.get("/projection", params={"name": "orders"})
        assert "Drop version" in text(one)
        assert "Documents" not in text(one)
        hidden = manager.get("/projection", params={"name": "orders", "tab": "documents"})
        assert hidden.status_code == 404


def test_a_projection_is_rebuilt_from_its_page(
    page: Any, serve: Serve, store: EventStore, run: Run
) -> None:
    place(store, 50)
    store.catch_up(Orders)
    (before,) = store.projections("orders")
    address = serve()
    page.goto(f"{address}/projection?name=orders")
    page.get_by_role("link", name="Rebuild…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Rebuild orders, version 1")
    dialog.get_by_role("button", name="Rebuild").click()
    expect(page.get_by_text("The rebuild has begun")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.locator("[data-field=progress]")).to_contain_text("%")
    run(Orders)
    expect(page.get_by_role("progressbar")).to_have_count(0, timeout=30_000)
    expect(page.locator("[data-build]")).to_have_count(1)
    expect(page.locator("[data-field=state]")).to_have_text("● serving")
    (after,) = store.projections("orders")
    assert after.id != before.id
    assert after.state == "serving"


def test_a_stopped_partition_shows_its_error_and_is_restarted(
    page: Any, serve: Serve, store: EventStore, run: Run
) -> None:
    place(store, 3)
    stopped(store, run)
    address = serve()
    page.goto(f"{address}/projections")
    expect(page.locator("[data-field=state]")).to_have_text("■ stopped")
    page.locator("[data-row]").click()
    expect(page.locator(".fault")).to_contain_text(f"cannot handle {HOSTILE[:-1]}\\u202e")
    Broken.is_broken = False
    page.get_by_role("link", name="Restart…").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(page.get_by_text("1 partition was restarted")).to_be_visible()
    expect(page.locator("[data-field=state]")).to_have_text("● serving", timeout=30_000)
    expect(page.locator(".fault")).to_have_count(0)
    assert store.projections(Broken.name)[0].checkpoint == 3
