"""From an event to what caused it, what it led to, and all events of its correlation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from indelible import ANY, EventStore, NewEvent
from indelible.admin import correlation
from indelible.postgres.maintenance import index_correlation
from tests.web.conftest import Serve

HOSTILE = '<img src=x onerror="alert(1)">"><svg onload=alert(1)>{{7*7}}\u202e'


def append(
    store: EventStore,
    stream: str,
    event_type: str = "Happened",
    *,
    correlates: str | None = "flow-1",
    cause: UUID | None = None,
    tags: tuple[str, ...] = (),
) -> UUID:
    event_id = uuid4()
    metadata: dict[str, str] = {}
    if correlates is not None:
        metadata["correlation_id"] = correlates
    if cause is not None:
        metadata["causation_id"] = str(cause)
    event = NewEvent(event_type, {}, id=event_id, metadata=metadata, tags=tags)
    store.append(stream, event, expected=ANY)
    return event_id


def flow(store: EventStore) -> Mapping[str, UUID]:
    """An order that leads to a delivery and an invoice, and the delivery to a mail."""
    placed = append(store, "order-1", "OrderPlaced")
    append(store, "noise-1", "Noise", correlates=None)
    created = append(store, "delivery-1", "DeliveryCreated", cause=placed)
    sent = append(store, "invoice-1", "InvoiceSent", cause=placed)
    mailed = append(store, "mail-1", "Mailed", cause=created)
    return {"placed": placed, "created": created, "sent": sent, "mailed": mailed}


def pane(site: httpx.Client, stream: str, at: int = 0) -> str:
    answer = site.get("/stream", params={"name": stream, "at": at})
    assert answer.status_code == 200, answer.text
    found = re.search(r'<ul class="plain links.*?</ul>', answer.text, re.DOTALL)
    return "" if found is None else found.group()


def screen(site: httpx.Client, **given: Any) -> str:
    answer = site.get("/correlation", params={"id": "flow-1", **given})
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("is_indexed", [False, True])
def test_an_event_links_to_its_cause_and_its_effects(
    site: httpx.Client, store: EventStore, is_indexed: bool
) -> None:
    if is_indexed:
        index_correlation(store._engine._settings)
    flow(store)
    created = pane(site, "delivery-1")
    assert 'caused by <a href="/stream?name=order-1&amp;at=0">' in created
    assert 'led to <a href="/stream?name=mail-1&amp;at=0">' in created
    assert "· 4 events in 4 streams →" in created
    placed = pane(site, "order-1")
    assert "caused by" not in placed
    assert placed.count("led to") == 2
    assert pane(site, "noise-1") == ""


def test_a_cause_that_is_no_event_here_is_no_link(site: httpx.Client, store: EventStore) -> None:
    append(store, "order-1", cause=UUID(int=7))
    found = pane(site, "order-1")
    assert "which is no event here" in found
    assert "· 1 event in 1 stream →" in found


def test_the_head_tells_how_far_was_looked(
    site: httpx.Client, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = flow(store)
    assert "Looked at the whole log, without an index." in screen(site, event=ids["placed"])
    monkeypatch.setattr(correlation, "NEAR", 1)
    monkeypatch.setattr(correlation, "NEXT", 1)
    text = screen(site, event=ids["created"])
    assert "Looked near position 3 only: positions 3–4." in text
    assert "indelible store index-correlation --schema" in text
    assert "at least 2 events in 2 streams" in pane(site, "delivery-1")
    assert "Looked at the newest positions only: 5–5." in screen(site)

    index_correlation(store._engine._settings)
    text = screen(site)
    assert "Found by the index of the whole log." in text
    assert "4 events · 4 streams" in text


def test_without_the_index_a_tag_finds_what_is_far(
    site: httpx.Client, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "NEAR", 0)
    first = append(store, "order-1", tags=("flow:flow-1",))
    append(store, "noise-1", correlates=None)
    append(store, "order-2", tags=("flow:flow-1",))
    text = screen(site, event=first)
    assert "Found by the tag <code><bdi>flow:flow-1</bdi></code>" in text
    assert "2 events · 2 streams" in text


def test_graph_and_list_have_the_same_events(site: httpx.Client, store: EventStore) -> None:
    flow(store)
    links = {
        view: re.findall(r'href="(/stream\?name=[a-z0-9-]+&amp;at=\d+)"', screen(site, view=view))
        for view in ("graph", "list")
    }
    assert len(set(links["list"])) == 4
    assert set(links["graph"]) == set(links["list"])
    both = screen(site)
    assert both.count('class="edge"') == 3
    assert both.index("DeliveryCreated") < both.index("Mailed")
    listed = screen(site, view="list")
    assert "<svg width" not in listed
    # The mail stands behind what caused it, and before the invoice, which came earlier.
    assert listed.index("Mailed") < listed.index("InvoiceSent")
    assert listed.count('<li class="d1"') == 2
    assert listed.count('<li class="d2"') == 1


def test_many_events_are_a_list_and_too_many_are_cut(site: httpx.Client, store: EventStore) -> None:
    cause = None
    for _ in range(205):  # a chain, deeper than anything could be indented
        cause = append(store, "order-1", cause=cause)
    text = screen(site)
    assert "the first 200 events" in text
    assert "<svg width" not in text
    assert text.count('<li class="d') == 200
    assert text.count('<li class="d12"') == 188
    assert screen(site, view="graph").count('class="edge"') == 199


def test_causes_in_a_circle_end(site: httpx.Client, store: EventStore) -> None:
    one, other = uuid4(), uuid4()
    for own, cause in ((one, other), (other, one), (uuid4(), None)):
        metadata = {"correlation_id": "flow-1", "causation_id": str(cause or one)}
        store.append("order-1", NewEvent("A", {}, id=own, metadata=metadata), expected=ANY)
    itself = uuid4()
    metadata = {"correlation_id": "flow-1", "causation_id": str(itself)}
    store.append("order-1", NewEvent("A", {}, id=itself, metadata=metadata), expected=ANY)
    assert screen(site, view="list").count('<li class="d') == 4
    assert "caused by" not in pane(site, "order-1", 3).replace("caused by <span", "")


def test_nothing_of_a_hostile_store_becomes_markup(
    site: httpx.Client, store: EventStore, page: Any
) -> None:
    first = append(store, f"order-{HOSTILE}", HOSTILE, correlates=HOSTILE)
    append(store, f"order-{HOSTILE}", HOSTILE, correlates=HOSTILE, cause=first)
    text = screen(site, id=HOSTILE, event=first)
    assert "2 events · 1 stream" in text
    assert "<img" not in text
    assert "<svg onload" not in text
    assert "{{7*7}}" in text
    assert "\u202e" not in re.sub(r'data-copy="[^"]*"', "", text)  # what is copied stays as it is
    for view in ("graph", "list"):
        page.goto(f"{site.base_url}/correlation?{httpx.QueryParams(id=HOSTILE, view=view)}")
        assert page.locator("main img").count() == 0
        assert page.locator("main [onload]").count() == 0
    page.goto(f"{site.base_url}/stream?{httpx.QueryParams(name=f'order-{HOSTILE}', at='1')}")
    assert page.locator("main img").count() == 0


def test_only_what_the_token_may_read_is_shown(serve: Serve, store: EventStore) -> None:
    ids = flow(store)
    created = store.create_token("page", can="read", channels="delivery")
    with httpx.Client(base_url=serve(requires_token=True)) as client:
        client.headers.update({"Authorization": f"Bearer {created.text}", "Accept": "text/html"})
        for event in (None, ids["placed"], ids["created"]):
            given = {"id": "flow-1", **({} if event is None else {"event": str(event)})}
            text = client.get("/correlation", params=given).text
            assert "1 event · 1 stream" in text
            assert "order-1" not in text
            assert "OrderPlaced" not in text
        links = pane(client, "delivery-1")
        assert "order-1" not in links
        assert "mail-1" not in links
        assert "· 1 event in 1 stream →" in links


def test_an_unknown_correlation_is_a_sentence(site: httpx.Client, store: EventStore) -> None:
    flow(store)
    assert "No event here has this correlation." in screen(site, id="unknown")
    assert site.get("/correlation", params={"id": ""}).status_code == 422
    assert site.get("/correlation", params={"id": "a", "event": "b"}).status_code == 422


def test_a_correlation_is_followed_from_an_event_and_back(
    site: httpx.Client, store: EventStore, page: Any
) -> None:
    flow(store)
    page.goto(f"{site.base_url}/stream?name=order-1&at=0")
    page.get_by_role("link", name=re.compile("4 events in 4 streams")).click()
    page.wait_for_url("**/correlation?**")
    assert page.locator("svg a[aria-current]").count() == 1
    assert not page.locator("ol.list").is_visible()
    page.locator("svg a").filter(has_text="Mailed").locator("circle").click()
    page.wait_for_url("**/stream?name=mail-1&at=0")
    page.get_by_role("link", name=re.compile("DeliveryCreated")).click()
    page.wait_for_url("**/stream?name=delivery-1&at=0")


def test_on_a_phone_the_list_comes_first(site: httpx.Client, store: EventStore, page: Any) -> None:
    flow(store)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site.base_url}/correlation?id=flow-1")
    assert page.locator("ol.list").is_visible()
    assert not page.locator("svg .edge").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Graph").click()
    page.wait_for_url("**view=graph")
    assert page.locator("svg circle").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
