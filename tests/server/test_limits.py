"""Limits, clients that are slow, and requests that are no proper HTTP."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest

from indelible import ANY, EventStore, InvalidInput, NewEvent
from indelible.server import ServerSettings
from indelible.server.limits import RateLimit, place_of
from indelible.server.problems import Problem
from tests.support.http_server import connect, rest, talk
from tests.support.waiting import wait_until

from .conftest import Serve

HEAD = b"Host: localhost\r\nConnection: close\r\n"
JSON = b"Content-Type: application/json\r\n"


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split(b" ", 2)[1])


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"uvicorn" not in answer
    assert b"ython" not in answer
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == status_of(answer)
    return found


def bearer(store: EventStore) -> dict[str, str]:
    return {"Authorization": f"Bearer {store.create_token('test', can='read').text}"}


class Clock:
    """The time, which a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("indelible.server.limits.time.monotonic", lambda: self.now)


def taken(limit: RateLimit, key: str, most: int = 1_000) -> int:
    """How many requests a bucket gives until it is empty."""
    count = 0
    with suppress(Problem):
        while count < most:
            limit.take(key)
            count += 1
    return count


@pytest.mark.parametrize("rate", [1, 3, 7, 100, 999])
def test_a_bucket_is_filled_at_its_rate(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    clock, limit = Clock(monkeypatch), RateLimit(rate)

    assert [taken(limit, "a"), taken(limit, "b")] == [rate, rate]
    clock.now += 2.5 / rate
    assert taken(limit, "a") == min(2, rate)
    clock.now += 1_000
    assert taken(limit, "a") == rate
    assert taken(RateLimit(0), "a") == 1_000


def test_buckets_that_are_full_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limit = Clock(monkeypatch), RateLimit(10)
    for number in range(50_000):
        clock.now += 0.001
        limit.take(str(number))

    assert len(limit._full_at) < 20_000


def test_a_client_has_a_whole_network_of_ipv6() -> None:
    assert place_of("2001:db8::1") == place_of("2001:db8::ffff:1") != place_of("2001:db8:0:1::1")
    assert place_of("192.0.2.1") != place_of("192.0.2.2")
    assert place_of("") == ""


def test_the_rate_is_limited_unless_only_this_machine_can_reach_the_server() -> None:
    assert ServerSettings().requests_per_second == 0
    assert ServerSettings(host="::1", rate=5).requests_per_second == 5
    assert ServerSettings(host="0.0.0.0").requests_per_second == 1_000
    assert ServerSettings(host="0.0.0.0", rate=0).requests_per_second == 0


def test_each_token_has_a_rate_and_so_has_who_has_none(serve: Serve, store: EventStore) -> None:
    address = f"{serve(requires_token=True, rate=1)}/api/v1/head"
    first, second = bearer(store), bearer(store)

    def status(headers: dict[str, str]) -> int:
        with httpx.Client(timeout=30) as client:
            answer = client.get(address, headers=headers)
        if answer.status_code == 429:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["type"] == "urn:indelible:too-many-requests"
        return answer.status_code

    wait_until(lambda: status(first) == 429)
    wait_until(lambda: status({}) == 429)
    assert status(second) == 200
    wait_until(lambda: status(first) == 200)


def test_too_many_connections_are_refused(serve: Serve) -> None:
    address = serve(max_connections=2)
    with ExitStack() as held:
        idle = [held.enter_context(connect(address)) for _ in range(2)]

        def answer() -> httpx.Response:
            return httpx.get(f"{address}/health/live", timeout=30)

        wait_until(lambda: answer().status_code == 503)
        refused = answer()
        assert refused.json()["type"] == "urn:indelible:too-many-connections"
        assert refused.headers["retry-after"] == "1"
        idle[0].close()
        wait_until(lambda: answer().status_code == 200)


def test_too_many_streams_of_a_principal_are_refused(serve: Serve, store: EventStore) -> None:
    address = f"{serve(requires_token=True, max_streams=2)}/api/v1/events/subscribe"
    mine, others = bearer(store), bearer(store)
    with ExitStack() as held:

        def subscribe(headers: dict[str, str]) -> httpx.Response:
            return held.enter_context(httpx.stream("GET", address, headers=headers, timeout=30))

        opened = [subscribe(mine), subscribe(mine)]
        assert [answer.status_code for answer in opened] == [200, 200]
        refused = subscribe(mine)
        assert refused.status_code == 429
        assert json.loads(refused.read())["type"] == "urn:indelible:too-many-streams"
        assert subscribe(others).status_code == 200
        opened[0].close()
        wait_until(lambda: subscribe(mine).status_code == 200)


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n", b"GET /hea", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A"]
)
def test_a_head_that_does_not_arrive_is_refused(serve: Serve, sent: bytes) -> None:
    address = serve(head_timeout=0.2)

    assert problem_of(talk(address, sent))["type"] == "urn:indelible:too-slow"


