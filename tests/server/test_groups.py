"""Consumer groups over HTTP: administer them, lease events, and report outcomes at any server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from indelible import ANY, EventStore, NewEvent
from tests.support.waiting import wait_until

from .conftest import Serve

JSON = dict[str, Any]


def fill(store: EventStore, count: int, each: int = 1, prefix: str = "a") -> None:
    """Append events to streams a-0, a-1, …"""
    for number in range(count):
        events = [NewEvent("A", {"n": n}) for n in range(each)]
        store.append(f"{prefix}-{number}", events, expected=ANY)


def create(client: httpx.Client, group: str = "mails", **fields: Any) -> JSON:
    answer = client.put(f"/groups/{quote(group, safe='')}", json=fields)
    assert answer.status_code == 201, answer.text
    found: JSON = answer.json()
    return found


def lease(client: httpx.Client, group: str = "mails", **fields: Any) -> JSON:
    answer = client.post(f"/groups/{group}/leases", json={"wait": 20, "seconds": 60, **fields})
    assert answer.status_code == 200, answer.text
    found: JSON = answer.json()
    assert (found["lease"] is None) == (not found["deliveries"])
    return found


def report(
    client: httpx.Client, leased: JSON, outcome: str, group: str = "mails", **fields: Any
) -> httpx.Response:
    return client.post(f"/groups/{group}/leases/{leased['lease']}/{outcome}", json=fields)


def done(client: httpx.Client, leased: JSON, outcome: str, **fields: Any) -> JSON:
    answer = report(client, leased, outcome, **fields)
    assert answer.status_code == 200, answer.text
    found: JSON = answer.json()
    return found


def positions(leased: JSON) -> list[str]:
    return [delivery["event"]["position"] for delivery in leased["deliveries"]]


def lease_all(client: httpx.Client, count: int, **fields: Any) -> list[JSON]:
    """Lease until there are so many events: a batch may end early."""
    leases = []
    while sum(len(each["deliveries"]) for each in leases) < count:
        leases.append(lease(client, **fields))
        assert leases[-1]["deliveries"]
    return leases


@pytest.fixture
def other(serve: Serve, client: httpx.Client) -> Iterator[httpx.Client]:
    """A client of a second server on the same store."""
    with httpx.Client(base_url=f"{serve()}/api/v1", timeout=60) as opened:
        yield opened


# Administration --------------------------------------------------------------------------------


def test_a_group_is_created_changed_listed_and_deleted(client: httpx.Client) -> None:
    query = [{"types": ["A"], "tags": [], "channel": "a", "stream": None, "stream_prefix": None}]
    settings = {"query": [{"types": ["A"], "channel": "a"}], "max_attempts": 3}

    made = create(client, "a/b", **settings)

    assert made == {
        "name": "a/b",
        "query": query,
        "partition_by": "stream",
        "max_attempts": 3,
        "retry_after": 1.0,
        "lease": 10.0,
        "park_blocks_stream": True,
        "deliver_when_valid": False,
        "start": "0",
        "checkpoint": "0",
        "lag_events": "0",
        "lag_seconds": 0.0,
        "waiting": "0",
        "retrying": "0",
        "queued": "0",
        "parked": "0",
        "workers": [],
        "created_at": made["created_at"],
    }
    assert client.put("/groups/a%2Fb", json=settings).status_code == 200
    refused = client.put("/groups/a%2Fb", json={})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:indelible:group-exists")
    changed = client.put("/groups/a%2Fb", json={"exists": "change"})
    assert (changed.status_code, changed.json()["query"]) == (200, None)
    assert client.get("/groups/a%2Fb").json() == client.get("/groups").json()[0]
    assert client.delete("/groups/a%2Fb").status_code == 204
    assert client.delete("/groups/a%2Fb").status_code == 404
    gone = client.get("/groups/a%2Fb")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:indelible:group-not-found")
    assert client.get("/groups").json() == []


def test_a_group_begins_and_continues_where_the_client_says(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 3)
    third = list(store.read_all())[-1]
    starts = {
        "beginning": "0",
        "0": "0",
        "2": "2",
        "head": "3",
        f"2@{store.epoch()}": "2",
        third.recorded_at.isoformat(): "2",
    }
    for number, (start, position) in enumerate(starts.items()):
        assert create(client, f"g{number}", start=start)["start"] == position
        moved = client.post("/groups/g0/reset", json={"to": start})
        assert moved.json() == {"position": position}
    lost = {"to": "2@00000000-0000-0000-0000-000000000000"}
    assert client.post("/groups/g0/reset", json=lost).status_code == 410
    for wrong in ("99", "x", "", "1@x"):
        assert client.post("/groups/g0/reset", json={"to": wrong}).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/groups/x", {"query": []}, 422),
        ("PUT", "/groups/x", {"unknown": 1}, 422),
        ("PUT", "/groups/x", {"exists": "keep"}, 422),
        ("PUT", "/groups/x", {"max_attempts": 0}, 422),
        ("PUT", "/groups/x", {"partition_by": "x"}, 422),
        ("POST", "/groups/mails/leases", {"limit": 0}, 422),
        ("POST", "/groups/mails/leases", {"limit": 1001}, 422),
        ("POST", "/groups/mails/leases", {"seconds": 0.5}, 422),
        ("POST", "/groups/mails/leases", {"seconds": 3601}, 422),
        ("POST", "/groups/mails/leases", {"wait": 61}, 422),
        ("POST", "/groups/nobody/leases", {}, 404),
        ("POST", "/groups/mails/leases/x/ack", {}, 409),
        ("POST", "/groups/mails/leases/x/ack", {"positions": []}, 422),
        ("POST", "/groups/mails/leases/x/ack", {"positions": [1]}, 422),
        ("POST", "/groups/mails/leases/0195b7a0-0000-7000-8000-000000000000/nack", {}, 409),
        ("POST", "/groups/mails/leases/0195b7a0-0000-7000-8000-000000000000/extend", {}, 409),
        ("POST", "/groups/nobody/replay", {}, 404),
        ("POST", "/groups/mails/wait", {"position": "x"}, 422),
        ("POST", "/groups/mails/wait", {"position": "1", "timeout": 61}, 422),
        ("GET", "/groups/mails/parked?limit=0", None, 422),
        ("GET", "/groups/nobody/parked", None, 404),
    ],
)
def test_a_request_that_cannot_be_served_says_why(
    client: httpx.Client, method: str, path: str, body: JSON | None, status: int
) -> None:
    create(client)

    answer = client.request(method, path, **({} if body is None else {"json": body}))

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


# Leases ----------------------------------------------------------------------------------------


def test_leased_events_are_acknowledged(client: httpx.Client, store: EventStore) -> None:
    fill(store, 5)
    create(client)

    leases = lease_all(client, 5)

    delivered = [delivery for each in leases for delivery in each["deliveries"]]
    events = client.get("/events").json()["events"]
    assert sorted(delivered, key=lambda each: int(each["event"]["position"])) == [
        {"event": event, "attempt": 1} for event in events
    ]
    for each in leases:
        assert done(client, each, "ack") == {"left": 0, "expires_at": each["expires_at"]}
    answer = client.post("/groups/mails/wait", json={"position": "5", "timeout": 30})
    assert answer.json() == {"position": "5"}
    assert lease(client, wait=0) == {"lease": None, "expires_at": None, "deliveries": []}
    late = client.post("/groups/mails/wait", json={"position": "9", "timeout": 0})
    assert late.status_code == 409
    assert late.json()["type"] == "urn:indelible:wait-timeout"
    assert late.json()["checkpoint"] == "5"


def test_each_event_of_a_lease_has_one_outcome(client: httpx.Client, store: EventStore) -> None:
    fill(store, 3)
    create(client, retry_after=0)
    first, *more = lease_all(client, 3)
    for each in more:  # a batch may end early
        done(client, each, "ack")
    one, *rest = positions(first)

    assert done(client, first, "ack", positions=[one])["left"] == len(rest)
    again = report(client, first, "nack", positions=[one])
    assert again.status_code == 422
    assert "already has an outcome" in again.json()["detail"]
    strange = report(client, first, "ack", positions=["99"])
    assert strange.status_code == 422
    assert "not in lease" in strange.json()["detail"]
    if rest:
        assert done(client, first, "skip", reason="not ours")["left"] == 0
    wait_until(lambda: report(client, first, "ack").status_code == 409)
    assert report(client, first, "ack").json()["type"] == "urn:indelible:lease-lost"


def test_events_of_a_stream_come_one_at_a_time_and_in_order(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 1, each=4)
    create(client)
    found = []
    for _ in range(4):
        leased = lease(client)
        found += positions(leased)
        assert lease(client, wait=0)["deliveries"] == []
        done(client, leased, "ack")

    assert found == ["1", "2", "3", "4"]


def test_a_failed_event_is_retried_parked_and_replayed(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 1, each=2)
    create(client, max_attempts=2, retry_after=0)
    for attempt in (1, 2):
        leased = lease(client)
        assert [each["attempt"] for each in leased["deliveries"]] == [attempt]
        assert positions(leased) == ["1"]
        done(client, leased, "nack", error="no\0 such address")

    wait_until(lambda: client.get("/groups/mails").json()["parked"] == "1")
    (parked,) = client.get("/groups/mails/parked").json()
    assert parked == {
        "position": "1",
        "stream": "a-0",
        "version": "0",
        "type": "A",
        "key": "a-0",
        "attempts": 2,
        "reason": "failed 2 times: the handler failed",
        "error": "no\N{REPLACEMENT CHARACTER} such address",
        "parked_at": parked["parked_at"],
        "queued": parked["queued"],
    }
    assert client.get("/groups/mails/parked?stream=b-0").json() == []
    nothing = client.post("/groups/mails/replay", json={"position": "2"})
    assert nothing.json() == {"events": "0"}
    replayed = client.post("/groups/mails/replay", json={"stream": "a-0"})
    assert replayed.json() == {"events": "1"}
    leased = lease(client)
    assert (positions(leased), leased["deliveries"][0]["attempt"]) == (["1"], 1)
    done(client, leased, "park", reason="a person must look", error="odd")
    (parked,) = client.get("/groups/mails/parked").json()
    assert (parked["reason"], parked["error"]) == ("a person must look", "odd")
    assert client.post("/groups/mails/discard", json={}).json() == {"events": "1"}
    leased = lease(client)
    assert positions(leased) == ["2"]
    done(client, leased, "ack")


def test_an_expired_lease_counts_an_attempt(client: httpx.Client, store: EventStore) -> None:
    fill(store, 1)
    create(client, max_attempts=2, retry_after=0)

    first = lease(client, seconds=1)
    second = lease(client, seconds=1)

    assert (positions(second), second["deliveries"][0]["attempt"]) == (["1"], 2)
    late = report(client, first, "ack")
    assert (late.status_code, late.json()["type"]) == (409, "urn:indelible:lease-lost")
    wait_until(lambda: client.get("/groups/mails").json()["parked"] == "1")
    (parked,) = client.get("/groups/mails/parked").json()
    assert parked["reason"] == "failed 2 times: the lease expired"
    assert report(client, second, "extend").status_code == 409


def test_events_that_are_given_back_count_no_attempt(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 1)
    create(client, max_attempts=1, retry_after=0)
    for _ in range(3):
        leased = lease(client)
        assert leased["deliveries"][0]["attempt"] == 1
        done(client, leased, "give-back")

    assert positions(lease(client)) == ["1"]


def test_a_long_poll_ends_with_an_append(client: httpx.Client, store: EventStore) -> None:
    create(client)
    with ThreadPoolExecutor(1) as threads:
        polling = threads.submit(lease, client, wait=25)
        wait_until(lambda: client.get("/groups/mails").json()["workers"])
        assert not polling.done()
        begun = time.monotonic()
        fill(store, 1)
        assert positions(polling.result()) == ["1"]
        assert time.monotonic() - begun < 10


def test_a_client_that_is_gone_gets_no_events(client: httpx.Client, store: EventStore) -> None:
    create(client)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{client.base_url}groups/mails/leases", json={"wait": 60, "seconds": 60}, timeout=1
        )
    fill(store, 1)

    leased = lease(client)

    assert (positions(leased), leased["deliveries"][0]["attempt"]) == (["1"], 1)


def test_a_server_that_nobody_asks_leaves_the_group_and_keeps_no_leases(
    client: httpx.Client, store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    fill(store, 1)
    create(client)
    done(client, lease(client), "ack")

    rows = f"SELECT count(*) FROM {schema}.group_leases"
    wait_until(lambda: connection.execute(rows).fetchone() == (0,))
    wait_until(lambda: client.get("/groups/mails").json()["workers"] == [])
    fill(store, 1)
    assert positions(lease(client)) == ["2"]


def test_a_group_that_was_deleted_and_created_again_is_served(
    client: httpx.Client, store: EventStore
) -> None:
    fill(store, 1)
    create(client)
    leased = lease(client)
    client.delete("/groups/mails")
    assert report(client, leased, "ack").status_code == 409
    create(client)

    wait_until(lambda: positions(lease(client, wait=1)) == ["1"])


def test_a_reset_ends_leases(client: httpx.Client, store: EventStore) -> None:
    fill(store, 1)
    create(client)
    leased = lease(client)

    client.post("/groups/mails/reset", json={"to": "beginning"})

    assert report(client, leased, "ack").json()["type"] == "urn:indelible:lease-lost"
    assert positions(lease(client)) == ["1"]


# Several servers -------------------------------------------------------------------------------


def test_two_servers_share_a_group_and_take_each_other_s_acks(
    client: httpx.Client, other: httpx.Client, store: EventStore
) -> None:
    fill(store, 30, each=2)
    create(client)
    clients, found, turn = [client, other], [], 0
    deadline = time.monotonic() + 120
    while len(found) < 60:
        assert time.monotonic() < deadline
        leased = lease(clients[turn % 2], limit=7, wait=1)
        turn += 1
        if leased["deliveries"]:
            found += [delivery["event"] for delivery in leased["deliveries"]]
            assert done(clients[turn % 2], leased, "ack")["left"] == 0

    assert sorted(int(event["position"]) for event in found) == list(range(1, 61))
    by_stream: dict[str, list[str]] = {}
    for event in found:
        by_stream.setdefault(event["stream"], []).append(event["version"])
    assert set(map(tuple, by_stream.values())) == {("0", "1")}
    waited = other.post("/groups/mails/wait", json={"position": "60", "timeout": 30})
    assert waited.json() == {"position": "60"}


def test_an_ack_at_another_server_frees_the_stream(
    client: httpx.Client, other: httpx.Client, store: EventStore
) -> None:
    fill(store, 1, each=2)
    create(client)

    done(other, lease(client), "ack")

    assert positions(lease(client)) == ["2"]


def test_failures_reported_at_another_server_count_and_block_the_stream(
    client: httpx.Client, other: httpx.Client, store: EventStore
) -> None:
    fill(store, 1, each=2)
    create(client, retry_after=0)

    done(other, lease(client), "nack", error="first")
    leased = lease(client)
    assert (positions(leased), leased["deliveries"][0]["attempt"]) == (["1"], 2)
    done(other, leased, "park")
    fill(store, 1, prefix="b")
    leased = lease(client)
    assert positions(leased) == ["3"]
    done(client, leased, "ack")
    assert lease(client, wait=0)["deliveries"] == []
    assert other.post("/groups/mails/discard", json={"position": "1"}).json() == {"events": "1"}
    assert positions(lease(client)) == ["2"]


def test_a_lease_is_extended_at_another_server(
    client: httpx.Client, other: httpx.Client, store: EventStore
) -> None:
    fill(store, 1)
    create(client, retry_after=0)
    leased = lease(client, seconds=1)

    extended = done(other, leased, "extend", seconds=60)

    assert extended["left"] == 1
    first, second = (datetime.fromisoformat(each["expires_at"]) for each in (leased, extended))
    assert (second - first).total_seconds() > 55
    wait_until(lambda: datetime.now(UTC) > first)
    assert lease(client, wait=1)["deliveries"] == []
    assert done(client, leased, "ack")["left"] == 0


def test_an_ack_and_the_expiry_of_its_lease_agree(
    client: httpx.Client, other: httpx.Client, store: EventStore
) -> None:
    """An ack that was answered with 200 is never followed by another delivery."""
    fill(store, 8)
    create(client, retry_after=0, max_attempts=9_999)
    acked: set[str] = set()
    deadline = time.monotonic() + 120
    while len(acked) < 8:
        assert time.monotonic() < deadline
        leased = lease(client, seconds=1, limit=8)
        assert not acked & set(positions(leased))
        expires_at = datetime.fromisoformat(leased["expires_at"]).timestamp()
        for number, position in enumerate(positions(leased)):
            # Some before the lease expires, some at that moment, some after it.
            pause = expires_at - time.time() - 0.06 + 0.02 * number
            time.sleep(max(pause, 0))
            answer = report(other, leased, "ack", positions=[position])
            assert answer.status_code in (200, 409), answer.text
            if answer.status_code == 200:
                acked.add(position)
    waited = client.post("/groups/mails/wait", json={"position": "8", "timeout": 30})
    assert waited.json() == {"position": "8"}


@contextmanager
def process(url: str, schema: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = subprocess.Popen(
        [sys.executable, "-m", "indelible", "serve", "--port", str(port)],
        env={**os.environ, "INDELIBLE_URL": url, "INDELIBLE_SCHEMA": schema},
    )
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert running.poll() is None
        try:
            return httpx.get(f"{address}/health/ready", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_ready, 60)
        with httpx.Client(base_url=f"{address}/api/v1", timeout=60) as opened:
            yield running, opened
    finally:
        running.kill()
        running.wait()


def test_a_server_that_is_killed_loses_nothing(
    client: httpx.Client, store: EventStore, url: str, schema: str
) -> None:
    fill(store, 6, each=2)
    create(client, lease=3)
    with process(url, schema) as (server, doomed):
        leases = lease_all(doomed, 6)
        leased = [position for each in leases for position in positions(each)]
        # It cannot learn of these acks any more.
        server.send_signal(signal.SIGSTOP)
        acked = positions(leases[0])[:1]
        assert done(client, leases[0], "ack", positions=acked)["left"] == (
            len(positions(leases[0])) - 1
        )
        server.kill()
        server.wait()
    found: dict[str, int] = {}
    while len(found) < 11:
        following = lease(client, wait=30)
        assert following["deliveries"]
        for delivery in following["deliveries"]:
            found[delivery["event"]["position"]] = delivery["attempt"]
        done(client, following, "ack")

    assert found.keys() == {str(n) for n in range(1, 13)} - set(acked)
    assert all(found[position] == 2 for position in leased if position not in acked)
    left = next(each for each in leases if set(positions(each)) - set(acked))
    assert report(client, left, "ack").status_code == 409


def test_a_server_that_stops_gives_its_events_back_at_once(
    client: httpx.Client, store: EventStore, url: str, schema: str
) -> None:
    fill(store, 3)
    create(client, lease=600, retry_after=0)
    with process(url, schema) as (server, stopped):
        first = lease_all(stopped, 3, seconds=3600)[0]
        parked = positions(first)[0]
        done(stopped, first, "nack", positions=[parked])
        again = lease(stopped, seconds=3600)
        assert (positions(again), again["deliveries"][0]["attempt"]) == ([parked], 2)
        # Outcomes that it may not have learned of yet hold, too.
        done(client, again, "park")
        server.send_signal(signal.SIGTERM)
        server.wait(30)

    following = [delivery for each in lease_all(client, 2) for delivery in each["deliveries"]]

    assert {delivery["event"]["position"] for delivery in following} == {"1", "2", "3"} - {parked}
    assert {delivery["attempt"] for delivery in following} == {1}
    assert [each["position"] for each in client.get("/groups/mails/parked").json()] == [parked]


# Rights ----------------------------------------------------------------------------------------


@pytest.fixture
def as_(serve: Serve, store: EventStore) -> Iterator[Callable[..., httpx.Client]]:
    """Clients of a server that asks for tokens, each with a token of its own."""
    address = f"{serve(requires_token=True)}/api/v1"
    opened = []

    def one(can: str, channels: str | tuple[str, ...] = ()) -> httpx.Client:
        text = store.create_token("test", can=can, channels=channels).text
        headers = {"Authorization": f"Bearer {text}"}
        opened.append(httpx.Client(base_url=address, headers=headers, timeout=60))
        return opened[-1]

    yield one
    for client in opened:
        client.close()


def test_a_token_uses_the_groups_that_it_covers(
    as_: Callable[..., httpx.Client], store: EventStore
) -> None:
    fill(store, 2, prefix="delivery")
    manager, everything = as_("manage", "delivery"), as_("manage,consume")
    consumer, reader = as_("consume", "delivery"), as_("read", "delivery")
    own = {"query": [{"channel": "delivery"}]}
    create(manager, "own", **own)
    create(everything, "all")

    def names(client: httpx.Client) -> list[str]:
        return [group["name"] for group in client.get("/groups").json()]

    assert names(everything) == ["all", "own"]
    assert names(manager) == names(consumer) == names(reader) == ["own"]
    assert names(as_("consume", "sales")) == names(as_("append")) == []
    for client in (manager, consumer, reader):
        assert client.get("/groups/own").status_code == 200
        assert client.get("/groups/own/parked").status_code == 200
        hidden = client.get("/groups/all")
        assert hidden.status_code == 404
        assert "own" not in hidden.text
        assert client.get("/groups/nothing").json()["detail"] == hidden.json()["detail"].replace(
            "all", "nothing"
        )
    leased = lease(consumer, "own")
    foreign = lease(everything, "all")
    for client in (manager, reader):
        assert client.post("/groups/own/leases", json={}).status_code == 403
        assert report(client, leased, "ack", "own").status_code == 403
    for path, body in (
        ("/groups/own/reset", {"to": "0"}),
        ("/groups/own/replay", {}),
        ("/groups/own/discard", {}),
    ):
        assert consumer.post(path, json=body).status_code == 403
        assert reader.post(path, json=body).status_code == 403
        assert manager.post(path, json=body).status_code == 200
    assert consumer.delete("/groups/own").status_code == 403
    assert consumer.put("/groups/mine", json=own).status_code == 403
    assert manager.put("/groups/mine", json={}).status_code == 403
    assert manager.put("/groups/all", json={**own, "exists": "change"}).status_code == 403
    assert report(consumer, foreign, "ack", "own").status_code == 409
    assert report(consumer, foreign, "ack", "all").status_code == 404
    assert report(everything, foreign, "ack", "all").status_code == 200
    assert manager.delete("/groups/own").status_code == 204
