"""The search field."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect

from indelible import ANY, EventStore, NewEvent
from tests.web import hostile
from tests.web.conftest import Serve

_ID = "019af2c4-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _streams(store: EventStore) -> None:
    for name in ("order-1", "order-2", "bill-7", "42"):
        store.append(name, NewEvent("Happened", {}), expected=ANY)


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("order-1", "/stream?name=order-1"),
        (" order-1 ", "/stream?name=order-1"),
        ("bill", "/stream?name=bill-7"),
        (_ID, f"/event?id={_ID}"),
        (_ID.upper(), f"/event?id={_ID}"),
        (_ID.replace("-", ""), f"/event?id={_ID}"),
        ("1,842,117", "/event?position=1842117"),
        ("7", "/event?position=7"),
        ("type:OrderPlaced", "/log?type=OrderPlaced"),
        ("type:A b type:C tag:order:17", "/log?type=A+b&type=C&tag=order%3A17"),
        ("channel:billing prefix:order-", "/log?channel=billing&prefix=order-"),
    ],
)
def test_it_leads_to_a_page(site: httpx.Client, text: str, to: str) -> None:
    answer = site.get("/find", params={"q": text})
    assert answer.status_code == 303
    assert answer.headers["location"] == to


def test_choices_are_listed_if_several_are_meant(store: EventStore, site: httpx.Client) -> None:
    answer = site.get("/find?q=order-")
    assert answer.status_code == 200
    assert "name=order-1" in answer.text
    assert "name=order-2" in answer.text
    both = site.get("/find?q=42").text
    assert "/event?position=42" in both
    assert "/stream?name=42" in both
    for number in range(20):
        store.append(f"order-9{number}", NewEvent("Happened", {}), expected=ANY)
    assert "/streams?prefix=order-" in site.get("/find?q=order-").text


def test_it_says_what_can_be_typed_if_nothing_is_found(site: httpx.Client) -> None:
    for text in ("nothing like this", "", "x" * 1_000, "type:", "a\x01b"):
        answer = site.get("/find", params={"q": text})
        assert answer.status_code == 200
        assert "type:OrderPlaced" in answer.text


def test_names_are_offered(store: EventStore, site: httpx.Client) -> None:
    assert site.get("/find/names?q=order").text.split() == [
        "<option",
        'value="order-1"></option>',
        "<option",
        'value="order-2"></option>',
    ]
    for number in range(20):
        store.append(f"order-9{number}", NewEvent("Happened", {}), expected=ANY)
    assert site.get("/find/names?q=order").text.count("<option") == 8
    for text in ("", "type:Ord", "x" * 300, "\x00"):
        assert "<option" not in site.get("/find/names", params={"q": text}).text


def test_hostile_names_lead_to_their_streams(store: EventStore, site: httpx.Client) -> None:
    hostile.fill(store)
    for name in hostile.NAMES:
        answer = site.get("/find", params={"q": name})
        assert answer.status_code == 303
        answer = site.get("/find", params={"q": f"{name[:200]}!"})
        hostile.check(answer.text)
        hostile.check(site.get("/find/names", params={"q": name[:3]}).text.replace("\u202e", ""))


def test_a_token_finds_its_streams_only(store: EventStore, serve: Serve) -> None:
    token = store.create_token("narrow", can="read", stream_prefixes=["order-"])
    headers = {"Authorization": f"Bearer {token.text}", "Accept": "text/html"}
    with httpx.Client(base_url=serve(requires_token=True), headers=headers) as client:
        assert client.get("/find?q=order-1").headers["location"] == "/stream?name=order-1"
        hidden, missing = (
            client.get("/find", params={"q": name}).text for name in ("bill-7", "bill-8")
        )
        assert hidden.replace("bill-7", "bill-8") == missing
        assert "<option" not in client.get("/find/names?q=bill").text


def test_the_field_offers_names_and_opens_a_stream(site: httpx.Client, page: Any) -> None:
    page.goto(f"{site.base_url}/streams")
    page.keyboard.press("/")
    page.keyboard.type("order")
    expect(page.locator("#found option")).to_have_count(2)
    assert page.locator("#found option").first.get_attribute("value") == "order-1"
    page.keyboard.type(f"-{uuid4()}")
    expect(page.locator("#found option")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Nothing is called")