def test_a_head_that_arrives_byte_by_byte_is_refused(serve: Serve) -> None:
    address = serve(head_timeout=0.3)
    with connect(address) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nX-A: ")
        connection.settimeout(0.02)
        answer = b""
        while not answer:
            try:
                answer = connection.recv(65_536)
            except TimeoutError:
                connection.sendall(b"a")
        connection.settimeout(30)
        answer += rest(connection)

    assert problem_of(answer)["status"] == 408


def test_the_next_head_of_a_connection_is_limited_too(serve: Serve) -> None:
    address = serve(head_timeout=1.0)
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ask() -> bytes:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65_536)
        return answer

    with connect(address) as connection:
        first, second = ask(), ask()
        connection.sendall(request[:-2])
        third = rest(connection)

    assert [status_of(answer) for answer in (first, second, third)] == [200, 200, 408]


def test_a_request_may_take_longer_than_its_head(serve: Serve, store: EventStore) -> None:
    address = serve(head_timeout=0.5, body_timeout=0.5, heartbeat=0.1)
    with httpx.stream("GET", f"{address}/api/v1/events/subscribe", timeout=30) as answer:
        lines = answer.iter_lines()
        for _ in range(10):
            assert next(line for line in lines if line == ": heartbeat")


@pytest.mark.parametrize(
    "body", [b"Content-Length: 20\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\r\n"]
)
def test_a_body_that_does_not_arrive_is_refused(serve: Serve, body: bytes) -> None:
    address = serve(body_timeout=0.2)
    sent = b"POST /api/v1/streams/a-1/events HTTP/1.1\r\nHost: localhost\r\n" + JSON + body

    assert problem_of(talk(address, sent))["type"] == "urn:indelible:too-slow"


def test_a_client_that_reads_nothing_is_cut_off(serve: Serve, store: EventStore) -> None:
    address = serve(send_timeout=0.2, max_connections=1)
    for _ in range(8):
        store.append("a-1", [NewEvent("A", {"x": "x" * 900_000})], expected=ANY)
    request = b"GET /api/v1/events HTTP/1.1\r\nAccept: application/x-ndjson\r\n" + HEAD + b"\r\n"
    with connect(address, receives=4_096) as connection:
        connection.sendall(request)
        wait_until(lambda: httpx.get(f"{address}/health/live", timeout=30).status_code == 200)
        assert not rest(connection).endswith(b"0\r\n\r\n")


def test_a_head_that_is_too_large_is_refused(serve: Serve) -> None:
    address = serve()

    long = talk(address, b"GET /health/live HTTP/1.1\r\nX-A: " + b"a" * 1_000_000)
    many = talk(address, b"GET /health/live HTTP/1.1\r\n" + b"X-A: a\r\n" * 200_000)
    path = talk(address, b"GET /" + b"a" * 1_000_000)

    assert [problem_of(answer)["status"] for answer in (long, many, path)] == [431] * 3


