"""One stream: its list, the two times, an event in full, what is new, closing and reopening."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from indelible import EventStore, NewEvent

from .screens import HOSTILE

_MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def menu(store: EventStore) -> EventStore:
    """A stream whose facts were recorded late, in time and ahead of time."""
    for version, days in enumerate((0, -30, 400, 0)):
        at = datetime.now(UTC) + timedelta(days=days) if days else None
        store.append(
            "menu-1",
            NewEvent("PriceSet", {"price": version, "note": "x"}, valid_at=at, tags=("dish:7",)),
            expected=version - 1,
        )
    return store


def _versions(text: str) -> list[int]:
    return [int(each) for each in re.findall(r'<tr class="[^"]*" data-v="(\d+)"', text)]


def _get(site: httpx.Client, **parameters: Any) -> str:
    answer = site.get("/stream", params={"name": "menu-1", **parameters})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_newest_events_come_first(menu: EventStore, site: httpx.Client) -> None:
    text = _get(site)
    assert _versions(text) == [3, 2, 1, 0]
    assert _versions(_get(site, order="up")) == [0, 1, 2, 3]
    assert "All 4 events, as known now." in text
    assert "◇" in text
    assert "▷" in text


def test_both_times_answer_together(menu: EventStore, site: httpx.Client) -> None:
    events = list(menu.read("menu-1"))
    known = _get(site, as_of=events[2].position)
    assert _versions(known) == [2, 1, 0]
    assert "1 event recorded later" in known
    shown = _get(site, as_of=events[2].position, later="show")
    assert _versions(shown) == [3, 2, 1, 0]
    assert "not known yet" in shown
    moment = events[1].recorded_at.isoformat()
    assert _versions(_get(site, as_of=moment)) == [1, 0]
    held = _get(site, valid_at="now", order="up")
    assert _versions(held) == [1, 0, 3, 2]
    assert "3 of 4 events" in held
    assert "holds later" in held
    both = " ".join(_get(site, as_of=events[2].position, valid_at="now").split())
    assert "What we knew" in both
    assert "2 of 4 events" in both


def test_the_list_agrees_with_the_store(menu: EventStore, site: httpx.Client) -> None:
    for position in [event.position for event in menu.read("menu-1")]:
        now = datetime.now(UTC)
        found = menu.read("menu-1", as_of=position, valid_at=now)
        text = _get(site, as_of=position, valid_at=now.isoformat(), order="up")
        assert [
            version
            for version, unheld in re.findall(r'<tr class="\s*(?:not-yet)?" data-v="(\d+)"()', text)
            if not re.search(rf'class="\s*not-yet" data-v="{version}"', text)
        ] == [str(event.version) for event in found]


def test_parameters_that_cannot_be_right_are_refused(menu: EventStore, site: httpx.Client) -> None:
    for parameters in ({"as_of": "monday"}, {"valid_at": "x"}, {"at": "-1"}, {"scale": "odd"}):
        answer = site.get("/stream", params={"name": "menu-1", **parameters})
        assert answer.status_code == 422
        assert next(iter(parameters)) in answer.text
    assert site.get("/stream", params={"name": "menu-1", "nonsense": "1"}).status_code == 422
    assert site.get("/stream").status_code == 422


def test_an_event_is_shown_in_full(menu: EventStore, site: httpx.Client) -> None:
    (event,) = list(menu.read("menu-1", from_version=1, to_version=1))
    text = _get(site, at=1)
    assert str(event.id) in text
    assert "dish:7" in text
    assert "1 difference" in " ".join(text.split())
    assert 'href="/stream?name=menu-1&amp;at=0"' in text
    copied = re.search(r'data-copy="([^"]*)" data-copy-event', text)
    assert copied is not None
    assert json.loads(copied[1].replace("&#34;", '"'))["data"] == {"price": 1, "note": "x"}
    assert "v0" in _get(site, at=0)


def test_numbers_keep_their_digits(store: EventStore, site: httpx.Client) -> None:
    store.append("menu-1", NewEvent("PriceSet", {"n": 9007199254740993}), expected=-1)
    assert "9007199254740993</span>" in _get(site)


def test_text_and_type_filter_the_list(menu: EventStore, site: httpx.Client) -> None:
    menu.append("menu-1", NewEvent("Renamed", {"to": "Needle Soup"}), expected=3)
    found = _get(site, q="needle")
    assert _versions(found) == [4]
    assert "Looked at versions 0–4." in found
    assert _versions(_get(site, type="Renamed")) == [4]
    assert "No event here." in _get(site, q="haystack")


def test_a_long_stream_is_shown_in_pages(store: EventStore, site: httpx.Client) -> None:
    for begin in range(0, 2_300, 1_150):
        store.append(
            "menu-1",
            [NewEvent("PriceSet", {"price": n}) for n in range(begin, begin + 1_150)],
            expected=begin - 1,
        )
    first = _get(site)
    assert _versions(first) == list(range(2299, 2249, -1))
    assert "One of" not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = site.get(following[1].replace("&amp;", "&")).text
    assert _versions(second)[0] == 2249
    position = next(store.read("menu-1", from_version=1000)).position
    assert _versions(_get(site, as_of=position))[0] == 1000
    text = _get(site, q='"price":7}')
    assert _versions(text) == [7]
    assert _versions(_get(site, order="up", **{"from": 5}))[0] == 5


def test_what_was_never_written_has_neighbours(menu: EventStore, site: httpx.Client) -> None:
    answer = site.get("/stream", params={"name": "menu-2"})
    assert answer.status_code == 404
    assert "menu-1" in answer.text


def test_erased_data_says_so(menu: EventStore, site: httpx.Client) -> None:
    menu.close_stream("menu-1", expected=3, reason="the restaurant has moved")
    menu.erase_stream("menu-1", reason="asked by ann")
    text = _get(site)
    assert "The data of this event was erased." in text
    assert "the restaurant has moved" in text
    assert "asked by ann" in text


def test_an_event_is_found_by_id_and_position(menu: EventStore, site: httpx.Client) -> None:
    event = next(menu.read("menu-1", from_version=2))
    for parameters in ({"id": str(event.id)}, {"position": event.position}):
        answer = site.get("/event", params=parameters)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/stream?name=menu-1&at=2"
    for parameters in ({"id": str(uuid4())}, {"position": 10**9}, {}):
        assert site.get("/event", params=parameters).status_code == 404


def test_hostile_names_and_data_are_text(store: EventStore, site: httpx.Client, page: Any) -> None:
    name = f"order-{HOSTILE}"
    store.append(
        name,
        NewEvent(
            HOSTILE, {HOSTILE: [HOSTILE]}, metadata={HOSTILE: HOSTILE}, tags=(f"a:{HOSTILE}",)
        ),
        expected=-1,
    )
    answer = site.get("/stream", params={"name": name})
    assert "<img" not in answer.text
    assert "<svg onload" not in answer.text
    page.goto(str(answer.url))
    assert page.locator("[onerror], [onload]").count() == 0
    assert page.locator("main").inner_text().count("\\u202e") >= 5


def test_the_sliders_move_by_keys(menu: EventStore, site: httpx.Client, page: Any) -> None:
    events = list(menu.read("menu-1"))
    page.goto(f"{site.base_url}/stream?name=menu-1")
    page.locator("html[data-scripts]").wait_for()
    page.keyboard.press("[")
    page.get_by_text("What we knew").wait_for()
    assert f"as_of={events[3].position}" in page.url
    page.keyboard.press("[")
    page.get_by_text("3 of 4 events").wait_for()
    page.keyboard.press("{")
    page.get_by_text("about").wait_for()
    assert "valid_at=" in page.url
    shown = page.locator(".sentence").inner_text()
    second = page.context.new_page()
    second.goto(page.url)
    assert second.locator(".sentence").inner_text() == shown
    assert second.locator("tbody").inner_text() == page.locator("tbody").inner_text()
    second.close()
    page.keyboard.press("0")
    page.get_by_text("All 4 events, as known now.").wait_for()


def test_a_slider_moves_by_mouse(menu: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/stream?name=menu-1")
    page.locator("html[data-scripts]").wait_for()
    box = page.locator("#slide-recorded").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=8)
    page.mouse.up()
    page.locator(".sentence", has_text="What we knew").wait_for()
    assert "as_of=" in page.url
    assert page.locator(".tick.off").count() > 0
    page.go_back()
    page.get_by_text("All 4 events, as known now.").wait_for()


def test_a_new_event_arrives_live(menu: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/stream?name=menu-1")
    page.locator("html[data-scripts]").wait_for()
    assert page.locator("tbody tr[data-v]").count() == 4
    menu.append("menu-1", NewEvent("PriceSet", {"price": 99}), expected=3)
    page.locator("tbody tr[data-v='4']").wait_for(timeout=15_000)
    page.goto(f"{site.base_url}/stream?name=menu-1&at=1")
    page.locator("html[data-scripts]").wait_for()
    menu.append("menu-1", NewEvent("PriceSet", {"price": 100}), expected=4)
    page.get_by_role("link", name="1 new event").click()
    page.locator("tbody tr[data-v='5']").wait_for()


def test_an_event_is_copied(menu: EventStore, site: httpx.Client, page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{site.base_url}/stream?name=menu-1&at=2")
    page.locator("html[data-scripts]").wait_for()
    page.keyboard.press("c")
    page.locator("[data-copy-event][data-told]").wait_for()
    copied = json.loads(page.evaluate("() => navigator.clipboard.readText()"))
    assert copied["data"] == {"price": 2, "note": "x"}


def test_rows_are_walked_by_keys(menu: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/stream?name=menu-1")
    page.locator("html[data-scripts]").wait_for()
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_url("**at=2*")


def test_a_stream_is_closed_and_reopened(menu: EventStore, site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/stream?name=menu-1")
    page.get_by_role("link", name="Close…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("the restaurant has moved")
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Reopen…").wait_for()
    assert page.get_by_text("the restaurant has moved").count() == 1
    asked = site.get("/stream/reopen", params={"name": "menu-1"}).text
    form = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', asked))
    assert site.post("/stream/reopen", data=form).status_code == 303
    found = menu.stream("menu-1")
    assert found is not None
    assert found.closed_at is None


def test_a_stream_is_not_closed_if_it_has_grown(menu: EventStore, site: httpx.Client) -> None:
    asked = site.get("/stream/close", params={"name": "menu-1"}).text
    form = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', asked))
    menu.append("menu-1", NewEvent("PriceSet", {"price": 99}), expected=3)
    refused = site.post("/stream/close", data=form)
    assert refused.status_code == 409
    assert "5 events now, 4 when you looked." in refused.text


def test_the_page_works_without_scripts(
    menu: EventStore, chromium: Any, site: httpx.Client
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    try:
        opened = context.new_page()
        opened.goto(f"{site.base_url}/stream?name=menu-1")
        opened.get_by_text("Exact moments").click()
        opened.get_by_label("Valid at").last.fill("now")
        opened.get_by_role("button", name="Show").click()
        assert "3 of 4 events" in opened.locator(".sentence").inner_text()
    finally:
        context.close()


@pytest.mark.parametrize("length", [130, 2_130])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"order": "up"},
        {"type": "Renamed"},
        {"type": "Renamed", "order": "up"},
        {"as_of": "100"},
        {"valid_at": "now"},
    ],
)
def test_the_pages_have_each_event_once(
    store: EventStore, site: httpx.Client, length: int, parameters: dict[str, str]
) -> None:
    types = ["Renamed" if version % 17 == 0 else "PriceSet" for version in range(length)]
    store.append("menu-1", [NewEvent(each, {}) for each in types], expected=-1)
    found: list[int] = []
    address: str | None = str(httpx.URL("/stream", params={"name": "menu-1", **parameters}))
    while address is not None:
        text = site.get(address).text
        found += _versions(text)
        link = re.search(r'rel="next" href="([^"]+)"', text)
        address = link and link[1].replace("&amp;", "&")
    wanted = [
        event.version
        for event in store.read("menu-1")
        if event.type == parameters.get("type", event.type)
        and event.position <= int(parameters.get("as_of", length))
    ]
    assert found == (wanted if parameters.get("order") == "up" else wanted[::-1])
