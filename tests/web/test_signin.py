"""Sign in with a token, follow links, sign out, and what a token may not do."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from indelible import EventStore, NewEvent
from indelible.server.web import signin
from tests.support.waiting import wait_until

from .conftest import Serve


@pytest.fixture(autouse=True)
def _many_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the tries of each test apart: all come from the same address."""
    monkeypatch.setattr(signin._tries, "_full_at", {})


def _client(address: str) -> httpx.Client:
    return httpx.Client(
        base_url=address, headers={"Accept": "text/html", "Origin": address}, timeout=30
    )


@contextmanager
def signed_in(address: str, token: str) -> Iterator[httpx.Client]:
    """A client with a session of a token."""
    with _client(address) as client:
        assert client.post("/signin", data={"token": token}).status_code == 303
        yield client


def test_a_link_leads_to_its_page_after_signing_in(
    store: EventStore, serve: Serve, page: Any
) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {"total": 12}), expected=-1)
    token = store.create_token("ann", can="read").text
    address = serve(requires_token=True)
    page.goto(f"{address}/stream?name=order-1")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/stream?name=order-1")
    assert "order-1" in page.get_by_role("heading", level=1).inner_text()
    (cookie,) = (each for each in page.context.cookies() if each["name"] == "indelible")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{address}/signin")
    page.goto(f"{address}/groups")
    page.wait_for_url(f"{address}/signin?next=%2Fgroups")


def test_a_wrong_token_says_so_and_no_more(serve: Serve) -> None:
    with _client(serve(requires_token=True)) as client:
        answer = client.post("/signin", data={"token": "indelible_none_none"})
    assert answer.status_code == 422
    assert "This token is not known, or has expired." in answer.text
    assert "set-cookie" not in answer.headers


def test_nobody_guesses_tokens_at_any_rate(serve: Serve) -> None:
    with _client(serve(requires_token=True)) as client:
        statuses = [client.post("/signin", data={"token": "x"}).status_code for _ in range(7)]
    assert statuses == [422] * 5 + [429] * 2


@pytest.mark.parametrize(
    "address", ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\t/evil", ""]
)
def test_signing_in_leads_to_own_pages_only(address: str) -> None:
    assert signin.local(address) == "/"


def test_a_form_of_another_site_is_refused(store: EventStore, serve: Serve) -> None:
    token = store.create_token("ann", can="read").text
    address = serve(requires_token=True)
    with signed_in(address, token) as client:
        other = client.post("/signout", headers={"Origin": "https://evil.example"})
        none = client.post("/signout", headers={"Origin": ""})
        unbound = client.post("/signout", data={"csrf": "0" * 64})
        assert [other.status_code, none.status_code, unbound.status_code] == [403, 403, 403]
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/groups").text)
        assert found is not None
        assert client.post("/signout", data={"csrf": found[1]}).status_code == 303


def test_a_link_on_another_site_leads_to_the_page(store: EventStore, serve: Serve) -> None:
    token = store.create_token("ann", can="read").text
    with signed_in(serve(requires_token=True), token) as client:
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        del client.headers["Origin"]
        document = client.get("/groups", headers={**followed, "Sec-Fetch-Dest": "document"})
        frame = client.get("/groups", headers={**followed, "Sec-Fetch-Dest": "iframe"})
        assert document.status_code == 200
        assert frame.status_code == 403


def test_a_token_that_reads_sees_no_buttons(store: EventStore, serve: Serve) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {"total": 12}), expected=-1)
    store.group("billing").create()
    token = store.create_token("ann", can="read").text
    with signed_in(serve(requires_token=True), token) as client:
        assert "Close…" not in client.get("/stream", params={"name": "order-1"}).text
        assert "Reset…" not in client.get("/group", params={"name": "billing"}).text
        assert client.get("/stream/close", params={"name": "order-1"}).status_code == 403
        assert client.get("/group/reset", params={"name": "billing"}).status_code == 403
        assert client.get("/tokens").status_code == 404
        assert 'href="/tokens"' not in client.get("/groups").text


def test_a_token_of_a_channel_sees_no_other(store: EventStore, serve: Serve) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {"total": 12}), expected=-1)
    store.append("invoice-1", NewEvent("InvoiceSent", {"total": 12}), expected=-1)
    event = next(iter(store.read("invoice-1")))
    store.group("billing").create()
    token = store.create_token("ann", can="read", channels="order").text
    with signed_in(serve(requires_token=True), token) as client:
        assert client.get("/stream", params={"name": "order-1"}).status_code == 200
        hidden = client.get("/stream", params={"name": "invoice-1"})
        missing = client.get("/stream", params={"name": "invoice-2"})
        assert (hidden.status_code, missing.status_code) == (404, 404)
        assert hidden.text.replace("invoice-1", "invoice-2") == missing.text
        assert client.get("/event", params={"id": str(event.id)}).status_code == 404
        assert client.get("/group", params={"name": "billing"}).status_code == 404
        assert "name=billing" not in client.get("/groups").text


def test_a_server_without_tokens_asks_for_none(site: httpx.Client) -> None:
    assert site.get("/groups").status_code == 200
    assert "open on this machine" in site.get("/groups").text
    assert site.get("/signin").status_code == 404


def test_signing_out_ends_the_session_and_what_is_live(store: EventStore, serve: Serve) -> None:
    token = store.create_token("ann", can="read").text
    with signed_in(serve(requires_token=True), token) as client:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/groups").text)
        assert found is not None
        kept = dict(client.cookies)
        with client.stream("GET", "/live/groups") as live:
            lines = live.iter_lines()
            next(lines)
            out = client.post("/signout", data={"csrf": found[1]})
            assert (out.status_code, out.headers["location"]) == (303, "/signin")
            assert not client.cookies
            for _ in lines:  # it ends within seconds; otherwise the time of the client is up
                pass
        client.cookies.update(kept)
        asked = client.get("/groups")
        assert (asked.status_code, asked.headers["location"]) == (303, "/signin?next=%2Fgroups")


def test_no_token_gets_into_the_audit_log(
    store: EventStore, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    token = store.create_token("ann", can="read").text
    with (
        caplog.at_level(logging.INFO, "indelible.audit"),
        signed_in(serve(requires_token=True), token),
    ):
        wait_until(lambda: "POST /signin" in caplog.text)
    assert token not in str([each.__dict__ for each in caplog.records])


def test_someone_signed_in_follows_a_link_at_once(
    store: EventStore, serve: Serve, page: Any
) -> None:
    store.append("order-1", NewEvent("OrderPlaced", {"total": 12}), expected=-1)
    token = store.create_token("ann", can="read").text
    address = serve(requires_token=True)
    page.goto(f"{address}/signin")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/")
    page.goto(f"{address}/stream?name=order-1")
    assert page.url == f"{address}/stream?name=order-1"
    assert "order-1" in page.get_by_role("heading", level=1).inner_text()


def test_the_form_has_the_width_of_the_page(serve: Serve, page: Any) -> None:
    page.goto(f"{serve(requires_token=True)}/signin")
    assert page.locator("main").bounding_box()["width"] > 1_000
