"""Sessions and tickets: they stand for a token where a browser cannot send one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg import sql

from indelible import ANY, EventStore, NewEvent
from indelible.access import sessions
from indelible.access.rights import Principal
from tests.support.waiting import wait_until

from .conftest import Serve

BODY = {"events": [{"type": "A"}], "expected": "any"}


@pytest.fixture
def address(serve: Serve) -> str:
    return serve(requires_token=True)


@pytest.fixture
def token(store: EventStore) -> str:
    store.append("delivery-1", NewEvent("A", {}), expected=ANY)
    store.append("sales-1", NewEvent("A", {}), expected=ANY)
    return store.create_token("test", can="read,append", channels="delivery").text


@pytest.fixture
def browser(address: str, token: str) -> Iterator[httpx.Client]:
    """A client with the cookie of a session, as a page of the server has it."""
    with httpx.Client(base_url=f"{address}/api/v1", timeout=30) as client:
        answer = client.post("/session", headers=bearer(token) | {"Origin": address})
        assert answer.status_code == 201, answer.text
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ticket(address: str, token: str) -> str:
    answer = httpx.post(f"{address}/api/v1/tickets", headers=bearer(token), timeout=30)
    assert answer.status_code == 201, answer.text
    text: str = answer.json()["ticket"]
    return text


def streams_of(address: str, **options: Any) -> list[str]:
    """The streams of the stored events that a subscription sends."""
    found: list[str] = []
    with httpx.stream("GET", f"{address}/api/v1/events/subscribe", timeout=30, **options) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line == "event: caught_up":
                return found
            if line.startswith("data: "):
                found.append(json.loads(line[6:])["stream"])
    raise AssertionError("the subscription has ended")


def status_with_ticket(address: str, text: str, path: str = "/events/subscribe") -> int:
    # Closed at once: an answer that is accepted has no end.
    with httpx.stream(
        "GET", f"{address}/api/v1{path}", params={"ticket": text}, timeout=30
    ) as answer:
        return answer.status_code


def make_all_expire(url: str, schema: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("UPDATE {} SET expires_at = clock_timestamp()").format(
                sql.Identifier(schema, "sessions")
            )
        )


def test_a_cookie_has_the_rights_of_its_token(browser: httpx.Client, address: str) -> None:
    assert [e["stream"] for e in browser.get("/events").json()["events"]] == ["delivery-1"]
    assert browser.get("/streams/sales-1/events").status_code == 404
    assert streams_of(address, cookies=browser.cookies) == ["delivery-1"]


def test_a_cookie_is_out_of_reach_of_scripts_and_other_sites(address: str, token: str) -> None:
    def cookie(origin: str) -> str:
        answer = httpx.post(
            f"{address}/api/v1/session", headers=bearer(token) | {"Origin": origin}, timeout=30
        )
        assert answer.status_code == 201
        assert "expires_at" in answer.json()
        written: str = answer.headers["set-cookie"]
        assert written.partition("=")[2].partition(";")[0] not in answer.text
        return written

    plain, https = cookie(address), cookie(address.replace("http:", "https:"))

    for written in (plain, https):
        for part in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43"):
            assert part in written
        assert "Domain" not in written
    assert plain.startswith("indelible=")
    assert "Secure" not in plain
    assert https.startswith("__Host-indelible=")
    assert "Secure" in https


@pytest.mark.parametrize(
    ("headers", "write", "read"),
    [
        ({"Origin": "own"}, 201, 200),
        ({"Origin": "http://evil.example"}, 403, 403),
        ({"Origin": "null"}, 403, 403),
        ({"Origin": ""}, 403, 403),
        ({"Origin": "http://localhost:1"}, 403, 403),
        # A browser sends the origin with each write.
        ({}, 403, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 403, 200),
        ({"Sec-Fetch-Site": "none"}, 403, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403, 403),
    ],
)
def test_a_cookie_works_for_pages_of_the_server_only(
    browser: httpx.Client, address: str, headers: dict[str, str], write: int, read: int
) -> None:
    sent = {name: address if value == "own" else value for name, value in headers.items()}

    assert browser.post("/streams/delivery-1/events", json=BODY, headers=sent).status_code == write
    assert browser.get("/events", headers=sent).status_code == read


def test_a_page_of_an_allowed_site_has_no_use_of_the_cookie(serve: Serve, token: str) -> None:
    shop = "https://shop.example"
    address = serve(requires_token=True, allowed_origins=(shop,))
    with httpx.Client(base_url=f"{address}/api/v1", timeout=30) as client:
        client.post("/session", headers=bearer(token) | {"Origin": address})

        assert client.get("/events", headers={"Origin": shop}).status_code == 403
        answer = client.post("/streams/delivery-1/events", json=BODY, headers={"Origin": shop})
        assert answer.status_code == 403
        with_token = client.get("/events", headers={"Origin": shop} | bearer(token))
        assert with_token.status_code == 200
        assert "access-control-allow-credentials" not in with_token.headers


def test_a_session_ends(browser: httpx.Client, address: str) -> None:
    kept = dict(browser.cookies)
    assert browser.delete("/session").status_code == 403

    ended = browser.delete("/session", headers={"Origin": address})

    assert (ended.status_code, ended.content) == (204, b"")
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert dict(browser.cookies) == {}
    again = httpx.get(f"{address}/api/v1/events", cookies=kept, timeout=30)
    assert again.status_code == 401
    assert browser.delete("/session", headers={"Origin": address}).status_code == 401


def test_a_session_lasts_at_most_as_long_as_its_token(
    browser: httpx.Client, store: EventStore, token: str
) -> None:
    assert browser.get("/events").status_code == 200
    store.revoke_token(token.split("_")[1])

    wait_until(lambda: browser.get("/events").status_code == 401)


def test_a_session_expires(browser: httpx.Client, url: str, schema: str) -> None:
    make_all_expire(url, schema)

    wait_until(lambda: browser.get("/events").status_code == 401)


@pytest.mark.parametrize("cookie", ["x", "A" * 43, '"', "\xe4" * 43, "a=b=c", "A" * 4_000])
def test_a_cookie_that_is_none_is_refused(address: str, cookie: str) -> None:
    headers = {"Cookie": f"indelible={cookie}".encode("latin-1")}

    answer = httpx.get(f"{address}/api/v1/events", headers=headers, timeout=30)

    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:indelible:unauthorized"


def test_only_a_token_begins_a_session(browser: httpx.Client, serve: Serve, address: str) -> None:
    assert browser.post("/session", headers={"Origin": address}).status_code == 401
    open_server = f"{serve()}/api/v1"
    assert httpx.post(f"{open_server}/session", timeout=30).status_code == 401
    assert httpx.post(f"{open_server}/tickets", timeout=30).status_code == 401


def test_a_ticket_subscribes_once_with_the_rights_of_its_token(address: str, token: str) -> None:
    text = ticket(address, token)

    assert streams_of(address, params={"ticket": text}) == ["delivery-1"]
    again = httpx.get(f"{address}/api/v1/events/subscribe", params={"ticket": text}, timeout=30)
    assert again.status_code == 401
    assert again.json()["type"] == "urn:indelible:unauthorized"
    assert text not in again.text


def test_a_page_with_a_session_gets_a_ticket(browser: httpx.Client, address: str) -> None:
    answer = browser.post("/tickets", headers={"Origin": address})

    assert answer.status_code == 201
    assert streams_of(address, params={"ticket": answer.json()["ticket"]}) == ["delivery-1"]


def test_a_ticket_expires_and_is_revoked_with_its_token(
    address: str, token: str, store: EventStore, url: str, schema: str
) -> None:
    expired = ticket(address, token)
    make_all_expire(url, schema)
    assert status_with_ticket(address, expired) == 401

    revoked = ticket(address, token)
    store.revoke_token(token.split("_")[1])
    assert status_with_ticket(address, revoked) == 401
    # The server may know the token for a moment. A ticket of it is not made any more.
    refused = httpx.post(f"{address}/api/v1/tickets", headers=bearer(token), timeout=30)
    assert refused.status_code == 401


def test_a_ticket_is_for_subscriptions_only(address: str, token: str) -> None:
    text = ticket(address, token)

    for path in ("/events", "/head", "/streams", "/streams/delivery-1/events"):
        assert status_with_ticket(address, text, path) == 401
    assert status_with_ticket(address, text, "/events/subscrib%65") == 401
    cookie = {"Cookie": f"indelible={text}"}
    assert httpx.get(f"{address}/api/v1/head", headers=cookie, timeout=30).status_code == 401
    assert status_with_ticket(address, text) == 200


@pytest.mark.parametrize("text", ["", "x", "A" * 43, "%", "\0", "ä" * 43, "../../health/live"])
def test_a_ticket_that_is_none_is_refused(address: str, text: str) -> None:
    assert status_with_ticket(address, text) == 401


def test_another_process_takes_a_ticket_and_a_cookie_also_after_a_restart(
    serve: Serve, browser: httpx.Client, address: str, token: str
) -> None:
    text = ticket(address, token)
    other = serve(requires_token=True)

    assert streams_of(other, params={"ticket": text}) == ["delivery-1"]
    assert status_with_ticket(address, text) == 401
    assert httpx.get(f"{other}/api/v1/events", cookies=browser.cookies).status_code == 200


def test_the_log_has_neither_tickets_nor_cookies_nor_tokens(
    browser: httpx.Client, address: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "indelible"), caplog.at_level(logging.DEBUG, "uvicorn"):
        text = ticket(address, token)
        status_with_ticket(address, text)
        assert status_with_ticket(address, text) == 401
        browser.post("/session", headers=bearer(token) | {"Origin": address})
        browser.delete("/session", headers={"Origin": address})

    lines = [r for r in caplog.records if r.name.startswith(("indelible", "uvicorn"))]
    assert any(r.getMessage().endswith("GET /api/v1/events/subscribe") for r in lines)
    for secret in (text, token, *browser.cookies.values()):
        assert [record for record in lines if secret in str(vars(record))] == []


@pytest.mark.parametrize("with_session", [False, True])
def test_a_stream_ends_with_the_rights_of_its_client(
    address: str,
    token: str,
    browser: httpx.Client,
    store: EventStore,
    with_session: bool,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
) -> None:
    monkeypatch.setattr("indelible.server.security._RECHECK", 0.05)
    quick = f"{serve(requires_token=True)}/api/v1"
    other = store.create_token("other", can="read").text
    options: dict[str, Any] = (
        {"cookies": browser.cookies} if with_session else {"headers": bearer(token)}
    )
    with (
        httpx.stream("GET", f"{quick}/events/subscribe", timeout=30, **options) as ending,
        httpx.stream(
            "GET", f"{quick}/events/subscribe", timeout=30, headers=bearer(other)
        ) as going_on,
    ):
        lines = ending.iter_lines()
        assert next(line for line in lines if line == "event: caught_up")
        if with_session:
            browser.delete("/session", headers={"Origin": address})
        else:
            store.revoke_token(token.split("_")[1])

        assert not any(line.startswith("event: failed") for line in lines)  # it has an end
        others = going_on.iter_lines()
        assert next(line for line in others if line == "event: caught_up")
        store.append("last-1", NewEvent("A", {}), expected=ANY)
        assert next(line for line in others if "last-1" in line)


def test_allowed_sites_and_no_others_get_cors_headers(serve: Serve, token: str) -> None:
    shop = "https://shop.example"
    address = f"{serve(requires_token=True, allowed_origins=(shop,))}/api/v1"

    def preflight(origin: str) -> httpx.Response:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        return httpx.options(f"{address}/tickets", headers=headers, timeout=30)

    allowed = preflight(shop)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == shop
    assert "access-control-allow-credentials" not in allowed.headers
    for origin in ("https://evil.example", "https://shop.example.evil.example", "null"):
        refused = preflight(origin)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
        answer = httpx.get(
            f"{address}/head", headers=bearer(token) | {"Origin": origin}, timeout=30
        )
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers

    made = httpx.post(f"{address}/tickets", headers=bearer(token) | {"Origin": shop}, timeout=30)
    assert made.headers["access-control-allow-origin"] == shop
    assert made.headers["vary"] == "Origin"
    text = made.json()["ticket"]
    for status in (200, 401):  # the page can also read why it was refused
        with httpx.stream(
            "GET",
            f"{address}/events/subscribe?ticket={quote(text)}",
            headers={"Origin": shop},
            timeout=30,
        ) as answer:
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == shop


def test_without_allowed_sites_nobody_gets_cors_headers(address: str, token: str) -> None:
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(f"{address}/api/v1/tickets", headers=headers | bearer(token))

    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_the_database_has_only_hashes(store: EventStore, token: str, url: str, schema: str) -> None:
    token_id = token.split("_")[1]
    created = [
        store._engine.run(create(token_id))
        for create in (sessions.create_session, sessions.create_ticket)
    ]

    with psycopg.connect(url) as connection:
        rows = connection.execute(
            sql.SQL("SELECT sessions::text FROM {} AS sessions").format(
                sql.Identifier(schema, "sessions")
            )
        ).fetchall()
    assert len(rows) == 2
    for made in created:
        assert made is not None
        assert made.text not in repr(made)
        assert made.text not in str(rows)
    first, second = (made.expires_at for made in created if made is not None)
    assert (first - second).total_seconds() > 40_000


def test_what_has_expired_is_deleted(store: EventStore, token: str, url: str, schema: str) -> None:
    token_id = token.split("_")[1]
    for _ in range(3):
        store._engine.run(sessions.create_ticket(token_id))
    make_all_expire(url, schema)

    kept = store._engine.run(sessions.create_ticket(token_id))

    with psycopg.connect(url) as connection:
        table = sql.Identifier(schema, "sessions")
        rows = connection.execute(sql.SQL("SELECT hash FROM {}").format(table)).fetchall()
    assert kept is not None
    assert [row[0].hex() for row in rows] == [sessions.hash_of(kept.text)]


def test_a_session_of_a_short_token_is_short(store: EventStore, url: str, schema: str) -> None:
    created = store.create_token("short", can="read", expires_in=timedelta(seconds=20))

    for create in (sessions.create_session, sessions.create_ticket):
        made = store._engine.run(create(created.info.id))
        assert made is not None
        assert made.expires_at == created.info.expires_at
    assert store._engine.run(sessions.create_session("aaaaaaaa")) is None


def test_one_of_several_takes_a_ticket(store: EventStore, token: str) -> None:
    made = store._engine.run(sessions.create_ticket(token.split("_")[1]))
    assert made is not None

    def redeem(_: int) -> Principal | None:
        found: Principal | None = store._engine.run(sessions.redeem_ticket(made.text))
        return found

    with ThreadPoolExecutor(8) as pool:
        taken = [found for found in pool.map(redeem, range(8)) if found is not None]

    assert [found.name for found in taken] == [f"token {token.split('_')[1]} (test)"]
