"""The log: filters, search by a value, paging, and new events as they come."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import expect

from indelible import ANY, EventStore, NewEvent
from tests.support.waiting import wait_until
from tests.web import hostile
from tests.web.conftest import Serve


def _rows(answer: httpx.Response) -> list[int]:
    """The positions of the rows."""
    assert answer.status_code == 200, answer.text
    return [int(found) for found in re.findall(r'<tr data-position="(\d+)"', answer.text)]


def _text(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", "", answer.text))


def _link(answer: httpx.Response, text: str) -> str:
    found = re.search(rf'href="([^"]*)">{re.escape(text)}</a>', answer.text)
    assert found is not None, answer.text
    return found[1].replace("&amp;", "&")


def _append(store: EventStore, *events: NewEvent, stream: str = "order-1") -> int:
    return store.append(stream, list(events), expected=ANY).position


def _event(number: int, **data: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number, **data})


def test_the_newest_events_come_first_and_all_are_reached(
    store: EventStore, site: httpx.Client
) -> None:
    last = _append(store, *map(_event, range(120)))
    answer = site.get("/log")
    assert _rows(answer) == list(range(last, last - 50, -1))
    second = site.get(_link(answer, "Older ›"))
    assert _rows(second) == list(range(last - 50, last - 100, -1))
    third = site.get(_link(second, "Older ›"))
    assert _rows(third) == list(range(last - 100, 0, -1))
    assert "Older ›" not in third.text
    assert _rows(site.get(_link(third, "‹ Newer"))) == _rows(second)
    assert f"/stream?name=order-1&amp;at={last - 1}" in answer.text


def test_types_tags_channels_and_prefixes_filter(store: EventStore, site: httpx.Client) -> None:
    first = _append(store, NewEvent("Placed", {}, tags=["order:1", "by:ann"]))
    second = _append(store, NewEvent("Paid", {}, tags=["order:1"]))
    store.append("bill-1", NewEvent("Sent", {}), expected=ANY, channel="billing")
    third = store.append("bill-2", NewEvent("Paid", {}), expected=ANY, channel="billing").position
    assert _rows(site.get("/log?type=Placed")) == [first]
    assert _rows(site.get("/log?type=Placed&type=Paid")) == [third, second, first]
    assert _rows(site.get("/log?tag=order:1")) == [second, first]
    assert _rows(site.get("/log?tag=order:1&tag=by:ann")) == [first]
    assert _rows(site.get("/log?channel=billing&type=Paid")) == [third]
    assert _rows(site.get("/log?prefix=bill-2")) == [third]
    answer = site.get("/log?type=Paid&channel=billing")
    assert "No event matches" in site.get("/log?type=Missing").text
    assert 'class="chip" href="/log?channel=billing"' in answer.text
    assert 'class="chip" href="/log?type=Paid"' in answer.text


@pytest.fixture
def valued(store: EventStore) -> dict[str, int]:
    """Events with values, by name: their positions."""
    events = {
        "number": {"customer_id": 42},
        "text": {"customer_id": "42"},
        "decimal": {"customer_id": 42.0},
        "other": {"customer_id": 421},
        "nested": {"address": {"city": "Bonn", "lines": ["a", "b"]}},
        "dotted": {"a.b": {"c": True}},
        "null": {"customer_id": None},
        "big": {"customer_id": hostile.BIG},
        "list": {"items": [{"sku": "x1"}, {"sku": "x2"}]},
        "plain": {"note": "address.city"},
    }
    found = {name: _append(store, NewEvent("Happened", data)) for name, data in events.items()}
    found["metadata"] = _append(
        store, NewEvent("Happened", {}, metadata={"customer_id": 42, "user": "ann"})
    )
    return found


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("customer_id", "42", ["number", "text", "decimal", "metadata"]),
        ("customer_id", '"42"', ["text"]),
        ("data.customer_id", "42", ["number", "text", "decimal"]),
        ("metadata.customer_id", "42", ["metadata"]),
        ("customer_id", "42.0", ["number", "decimal", "metadata"]),
        ("customer_id", str(hostile.BIG), ["big"]),
        ("customer_id", str(hostile.BIG - 1), []),
        ("customer_id", "null", ["null"]),
        ("address.city", "Bonn", ["nested"]),
        ("address.city", "bonn", []),
        ("address.lines", "b", ["nested"]),
        ("address.lines.1", "b", ["nested"]),
        ("items.0.sku", "x1", ["list"]),
        ('"a.b".c', "true", ["dotted"]),
        ("user", "ann", ["metadata"]),
        ("customer_id", "1e400", []),
        ("customer_id", "9" * 900, []),
        ("customer_id", "", []),
        ("customer_id", "' OR true --", []),
        ("x') = '1' OR ('1'", "1", []),
        ("customer_id", "%(after)s", []),
    ],
)
def test_a_value_is_compared_as_json(
    site: httpx.Client, valued: dict[str, int], field: str, value: str, expected: list[str]
) -> None:
    answer = site.get("/log", params={"field": field, "value": value})
    assert _rows(answer) == [valued[name] for name in reversed(expected)]
    assert "not live" in answer.text
    hostile.check(answer.text)


@pytest.mark.parametrize("field", [".", "a..b", 'a"b', '"a', "x" * 2_000, ".".join("a" * 50)])
def test_a_field_that_is_no_path_is_refused(site: httpx.Client, field: str) -> None:
    assert site.get("/log", params={"field": field, "value": "1"}).status_code == 422


def test_a_value_is_looked_for_in_steps(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.streams.log_search.FIRST_WINDOW", 10)
    monkeypatch.setattr("indelible.streams.log_search.LARGEST_WINDOW", 20)
    wanted = _append(store, _event(0, customer=7))
    head = _append(store, *map(_event, range(150)))
    answer = site.get("/log?field=customer&value=7")
    assert f"0 found. Looked at positions {head - 69}–{head}." in _text(answer)
    answer = site.get(_link(answer, "Look further back"))
    assert f"0 found. Looked at positions {head - 139}–{head - 70}." in _text(answer)
    answer = site.get(_link(answer, "Look further back"))
    assert _rows(answer) == [wanted]
    assert "back to the first" in _text(answer)
    assert "Look further" not in answer.text


def test_a_tag_is_found_in_the_whole_log_at_once(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.streams.read_log._FIRST_WINDOW", 10)
    wanted = _append(store, NewEvent("Placed", {}, tags=["order:1"]))
    _append(store, *map(_event, range(300)))
    answer = site.get("/log?tag=order:1")
    assert _rows(answer) == [wanted]
    assert "back to the first" in _text(answer)
    assert "Look further back" in site.get("/log?tag=order:1&prefix=bill-").text


def test_values_and_rights_are_one_query(store: EventStore, serve: Serve) -> None:
    seen = _append(store, NewEvent("Placed", {"customer": 7}))
    _append(store, NewEvent("Kept", {"customer": 7, "word": "mystery"}), stream="secret-1")
    token = store.create_token("narrow", can="read", stream_prefixes=["order-"])
    headers = {"Authorization": f"Bearer {token.text}", "Accept": "text/html"}
    with httpx.Client(base_url=serve(requires_token=True), headers=headers) as client:
        for path in ("/log", "/log?field=customer&value=7", "/log?prefix="):
            answer = client.get(path)
            assert _rows(answer) == [seen]
            for word in ("secret", "mystery", "Kept"):
                assert word not in answer.text
        assert not _rows(client.get("/log?prefix=secret-"))
        assert not _rows(client.get("/log?type=Kept"))
        with client.stream("GET", "/live/log?after=0", timeout=20) as stream:
            assert "Kept" not in _first_rows(stream)


def _first_rows(stream: httpx.Response) -> str:
    lines = stream.iter_lines()
    for line in lines:
        if line == "event: rows":
            return next(found for found in lines if found.startswith("data: "))
    raise AssertionError


def test_archived_and_erased_events_are_found(store: EventStore, site: httpx.Client) -> None:
    archived = _append(store, _event(1, customer=7))
    store.close_stream("order-1", expected=ANY)
    store.archive_stream("order-1")
    erased = _append(store, _event(2, customer=7), stream="order-2")
    store.erase_stream("order-2", reason="asked for")
    assert _rows(site.get("/log?field=customer&value=7")) == [archived]
    answer = site.get("/log")
    assert _rows(answer) == [erased, archived]
    assert "▨" in answer.text


def test_a_moment_leads_to_a_position(store: EventStore, site: httpx.Client) -> None:
    positions = [_append(store, _event(number)) for number in range(3)]
    middle = next(event for event in store.read_all() if event.position == positions[1])
    moment = middle.recorded_at.isoformat()
    answer = site.get("/log", params={"to": moment, "type": "Happened"})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/log?type=Happened&before={positions[1] + 1}"
    assert _rows(site.get(answer.headers["location"])) == positions[1::-1]
    assert site.get("/log?to=2").headers["location"] == "/log?before=3"
    assert site.get("/log?to=1,842,117").headers["location"] == "/log?before=1842118"
    early = (middle.recorded_at - timedelta(days=400)).strftime("%Y-%m-%d %H:%M")
    assert site.get("/log", params={"to": early}).headers["location"] == "/log?before=1"
    assert site.get("/log?to=yesterday").status_code == 422
    assert "No events there" in site.get("/log?before=1").text


def test_fields_that_nobody_filled_in_filter_nothing(store: EventStore, site: httpx.Client) -> None:
    wanted = _append(store, NewEvent("Placed", {}))
    _append(store, _event(1))
    answer = site.get("/log?type=Placed&type=&tag=&channel=&prefix=&field=&value=&to=")
    assert _rows(answer) == [wanted]
    assert answer.text.count('class="chip" ') == 1
    partial = site.get("/log?type=Placed", headers={"HX-Request-Type": "partial"})
    assert partial.text.lstrip().startswith("<div")
    assert _rows(partial) == [wanted]


def test_wrong_parameters_are_refused(site: httpx.Client) -> None:
    assert site.get("/log?before=3&after=2").status_code == 422
    assert site.get("/log?before=-1").status_code == 422
    assert site.get("/log?after=" + "9" * 30).status_code == 422
    assert site.get(f"/log?after={2**62}").status_code == 200
    assert site.get("/log?value=3").status_code == 422
    assert site.get("/log?nothing=1").status_code == 422
    assert site.get("/log", params={"type": "a\x00"}).status_code == 422


def test_an_empty_log_tells_the_first_step(site: httpx.Client) -> None:
    assert "indelible append" in site.get("/log").text


def test_hostile_names_and_data_are_shown_as_they_are(
    store: EventStore, site: httpx.Client, page: Any
) -> None:
    hostile.fill(store)
    answer = site.get("/log")
    assert len(_rows(answer)) == len(hostile.NAMES)
    hostile.check(answer.text)
    for name in hostile.NAMES:
        for filters in (
            {"type": name},
            {"tag": f"tag:{name}"[:200]},
            {"channel": name},
            {"prefix": name},
            {"field": "by", "value": name},
        ):
            found = site.get("/log", params=filters)
            assert len(_rows(found)) == 1, filters
            hostile.check(found.text)
    page.goto(f"{site.base_url}/log")
    expect(page.locator("#live-state")).to_have_text("● live")
    hostile.fill(store)
    expect(page.locator("table.log tbody tr")).to_have_count(2 * len(hostile.NAMES))
    assert page.title() == "Log · Indelible"
    assert page.locator("table.log img").count() == 0
    assert page.locator("table.log svg").count() == 0


def _live(page: Any, address: str) -> None:
    page.goto(address)
    expect(page.locator("#live-state")).to_have_text("● live")


def test_new_events_come_live(store: EventStore, site: httpx.Client, page: Any) -> None:
    _live(page, f"{site.base_url}/log")
    position = _append(store, _event(1, word="one"))
    expect(page.locator("table.log tbody tr")).to_have_count(1)
    expect(page.locator(f'[data-position="{position}"] .line')).to_contain_text('word "one"')
    expect(page.locator("#nothing")).to_have_count(0)
    _append(store, _event(2, word="two"))
    expect(page.locator("table.log tbody tr").first).to_contain_text('word "two"')


def test_live_rows_are_those_of_the_filters(
    store: EventStore, site: httpx.Client, page: Any
) -> None:
    _live(page, f"{site.base_url}/log?type=Paid&tag=order:1&prefix=order-")
    for name, tag, stream in (
        ("Paid", "order:2", "order-1"),
        ("Sent", "order:1", "order-1"),
        ("Paid", "order:1", "bill-1"),
        ("Paid", "order:1", "order-1"),
    ):
        _append(store, NewEvent(name, {}, tags=[tag]), stream=stream)
    expect(page.locator("table.log tbody tr")).to_have_count(1)
    expect(page.locator("table.log tbody tr .of")).to_contain_text("order-1")
    page.reload()
    expect(page.locator("table.log tbody tr")).to_have_count(1)


def test_the_link_of_a_filtered_page_shows_the_same(
    store: EventStore, site: httpx.Client, page: Any, chromium: Any
) -> None:
    for number in range(20):
        tags = [f"order:{number % 2}"]
        _append(store, NewEvent("Paid", {"customer": {"id": number % 4}}, tags=tags))
        _append(store, NewEvent("Sent", {"customer": {"id": number % 4}}, tags=tags))
    page.goto(f"{site.base_url}/log")
    page.get_by_label("Type", exact=True).fill("Paid")
    page.get_by_label("Tag", exact=True).fill("order:1")
    page.get_by_label("Field", exact=True).fill("customer.id")
    page.get_by_label("has value").fill("3")
    page.get_by_role("button", name="Show", exact=True).click()
    rows = page.locator("table.log tbody tr")
    expect(rows).to_have_count(5)
    context = chromium.new_context(java_script_enabled=False)
    other = context.new_page()
    other.goto(page.url)
    shown = [
        [row.get_attribute("data-position") for row in each.locator("table.log tbody tr").all()]
        for each in (page, other)
    ]
    context.close()
    assert shown[0] == shown[1]
    page.get_by_role("link", name="tag order:1").click()
    expect(rows).to_have_count(5)
    page.get_by_role("link", name="value customer.id = 3").click()
    expect(rows).to_have_count(20)


def test_pause_counts_and_show_shows(store: EventStore, site: httpx.Client, page: Any) -> None:
    _append(store, _event(0))
    _live(page, f"{site.base_url}/log")
    page.keyboard.press("Space")
    expect(page.locator("#live-paused")).to_be_visible()
    _append(store, *map(_event, range(28)))
    expect(page.locator("#pending")).to_have_text("28 new: show")
    assert page.locator("table.log tbody tr").count() == 1
    page.click("#pending")
    expect(page.locator("#pending")).to_be_hidden()
    expect(page.locator("table.log tbody tr[data-position]")).to_have_count(21)
    expect(page.locator("tr.gap")).to_contain_text("28 events came in this second; 20 shown")
    expect(page.locator("#live-state")).to_be_visible()
    page.click("#pause")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    page.click("#pause")
    _append(store, _event(99, word="resumed"))
    expect(page.locator("table.log tbody tr").first).to_contain_text("resumed")


def test_reading_pauses_by_itself(store: EventStore, site: httpx.Client, page: Any) -> None:
    _append(store, *map(_event, range(50)))
    _live(page, f"{site.base_url}/log")
    page.locator("table.log .line").first.select_text()
    expect(page.locator("#live-paused")).to_be_visible()
    page.click("#pause")
    page.evaluate("getSelection().removeAllRanges()")
    page.click("#pause")
    page.click("#pause")
    expect(page.locator("#live-state")).to_be_visible()
    page.mouse.wheel(0, 800)
    expect(page.locator("#live-paused")).to_be_visible()


def test_a_page_that_comes_back_continues_where_it_was(
    store: EventStore, site: httpx.Client, page: Any
) -> None:
    _live(page, f"{site.base_url}/log")
    _append(store, _event(1))
    expect(page.locator("table.log tbody tr")).to_have_count(1)
    _hide(page, hidden=True)
    _append(store, _event(2), _event(3))
    _hide(page, hidden=False)
    expect(page.locator("table.log tbody tr")).to_have_count(3)


def _hide(page: Any, *, hidden: bool) -> None:
    page.evaluate(
        "value => { Object.defineProperty(document, 'hidden', { value, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_eight_tabs_all_load_and_the_one_that_is_seen_is_live(
    store: EventStore, site: httpx.Client, chromium: Any
) -> None:
    context = chromium.new_context()
    tabs = []
    for _ in range(8):
        for other in tabs:
            _hide(other, hidden=True)  # headless tabs are all visible
        tabs.append(context.new_page())
        _live(tabs[-1], f"{site.base_url}/log")
    _append(store, _event(1))
    expect(tabs[-1].locator("table.log tbody tr")).to_have_count(1)
    for tab in tabs[:-1]:
        assert tab.locator("table.log tbody tr").count() == 0
    _hide(tabs[-1], hidden=True)
    _hide(tabs[0], hidden=False)
    expect(tabs[0].locator("table.log tbody tr")).to_have_count(1)
    context.close()


def test_a_burst_comes_in_few_messages(store: EventStore, site: httpx.Client) -> None:
    with site.stream("GET", "/live/log?after=0", timeout=30) as stream:
        lines = stream.iter_lines()
        next(lines)
        for _ in range(30):
            _append(store, *map(_event, range(100)))
        messages, total = 0, 0
        for line in lines:
            if line.startswith("data: ") and '"count"' in line:
                messages += 1
                found = re.search(r'"count":(\d+)', line)
                assert found is not None
                total += int(found[1])
                assert line.count("data-position=") <= 20
            if total >= 3_000:
                break
    assert total == 3_000
    assert messages < 30


def test_a_page_that_was_away_for_long_skips(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.server.web.log._BEHIND", 100)
    head = _append(store, *map(_event, range(500)))
    with site.stream("GET", "/live/log?after=0", timeout=30) as stream:
        assert f"{head - 20:,} positions passed" in _first_rows(stream)


def test_it_begins_where_the_page_ends(store: EventStore, site: httpx.Client) -> None:
    _append(store, _event(1))
    answer = site.get("/log")
    _append(store, _event(2, word="second"))
    found = re.search(r'data-live-log="([^"]*)"', answer.text)
    assert found is not None
    with site.stream("GET", found[1].replace("&amp;", "&"), timeout=30) as stream:
        rows = _first_rows(stream)
    assert rows.count("data-position=") == 1
    assert "second" in rows


def test_a_slow_search_says_so(
    store: EventStore, site: httpx.Client, connection: psycopg.Connection, schema: str
) -> None:
    _append(store, _event(1))
    with connection.transaction():
        connection.execute(f"LOCK TABLE {schema}.events IN ACCESS EXCLUSIVE MODE")
        answer = site.get("/log?field=a&value=1")
    assert answer.status_code == 503
    assert "too long" in answer.text or "stopped" in answer.text
    wait_until(lambda: site.get("/log").status_code == 200)
