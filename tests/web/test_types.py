"""The event types."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import psycopg
import pytest
from playwright.sync_api import expect

from indelible import ANY, EventStore, NewEvent, Upcaster
from indelible.serialization.codec import Codec
from indelible.server.web import types
from tests.web import hostile
from tests.web.conftest import Serve


def _text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", answer.text))


def _append(store: EventStore, type_name: str, count: int = 1, **data: object) -> None:
    events = [NewEvent(type_name, {"n": number, **data}) for number in range(count)]
    store.append(f"{type_name}-1", events, expected=ANY)


def test_types_are_listed_with_their_counts(store: EventStore, site: httpx.Client) -> None:
    _append(store, "Placed", 3)
    _append(store, "Paid", 5)
    text = _text(site.get("/types"))
    assert re.search(r"Placed 3 ", text)
    assert re.search(r"Paid 5 ", text)
    assert "Counted to the head, 8" in text
    assert "No application is given" in text
    by_events = site.get("/types?sort=events").text
    assert by_events.index("type=Paid") < by_events.index("type=Placed")
    found = site.get("/types?q=plac").text
    assert "type=Placed" in found
    assert "type=Paid" not in found
    assert "No type contains" in site.get("/types?q=nothing").text


def test_a_long_log_is_counted_in_parts(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.admin.event_types._WINDOW", 10)
    _append(store, "Placed", 40)
    text = _text(site.get("/types"))
    assert "Counted to position 10, 25 %" in text
    assert "Not all of the log is counted yet" in text
    assert re.search(r"Placed 10 ", text)


def test_an_open_page_counts_on(
    store: EventStore,
    site: httpx.Client,
    page: Any,
    connection: psycopg.Connection,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("indelible.admin.event_types._WINDOW", 10_000)
    monkeypatch.setattr("indelible.streams.log_windows._WRITTEN_AT_ONCE", 10_000)
    connection.execute(
        f"INSERT INTO {schema}.streams (name, channel, version) VALUES ('a', 'a', 39999)"
    )
    connection.execute(
        f"""
        INSERT INTO {schema}.events (position, stream_id, version, recorded_at, id, type, data)
        SELECT n, (SELECT min(id) FROM {schema}.streams), n - 1, now(), gen_random_uuid(),
            'Placed', '{{}}'
        FROM generate_series(1, 40000) AS n
        """
    )
    connection.execute(f"SELECT setval('{schema}.events_position', 40000)")
    page.goto(f"{site.base_url}/types")
    expect(page.locator("#counts")).to_contain_text("Counted to position 20,000, 50 %")
    expect(page.locator("#counts")).to_contain_text("Counted to the head, 40,000")
    expect(page.locator("#counts[data-more]")).to_have_count(0)
    expect(page.locator("#counts tbody .number")).to_have_text("40,000")


def test_a_token_gets_the_types_of_what_it_may_read(store: EventStore, serve: Serve) -> None:
    _append(store, "Placed", 3)
    _append(store, "Secret", 3)
    token = store.create_token("narrow", can="read", stream_prefixes=["Placed"])
    headers = {"Authorization": f"Bearer {token.text}", "Accept": "text/html"}
    with httpx.Client(base_url=serve(requires_token=True), headers=headers) as client:
        text = _text(client.get("/types"))
        assert "Placed 3 " in text
        assert "Secret" not in text
        assert client.get("/type?type=Placed").status_code == 200
        hidden, missing = (client.get(f"/type?type={name}") for name in ("Secret", "Absent"))
        assert hidden.status_code == missing.status_code == 404
        assert hidden.text.replace("Secret", "Absent") == missing.text


def test_a_type_shows_its_newest_events_and_its_fields(
    store: EventStore, site: httpx.Client
) -> None:
    for number in range(25):
        data = {"total": number, "customer": {"name": "Ann"}}
        if number % 5 == 0:
            data["note"] = "often"
        store.append(f"order-{number}", NewEvent("Placed", data), expected=ANY)
    answer = site.get("/type?type=Placed")
    assert answer.text.count("data-position=") == 20
    text = _text(answer)
    assert re.search(r"customer object 100 %", text)
    assert re.search(r"customer\.name text 100 %", text)
    assert re.search(r"total number 100 %", text)
    assert re.search(r"note text 20 %", text)
    assert re.search(r"total : 24 ", text)
    assert site.get("/type?type=placed").status_code == 404
    assert site.get("/type").status_code == 422


def test_an_application_shows_how_an_event_is_read() -> None:
    codec = Codec(
        [
            Upcaster("Placed", lambda data: {**data, "by": "?"}, into="Placed2"),
            Upcaster("Placed2", into="Placed3"),
            Upcaster("Beat", into=()),
            msgspec.defstruct("Placed3", [("by", str), ("total", int)]),
        ]
    )
    assert types.path_of(codec, "Placed") == ["Placed", "Placed2", "Placed3"]
    assert types.path_of(codec, "Beat") == ["Beat", "nothing"]
    assert types.path_of(codec, "Placed3") == ["Placed3"]


def test_a_page_tells_what_the_application_can_read(
    store: EventStore, site: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec(
        [
            msgspec.defstruct("Placed2", [("total", int), ("by", str)]),
            Upcaster("Placed", lambda data: {**data, "by": "nobody"}, into="Placed2"),
            Upcaster("Beat", into=()),
        ]
    )
    monkeypatch.setattr("indelible.server.web.types.application_codec", lambda call: codec)
    for name, data in (
        ("Placed", {"total": 1}),
        ("Placed2", {"total": hostile.IMAGE}),
        ("Beat", {}),
        ("Unknown", {}),
    ):
        store.append("order-1", NewEvent(name, data), expected=ANY)
    answer = site.get("/types")
    hostile.check(answer.text)
    text = _text(answer)
    assert len(re.findall("✓ yes", text)) == 2
    assert len(re.findall("✕ no", text)) == 2
    assert "Placed → Placed2" in text
    text = _text(site.get("/type?type=Placed"))
    assert "Read as: Placed → Placed2" in text
    assert 'by : "nobody"' in text
    assert "It cannot be read" in site.get("/type?type=Placed2").text
    assert "It cannot be read" in site.get("/type?type=Unknown").text
    assert "An upcaster leaves it out" in site.get("/type?type=Beat").text


def test_fields_keep_their_kinds() -> None:
    rows = list(
        types.fields_of([b'{"a": 1, "b": [{"c": true}, {"c": null}]}', b'{"a": "x", "d": {}}'])
    )
    assert [(row.name, row.kinds, row.samples) for row in rows] == [
        ("a", "number, text", 2),
        ("b", "list", 1),
        ("b[]", "object", 1),
        ("b[].c", "true or false, null", 1),
        ("d", "object", 1),
    ]


def test_deep_and_wide_data_is_bounded(store: EventStore, site: httpx.Client) -> None:
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    wide = {f"field{number}": number for number in range(1_000)}
    store.append("a", NewEvent("Deep", {"deep": deep}), expected=ANY)
    store.append("b", NewEvent("Wide", wide), expected=ANY)
    store.append("c", NewEvent("Large", {"text": "x" * 200_000}), expected=ANY)
    for name in ("Deep", "Wide", "Large"):
        answer = site.get(f"/type?type={name}")
        assert answer.status_code == 200
        assert len(answer.text) < 300_000


def test_hostile_names_are_shown_as_they_are(store: EventStore, site: httpx.Client) -> None:
    hostile.fill(store)
    hostile.check(site.get("/types").text)
    for name in hostile.NAMES:
        answer = site.get(f"/type?{urlencode({'type': name})}")
        assert answer.status_code == 200
        hostile.check(answer.text)
        assert str(hostile.BIG) in answer.text


def test_an_empty_store_tells_the_first_step(site: httpx.Client) -> None:
    assert "indelible append" in site.get("/types").text
