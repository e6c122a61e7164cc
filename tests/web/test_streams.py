"""The list of streams."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from indelible import ANY, EventStore, NewEvent
from tests.web import hostile
from tests.web.conftest import Serve


def _fill(store: EventStore, count: int, prefix: str = "order-") -> list[str]:
    names = [f"{prefix}{number:04}" for number in range(count)]
    with store.transaction() as transaction:
        for name in names:
            transaction.append(name, NewEvent("Happened", {}), expected=ANY)
    return names


def _names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return re.findall(r'<a data-row class="name" href="/stream\?name=([^"]*)"', answer.text)


def _link(answer: httpx.Response, text: str) -> str | None:
    found = re.search(rf'href="([^"]*)">{re.escape(text)}</a>', answer.text)
    return None if found is None else found[1].replace("&amp;", "&")


def test_all_streams_are_reached_forwards_and_backwards(
    store: EventStore, site: httpx.Client
) -> None:
    names = _fill(store, 120)
    answer = site.get("/streams")
    pages = [_names(answer)]
    while link := _link(answer, "Next ›"):
        answer = site.get(link)
        pages.append(_names(answer))
    assert [name for page in pages for name in page] == names
    assert [len(page) for page in pages] == [50, 50, 20]
    back = _link(answer, "‹ Previous")
    assert back is not None
    answer = site.get(back)
    assert _names(answer) == pages[1]
    back = _link(answer, "‹ Previous")
    assert back is not None
    answer = site.get(back)
    assert _names(answer) == pages[0]
    assert _link(answer, "‹ Previous") is None


def test_a_prefix_ends_where_its_names_end(store: EventStore, site: httpx.Client) -> None:
    _fill(store, 3)
    wanted = _fill(store, 2, "orders-")
    _fill(store, 2, "ordf")
    assert _names(site.get("/streams?prefix=orders-")) == wanted
    assert len(_names(site.get("/streams?prefix=order"))) == 5
    store.append("\U0010ffff\U0010ffffz", NewEvent("Happened", {}), expected=ANY)
    assert len(_names(site.get("/streams", params={"prefix": "\U0010ffff"}))) == 1


def test_an_unknown_prefix_tells_its_neighbours(store: EventStore, site: httpx.Client) -> None:
    store.append("alpha", NewEvent("Happened", {}), expected=ANY)
    store.append("gamma", NewEvent("Happened", {}), expected=ANY)
    answer = site.get("/streams?prefix=beta")
    assert "No stream begins with" in answer.text
    assert re.findall(r'class="name" href="/stream\?name=(\w+)"', answer.text) == [
        "alpha",
        "gamma",
    ]


def test_states_and_channels_filter(store: EventStore, site: httpx.Client) -> None:
    _fill(store, 4)
    store.append("bill-1", NewEvent("Happened", {}), expected=ANY, channel="billing")
    store.close_stream("order-0001", expected=ANY)
    store.close_stream("order-0002", expected=ANY)
    store.archive_stream("order-0002")
    store.erase_stream("order-0003", reason="asked for")
    assert _names(site.get("/streams?state=closed")) == ["order-0001"]
    assert _names(site.get("/streams?state=archived")) == ["order-0002"]
    assert _names(site.get("/streams?state=erased")) == ["order-0003"]
    assert _names(site.get("/streams?state=open")) == ["bill-1", "order-0000"]
    assert _names(site.get("/streams?channel=billing")) == ["bill-1"]
    text = site.get("/streams").text
    assert "▨" in text
    assert "▤" in text


def test_a_rare_state_is_looked_for_in_steps(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.streams.stream_list.NAMES_AT_ONCE", 60)
    _fill(store, 200)
    store.close_stream("order-0150", expected=ANY)
    answer = site.get("/streams?state=closed")
    steps = 0
    while not _names(answer):
        link = _link(answer, "Continue")
        assert link is not None
        answer = site.get(link)
        steps += 1
    assert steps == 2
    assert _names(answer) == ["order-0150"]
    back = site.get("/streams?state=closed&before=order-0199")
    assert _names(back) == ["order-0150"]
    assert _link(back, "Continue")


def test_recently_changed_streams_come_first(store: EventStore, site: httpx.Client) -> None:
    _fill(store, 30)
    store.append("order-0007", NewEvent("Happened", {}), expected=ANY)
    names = _names(site.get("/streams?tab=recent"))
    assert names[:2] == ["order-0007", "order-0029"]
    assert len(names) == 25


def test_an_empty_store_tells_the_first_step(site: httpx.Client) -> None:
    assert "indelible append" in site.get("/streams").text
    assert site.get("/streams?tab=recent").status_code == 200


def test_hostile_names_are_shown_as_they_are(store: EventStore, site: httpx.Client) -> None:
    hostile.fill(store)
    for path in ("/streams", "/streams?tab=recent"):
        answer = site.get(path)
        assert len(_names(answer)) == len(hostile.NAMES)
        hostile.check(answer.text)
    for name in hostile.NAMES:
        query = urlencode({"prefix": name, "channel": name})
        assert len(_names(site.get(f"/streams?{query}"))) == 1
        nothing = site.get("/streams", params={"prefix": f"no{name}"[:255]})
        assert "No stream begins with" in nothing.text
        hostile.check(nothing.text)


def test_a_token_sees_its_streams_only(store: EventStore, serve: Serve) -> None:
    _fill(store, 3)
    _fill(store, 3, "secret-")
    store.append("bill-1", NewEvent("Happened", {}), expected=ANY, channel="billing")
    token = store.create_token("narrow", can="read", stream_prefixes=["order-", "bill-"])
    headers = {"Authorization": f"Bearer {token.text}", "Accept": "text/html"}
    with httpx.Client(base_url=serve(requires_token=True), headers=headers) as client:
        for path in ("/streams", "/streams?tab=recent"):
            answer = client.get(path)
            assert set(_names(answer)) == {"bill-1", "order-0000", "order-0001", "order-0002"}
            assert "secret" not in answer.text
        answer = client.get("/streams?prefix=secret-")
        assert not _names(answer)
        assert "secret-0" not in answer.text


def test_wrong_parameters_are_refused(site: httpx.Client) -> None:
    assert site.get("/streams?nothing=1").status_code == 422
    assert site.get("/streams?state=gone").status_code == 422
    assert site.get("/streams", params={"after": "x" * 300}).status_code == 422
    assert site.get("/streams?prefix=&channel=&state=").status_code == 200


def test_keys_go_along_the_rows(store: EventStore, site: httpx.Client, page: Any) -> None:
    _fill(store, 3)
    page.goto(f"{site.base_url}/streams")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "order-0001"