DEEP = "[" * 100_000 + "]" * 100_000
DEEPER = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize("deep", [DEEP, DEEPER, "[" * 100_000])
@pytest.mark.parametrize(
    "body",
    [
        "%s",
        '{"events":[{"type":"A","data":%s}],"expected":"any"}',
        '{"events":[{"type":"A","metadata":{"a":%s}}],"expected":"any"}',
        '{"events":[{"type":"A","tags":%s}],"expected":"any"}',
        '{"events":[],"unknown":%s}',
    ],
)
def test_json_that_is_too_deep_is_refused(client: httpx.Client, body: str, deep: str) -> None:
    answer = client.post(
        "/streams/a-1/events",
        content=body.replace("%s", deep),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code in (400, 422), answer.text
    assert client.get("/streams/a-1").status_code == 404


@pytest.mark.parametrize("depth", [10, 100, 900, 2_000, 4_000, 6_000, 9_000])
def test_deep_json_is_stored_or_refused(client: httpx.Client, depth: int) -> None:
    data = "[" * depth + "]" * depth
    answer = client.post(
        "/streams/a-1/events",
        content=f'{{"events":[{{"type":"A","data":{data}}}],"expected":"any"}}',
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code in (201, 400, 422), answer.text
    found = client.get("/streams/a-1/events")
    assert found.status_code == (200 if answer.status_code == 201 else 404), found.text
    assert depth > 100 or answer.status_code == 201


BROKEN = [
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the begin of TLS
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nX\0Y: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n" + HEAD + b"\r\na",
    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + HEAD + b"\r\nab",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"
    + HEAD
    + b"\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: -1\r\n" + HEAD + b"\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n" + HEAD + b"\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5_000 + b"\r\n" + HEAD + b"\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked, x\r\n" + HEAD + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + HEAD + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n" + HEAD[17:] + b"\r\n",
    b"GET / HTTP/1.1\r\nOrigin: http://localhost\r\nOrigin: null\r\n" + HEAD + b"\r\n",
    b"GET / HTTP/1.1\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n" + HEAD + b"\r\n",
    b"POST / HTTP/1.1\r\nContent-Type: text/plain\r\n" + JSON + HEAD + b"\r\n",
    b"GET / HTTP/1.1\r\nCookie: a=b\r\nCookie: a=c\r\n" + HEAD + b"\r\n",
]


@pytest.mark.parametrize("sent", BROKEN, ids=range(len(BROKEN)))
def test_what_is_not_proper_http_is_refused(serve: Serve, sent: bytes) -> None:
    found = problem_of(talk(serve(), sent))

    assert found["type"] == "urn:indelible:bad-request"
    assert found["status"] == 400


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GET /health/live HTTP/1.1\r\n\r\n", {421}),  # without a host
        (b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n", {200}),
        (b"GET http://evil.example/health/live HTTP/1.1\r\n" + HEAD + b"\r\n", {200, 400}),
        (b"GET * HTTP/1.1\r\n" + HEAD + b"\r\n", {400, 404}),
        (b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n", {400, 404}),
        (b"CONNECT localhost:22 HTTP/1.1\r\n" + HEAD + b"\r\n", {400, 404, 405}),
        (b"TRACE /api/v1/head HTTP/1.1\r\n" + HEAD + b"\r\n", {400, 405}),
        (b"OPTIONS /api/v1/head HTTP/1.1\r\n" + HEAD + b"\r\n", {405}),
        (b"DELETE /api/v1/head HTTP/1.1\r\n" + HEAD + b"\r\n", {405}),
        (b"GET /api/v1/head/ HTTP/1.1\r\n" + HEAD + b"\r\n", {404}),
        (b"GET /api/v1/head HTTP/1.1\r\nUpgrade: websocket\r\n" + HEAD + b"\r\n", {200}),
        (
            b"GET /api/v1/head HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
            {200, 400},
        ),
    ],
)
def test_unusual_requests_have_an_answer(serve: Serve, sent: bytes, statuses: set[int]) -> None:
    answer = talk(serve(), sent)

    assert status_of(answer) in statuses, answer
    assert b"uvicorn" not in answer
    assert status_of(answer) != 405 or b"allow: " in answer.lower()


def test_a_request_for_the_head_of_an_answer_ends(serve: Serve, store: EventStore) -> None:
    address = serve()
    store.append("a-1", NewEvent("A", {}), expected=ANY)

    for path in ("/health/live", "/api/v1/events", "/api/v1/streams", "/api/v1/events/subscribe"):
        request = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        with connect(address) as connection:
            answers = []
            for _ in range(2):  # the connection can be used again
                connection.sendall(request)
                answers.append(connection.recv(65_536))
        for answer in answers:
            head, end, body = answer.partition(b"\r\n\r\n")
            assert (end, body) == (b"\r\n\r\n", b"")
            assert status_of(head) in (200, 405)


@pytest.mark.parametrize(
    "value",
    [b"Bearer \xff\xfe", b"Bearer a\xc3\xa4", b"\xff", b"Bearer " + b"A" * 50_000, b"Bearer\ta",
     b"bearer", b"Bearer  ", b"Bearer ind_aaaaaaaa_" + b"\xe4" * 43, b"Digest a=b, c=d"],
)  # fmt: skip
def test_odd_bytes_are_no_token(serve: Serve, value: bytes) -> None:
    sent = b"GET /api/v1/head HTTP/1.1\r\nAuthorization: " + value + b"\r\n" + HEAD + b"\r\n"

    assert problem_of(talk(serve(), sent))["type"] == "urn:indelible:unauthorized"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.", "localhost.evil.example", "127.0.0.1.evil.example",
     "127.0.0.1.", "[::1].evil.example", "[::1]evil", "[::2]", "::1", "[::1", "[[::1]]", "[]",
     "localhost:80:80", "localhost:x", "localhost:-1", "localhost@evil.example",
     "evil.example@localhost", "localhost/evil", "localhost evil", "localhost,evil", "127.1",
     "2130706433", "0x7f.1", "[0:0:0:0:0:0:0:1]", "0.0.0.0", "\xe4", "localhost%2eevil"],
)  # fmt: skip
def test_a_name_that_is_not_this_server_is_refused(serve: Serve, host: str) -> None:
    sent = f"GET /api/v1/head HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"

    found = problem_of(talk(serve(), sent.encode("latin-1")))
    assert (found["status"], found["type"]) == (421, "urn:indelible:unknown-host")


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "localhost"),
        ({}, "LocalHost:1"),
        ({}, "127.0.0.1:65535"),
        ({}, "[::1]"),
        ({}, "[::1]:7373"),
        ({}, "localhost:"),
        ({"allowed_hosts": ("Store.Example",)}, "store.example:443"),
        ({"allowed_hosts": ("fd00::1",)}, "[fd00::1]:80"),
        ({"allowed_hosts": ("[FD00::1]",)}, "[fd00::1]"),
        ({"requires_token": True, "allowed_hosts": ("a.example",)}, "a.example"),
    ],
)
def test_a_name_of_this_server_is_answered(
    serve: Serve, options: dict[str, Any], host: str
) -> None:
    sent = f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    assert status_of(talk(serve(**options), sent)) == 200


