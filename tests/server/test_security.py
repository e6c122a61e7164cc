"""Who may reach the server, and what they may do."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest

from indelible import ANY, EventStore, InvalidInput, NewEvent, StreamAppend
from indelible.server import ServerSettings
from tests.support.waiting import wait_until

from .conftest import Serve

BODY = {"events": [{"type": "A"}], "expected": "any"}


@pytest.fixture
def guarded(serve: Serve) -> str:
    return f"{serve(requires_token=True)}/api/v1"


def client_of(address: str, token: str | None = None) -> httpx.Client:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=address, headers=headers, timeout=30)


def token(store: EventStore, can: str, **options: Any) -> str:
    return store.create_token("test", can=can, **options).text


def test_a_server_for_others_than_this_machine_needs_tokens() -> None:
    assert ServerSettings(host="0.0.0.0").is_guarded
    assert ServerSettings(host="::").is_guarded
    assert ServerSettings(host="db.example.com").is_guarded
    assert not ServerSettings(host="127.0.0.1").is_guarded
    assert not ServerSettings(host="::1").is_guarded
    assert not ServerSettings(host="localhost").is_guarded
    with pytest.raises(InvalidInput, match="--no-auth"):
        ServerSettings(host="0.0.0.0", requires_token=False)
    assert ServerSettings(trusted_proxies=("127.0.0.1",)).is_guarded
    with pytest.raises(InvalidInput, match="--trusted-proxy"):
        ServerSettings(trusted_proxies=("127.0.0.1",), requires_token=False)
    for wrong in ("proxy.example.com", "*", "10.0.0.1/8", ""):
        with pytest.raises(InvalidInput, match="--trusted-proxy must be"):
            ServerSettings(trusted_proxies=(wrong,))


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer x", "Basic YTpi", "Bearer ind_aaaaaaaa_" + "A" * 43],
)
def test_without_a_token_nothing_is_answered(guarded: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with client_of(guarded) as client:
        for method, path in (
            ("GET", "/events"),
            ("GET", "/streams"),
            ("GET", "/nothing"),
            ("GET", "/openapi.json"),
            ("POST", "/streams/a-1/events"),
        ):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["type"] == "urn:indelible:unauthorized"


def test_orchestrators_need_no_token(guarded: str) -> None:
    address = guarded.removesuffix("/api/v1")
    assert httpx.get(f"{address}/health/live").json() == {"status": "alive"}
    assert httpx.get(f"{address}/health/ready").json() == {"status": "ready"}


def test_an_expired_and_a_revoked_token_are_refused(guarded: str, store: EventStore) -> None:
    short = token(store, "read", expires_in=timedelta(milliseconds=200))
    created = store.create_token("test", can="read")

    def status(text: str) -> int:
        with client_of(guarded, text) as client:
            return client.get("/events").status_code

    assert status(created.text) == 200
    store.revoke_token(created.info.id)
    wait_until(lambda: status(created.text) == 401)
    wait_until(lambda: status(short) == 401)


def test_a_token_does_what_it_may_and_nothing_else(guarded: str, store: EventStore) -> None:
    store.append("delivery-1", NewEvent("A", {}), expected=ANY)
    store.append("sales-1", NewEvent("A", {}), expected=ANY)
    with (
        client_of(guarded, token(store, "read", channels="delivery")) as reader,
        client_of(guarded, token(store, "append", channels=["delivery", "mail"])) as writer,
    ):
        check_reader(reader)
        check_writer(writer)
    assert [event.stream for event in store.read_all()] == [
        "delivery-1",
        "sales-1",
        "delivery-1",
        "mail-1",
    ]


def test_the_list_of_streams_has_those_of_all_rights_once(serve: Serve, store: EventStore) -> None:
    names = [f"{channel}-{n}" for channel in "abc" for n in range(1, 13)]
    store.append_many([StreamAppend(name, NewEvent("A", {}), expected=ANY) for name in names])
    # Rights that overlap: all streams with the longer prefix have the shorter one, too.
    token = store.create_token(
        "x", can="read", channels=["a", "c"], stream_prefixes=["a", "a-1", "c-2"]
    )
    allowed = sorted(name for name in names if name.startswith(("a", "c-2")))
    headers = {"Authorization": f"Bearer {token.text}"}
    with httpx.Client(base_url=f"{serve(requires_token=True)}/api/v1", headers=headers) as reader:
        found, address = [], "/streams?limit=3"
        while address:
            page = reader.get(address).json()
            found += [each["stream"] for each in page["streams"]]
            address = f"/streams{page['links']['next']}" if "next" in page["links"] else ""
        assert found == allowed
        lines = reader.get("/streams?prefix=a-1", headers={"Accept": "application/x-ndjson"})
        assert [json.loads(line)["stream"] for line in lines.iter_lines()] == [
            name for name in allowed if name.startswith("a-1")
        ]


def check_reader(reader: httpx.Client) -> None:
    def streams(client: httpx.Client, path: str) -> list[str]:
        answer = client.get(path, headers={"Accept": "application/x-ndjson"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line)["stream"] for line in answer.iter_lines()]

    assert streams(reader, "/events") == ["delivery-1"]
    assert streams(reader, "/events?type=A&backwards=true") == ["delivery-1"]
    assert streams(reader, "/streams") == ["delivery-1"]
    assert reader.get("/events?channel=sales").status_code == 403
    assert reader.get("/streams?channel=sales").status_code == 403
    assert reader.get("/streams/delivery-1/events").status_code == 200
    # What they may not see looks like what is not there.
    assert reader.get("/streams/sales-1/events").status_code == 404
    assert reader.get("/streams/sales-1").status_code == 404
    assert reader.get("/streams/sales-2").status_code == 404
    assert reader.post("/streams/delivery-1/events", json=BODY).status_code == 403
    assert reader.post("/streams/delivery-1/close", json={"expected": "any"}).status_code == 403
    assert reader.get("/types").status_code == 403
    assert reader.get("/statistics").status_code == 403
    pages = reader.get("/streams?limit=1").json()
    assert [each["stream"] for each in pages["streams"]] == ["delivery-1"]
    query = {"query": [{"channel": "delivery"}]}
    assert reader.post("/events/matching", json=query).status_code == 200
    assert reader.post("/events/matching", json={"query": [{}]}).status_code == 403
    with reader.stream("GET", "/events/subscribe") as answer:
        lines = answer.iter_lines()
        assert json.loads(next(x for x in lines if x.startswith("data"))[6:])["stream"] == (
            "delivery-1"
        )
        assert next(x for x in lines if x.startswith("event")) == "event: caught_up"


def check_writer(writer: httpx.Client) -> None:
    assert writer.post("/streams/delivery-1/events", json=BODY).status_code == 201
    assert writer.post("/streams/mail-1/events", json=BODY).status_code == 201
    for path, body in (
        ("/streams/sales-1/events", BODY),
        ("/streams/sales-1/events", {**BODY, "channel": "delivery"}),
        ("/streams/other-1/events", BODY),
        ("/append", {"appends": [{"stream": "sales-1", **BODY}]}),
        (
            "/streams/mail-1/events",
            {**BODY, "conditions": [{"query": [{"types": ["A"]}], "after": "0"}]},
        ),
    ):
        answer = writer.post(path, json=body)
        assert answer.status_code == 403, (path, answer.text)
        assert "sales" not in answer.text or "'sales-1'" in answer.text
    assert writer.get("/events").status_code == 403
    assert writer.get("/streams/delivery-1/events").status_code == 403


def test_a_token_for_one_channel_appends_to_it(guarded: str, store: EventStore) -> None:
    with client_of(guarded, token(store, "append", channels="delivery")) as client:
        assert client.post("/streams/parcel-1/events", json=BODY).status_code == 201

    info = store.stream("parcel-1")
    assert info is not None
    assert info.channel == "delivery"


def test_a_token_for_some_streams(guarded: str, store: EventStore) -> None:
    text = token(store, "append,read", stream_prefixes=["order-", "bill-"])
    with client_of(guarded, text) as client:
        assert client.post("/streams/order-1/events", json=BODY).status_code == 201
        assert client.post("/streams/orders-1/events", json=BODY).status_code == 403
        assert client.get("/streams/orders-1/events").status_code == 403
        store.append("orders-1", NewEvent("A", {}), expected=ANY)
        found = client.get("/events").json()["events"]
        assert [event["stream"] for event in found] == ["order-1"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:80", "Origin": "http://localhost:81"}, 403),
        ({"Host": "localhost:80", "Origin": "http://localhost:80"}, 200),
    ],
)
def test_a_page_elsewhere_does_not_reach_a_server_of_this_machine(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    assert client.get("/events", headers=headers).status_code == status


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_form_of_a_page_elsewhere_is_refused(client: httpx.Client, media_type: str) -> None:
    answer = client.post(
        "/streams/a-1/events", content=json.dumps(BODY), headers={"Content-Type": media_type}
    )

    assert answer.status_code == 415


def test_a_body_over_the_limit_is_refused_while_it_arrives(serve: Serve) -> None:
    address = f"{serve(max_body_bytes=10_000)}/api/v1/streams/a-1/events"
    headers = {"Content-Type": "application/json"}

    told = httpx.post(address, content=b" " * 10_001, headers=headers)
    untold = httpx.post(address, content=iter([b" " * 6_000] * 2), headers=headers)

    assert [told.status_code, untold.status_code] == [413, 413]
    assert told.json()["limit"] == "10000"


def test_answers_have_the_headers_that_browsers_obey(client: httpx.Client) -> None:
    for answer in (client.get("/events"), client.get("/nothing"), client.get("/events?limit=0")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]


def test_writes_and_refusals_leave_a_line(
    guarded: str, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    created = store.create_token("delivery", can="append")
    with (
        caplog.at_level(logging.INFO, "indelible.audit"),
        client_of(guarded, created.text) as client,
    ):
        client.post("/streams/a-1/events", json=BODY)
        client.get("/events")
        client.get("/head")

    lines = [
        (record.getMessage(), record.principal, record.status)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "indelible.audit"
    ]
    name = f"token {created.info.id} (delivery)"
    assert lines == [
        ("POST /api/v1/streams/a-1/events", name, 201),
        ("GET /api/v1/events", name, 403),
    ]
    assert created.text not in caplog.text


def test_what_the_database_says_stays_in_the_log(serve: Serve, store: EventStore, url: str) -> None:
    address = serve()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER SCHEMA {store._engine._settings.schema} RENAME TO gone")
        answer = httpx.get(f"{address}/api/v1/events", timeout=30)
        connection.execute(f"ALTER SCHEMA gone RENAME TO {store._engine._settings.schema}")

    assert answer.status_code == 500
    assert "schema" not in answer.text
    assert answer.json()["type"] == "urn:indelible:internal-error"
