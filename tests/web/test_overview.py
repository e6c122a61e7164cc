"""The overview: figures, the chart, what needs attention; and the sampler that counts for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from indelible import ANY, AsyncEventStore, EventStore, NewEvent, Query
from indelible.admin import activity
from indelible.errors import DatabaseUnreachable
from indelible.server.web import sampler as sampling
from indelible.server.web.sampler import Sampler
from tests.support.waiting import wait_until

from .conftest import Serve
from .screens import HOSTILE


def test_an_empty_store_tells_how_to_append(site: httpx.Client) -> None:
    text = site.get("/").text
    assert "No events yet." in text
    assert "indelible append order-1" in text
    assert f"{site.base_url}/api/v1/streams/order-1/events" in text


def test_the_figures_change_live(store: EventStore, site: httpx.Client, page: Any) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {"n": 1}), expected=-1)
    page.goto(str(site.base_url))
    assert page.locator("[data-live=parked]").inner_text() == "0"
    _park(store, "billing")
    page.locator("[data-live=parked]", has_text="1").wait_for(timeout=15_000)
    page.reload()
    page.get_by_role("link", name="billing").first.wait_for()


def test_the_chart_counts_positions(store: EventStore, site: httpx.Client) -> None:
    for number in range(5):
        store.append(f"order-{number}", NewEvent("OrderPlaced", {}), expected=-1)
    for span in ("1h", "24h", "7d", "30d"):
        assert "About 5 events" in site.get("/", params={"range": span}).text
    assert site.get("/", params={"range": "1y"}).status_code == 422


def test_names_are_text(store: EventStore, site: httpx.Client) -> None:
    store.append(f"order-{HOSTILE}", NewEvent(HOSTILE, {}), expected=-1, channel=HOSTILE)
    text = site.get("/").text
    assert "<img" not in text
    assert "{{7*7}}" in text


def test_a_token_of_a_channel_sees_no_figures_of_others(store: EventStore, serve: Serve) -> None:
    store.append("secret-1", NewEvent("SecretTold", {}), expected=-1)
    token = store.create_token("ann", can="read", channels="order").text
    headers = {"Accept": "text/html", "Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=serve(requires_token=True), headers=headers) as client:
        text = client.get("/").text
    assert "Your token sees a part of the store." in text
    assert "secret" not in text.lower()


def test_the_sampler_reads_only_while_somebody_looks(
    store: EventStore, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_HEAD_SECONDS", 0.01)
    monkeypatch.setattr(sampling, "_IDLE_SECONDS", 0.2)
    store.append("order-1", NewEvent("OrderPlaced", {}), expected=-1)
    store.group("billing").create()

    async def watch() -> None:
        async with AsyncEventStore.connect(url, schema=schema) as opened:
            reads = 0
            head = opened.head

            async def counted() -> int:
                nonlocal reads
                reads += 1
                return await head()

            monkeypatch.setattr(opened, "head", counted)
            sampler = Sampler(opened)
            await asyncio.sleep(0)
            assert reads == 0
            assert (await sampler.look()).head == 1
            await _until(lambda: sampler.is_resting)
            before = reads
            await asyncio.sleep(0.1)
            assert reads == before
            assert len(sampler.lags("billing")) >= 1
            await sampler.close()

    _run(watch)


def test_the_sampler_outlives_a_database_that_is_away(
    url: str, schema: str, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_HEAD_SECONDS", 0.01)

    async def watch() -> None:
        async with AsyncEventStore.connect(url, schema=schema) as opened:
            head, is_away = opened.head, True

            async def failing() -> int:
                if is_away:
                    raise DatabaseUnreachable("away")
                return await head()

            monkeypatch.setattr(opened, "head", failing)
            sampler = Sampler(opened)
            assert (await sampler.look()).failed == "DatabaseUnreachable"
            is_away = False
            await _until(lambda: not sampler.sample.failed and sampler.sample.head is not None)
            await sampler.close()

    _run(watch)


def test_an_empty_page_shows_the_first_event_by_itself(
    store: EventStore, site: httpx.Client, page: Any
) -> None:
    page.goto(str(site.base_url))
    page.get_by_text("No events yet.").wait_for()
    page.locator("[data-live-state]", has_text="live").wait_for()
    store.append("order-1", NewEvent("OrderPlaced", {}), expected=-1)
    page.get_by_role("img", name="About 1 events").wait_for(timeout=15_000)
    expect(page.locator("[data-live-state]")).to_have_text("● live")


def test_what_needs_attention_comes_by_itself(
    store: EventStore, site: httpx.Client, page: Any
) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {}), expected=-1)
    page.goto(str(site.base_url))
    page.get_by_text("Nothing needs attention.").wait_for()
    _park(store, "billing")
    link = page.locator("[data-attention] a")
    link.wait_for(timeout=15_000)
    assert link.inner_text() == "billing"


def test_a_token_of_a_channel_sees_its_own_readers_alone(store: EventStore, serve: Serve) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {}), expected=-1, channel="order")
    _park(store, "of-all")
    _park(store, "of-orders", Query(channel="order"))
    token = store.create_token("ann", can="read", channels="order").text
    headers = {"Accept": "text/html", "Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=serve(requires_token=True), headers=headers) as client:
        text = client.get("/").text
        live = client.get("/live/overview").text
    assert "of-orders" in text
    assert "of-all" not in text
    assert "figures" not in live


def test_a_log_without_an_index_by_time_is_indexed_in_steps(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "_INDEXED_AT_ONCE", 1_000)
    monkeypatch.setattr(sampling, "_HEAD_SECONDS", 60.0)
    for _ in range(10):
        store.append("order-1", [NewEvent("OrderPlaced", {}) for _ in range(1_000)], expected=ANY)
    assert "is being indexed by time" in site.get("/").text
    wait_until(lambda: "About 10,000 events" in site.get("/").text)


def test_lags_of_a_chart_are_some_of_the_day_with_the_last_one() -> None:
    history = sampling._History()
    begin = datetime(2026, 12, 1, tzinfo=UTC)
    for number in range(2_000):
        history.add(begin + timedelta(seconds=5 * number), number)
    drawn = history.drawn()
    assert len(drawn) <= 240
    assert drawn[-1][1] == 1_999
    assert drawn[0][1] < 60  # the beginning, in steps of a minute
    assert drawn == sorted(drawn)


def _park(store: EventStore, name: str, query: Query | None = None) -> None:
    group = store.group(name)
    group.create(query, max_attempts=1)
    with group.consume() as consumer:
        for event in consumer:
            with suppress(ValueError), event:
                raise ValueError
            break


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in a thread of its own: the browser has a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(work())).result(60)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")