@pytest.mark.parametrize(
    "origin", [b"http://[", b"http://[::1", b"//localhost", b"localhost", b"\xff", b"http://",
               b"http://localhost.", b"http://localhost:1", b"http://a@localhost",
               b"ftp://localhost", b"http://localhost, http://evil.example", b"file://"],
)  # fmt: skip
def test_an_origin_that_is_not_this_server_is_refused(serve: Serve, origin: bytes) -> None:
    sent = b"GET /api/v1/head HTTP/1.1\r\nOrigin: " + origin + b"\r\n" + HEAD + b"\r\n"

    assert problem_of(talk(serve(), sent))["type"] == "urn:indelible:other-origin"


@pytest.mark.parametrize(
    "media_type",
    ["text/plain;application/json", "text/plain; a=application/json", "application/json, a/b",
     "application/jsonx", "application/x-www-form-urlencoded", "", "application\\json", "\xe4"],
)  # fmt: skip
def test_a_media_type_that_is_not_json_is_refused(client: httpx.Client, media_type: str) -> None:
    answer = client.post(
        "/streams/a-1/events",
        content=b'{"events":[{"type":"A"}],"expected":"any"}',
        headers={"Content-Type": media_type.encode("latin-1")},
    )

    assert answer.status_code == 415


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "shop.example", "https://", "https://shop.example/", "https://*.example",
     "https://shop.example/path", "https://a@shop.example", "HTTPS://shop.example", ""],
)  # fmt: skip
def test_what_is_no_origin_cannot_be_allowed(origin: str) -> None:
    with pytest.raises(InvalidInput, match="--allowed-origin"):
        ServerSettings(allowed_origins=(origin,))
