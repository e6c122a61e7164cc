"""Killed daemons: others take over, and every sum is right."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

import psycopg
import psycopg.conninfo
import pytest

from indelible import (
    ANY,
    AsyncEventStore,
    DocumentProjection,
    EventStore,
    NewEvent,
    RecordedEvent,
    TableProjection,
    handles,
)
from tests.support.daemons import Running
from tests.support.interleavings import paused, stopped_at
from tests.support.waiting import wait_until

_LEASE = 1.0

_DAEMON = f"""
import sys, threading
from indelible import EventStore
from tests.concurrency.projections import test_daemon
url, schema, name, projection = sys.argv[1:]
with EventStore.connect(url, schema=schema) as store:
    daemon = store.daemon([getattr(test_daemon, projection)], lease={_LEASE}, name=name)
    daemon.run(threading.Event())
"""


class Cents(DocumentProjection[dict]):
    """By receiver, each of which has events of many streams."""

    name = "cents"
    partitions = 4

    def key(self, event: RecordedEvent) -> str:
        return str(event.data["to"])

    @handles("Paid")
    def paid(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"cents": (document or {"cents": 0})["cents"] + event.data["cents"]}


class Journal(TableProjection):
    """A row an event, in a table without a key: what comes twice is there twice."""

    name = "journal"

    @handles("Paid")
    def paid(self, event: RecordedEvent, connection: Any) -> None:
        connection.execute("INSERT INTO journal VALUES (%s)", [event.position])


def daemon_process(
    stack: ExitStack, url: str, schema: str, name: str, projection: str
) -> subprocess.Popen[bytes]:
    """A process with a daemon, until the end of the test."""
    arguments = [sys.executable, "-c", _DAEMON, url, schema, name, projection]
    process = stack.enter_context(subprocess.Popen(arguments))
    stack.callback(process.kill)
    return process


def documents_of(store: EventStore) -> str:
    """The table of the documents."""
    return f"documents_{store.projections('cents')[0].id}"


def pay(store: EventStore, receivers: Counter[str], count: int) -> int:
    position = 0
    for _ in range(count):
        paid = []
        for _ in range(random.randint(1, 5)):
            to, cents = f"r-{random.randint(1, 20)}", random.randint(1, 999)
            receivers[to] += cents
            paid.append(NewEvent("Paid", {"to": to, "cents": cents}))
        stream = f"account-{random.randint(1, 30)}"
        position = store.append(stream, paid, expected=ANY).position
    return position


def owners(store: EventStore, name: str = "cents") -> Counter[str]:
    found = [build for build in store.projections() if build.name == name]
    return Counter(
        part.owner for build in found for part in build.partitions if part.owner is not None
    )


def test_a_killed_daemon_is_taken_over_within_its_lease_and_a_heartbeat_and_nothing_counts_twice(
    sync_store: EventStore, url: str, schema: str
) -> None:
    sums: Counter[str] = Counter()
    with ExitStack() as stack:
        processes = {
            name: daemon_process(stack, url, schema, name, "Cents") for name in ("first", "second")
        }
        wait_until(lambda: owners(sync_store) == {"first": 2, "second": 2})
        pay(sync_store, sums, random.randint(20, 200))
        processes["first"].kill()
        killed_at = time.monotonic()
        pay(sync_store, sums, 50)
        wait_until(lambda: owners(sync_store) == {"second": 4})
        # The lease, a heartbeat interval, and a margin for a busy machine.
        assert time.monotonic() - killed_at < _LEASE + _LEASE / 3 + 1.5
        position = pay(sync_store, sums, 50)
        sync_store.wait_for("cents", position)
        found = sync_store.documents(Cents).find(limit=100)
        assert {key: document["cents"] for key, document in found.items()} == sums


def test_a_daemon_that_is_stopped_is_taken_over_within_its_lease_and_counts_nothing_twice(
    sync_store: EventStore, url: str, schema: str
) -> None:
    sums: Counter[str] = Counter()
    with ExitStack() as stack:
        first = daemon_process(stack, url, schema, "first", "Cents")
        daemon_process(stack, url, schema, "second", "Cents")
        wait_until(lambda: owners(sync_store) == {"first": 2, "second": 2})
        with stopped_at(url, schema, documents_of(sync_store)) as place:
            pay(sync_store, sums, 50)
            place.wait_until_reached(4)  # all are in the middle of a batch
            with paused(first.pid):
                paused_at = time.monotonic()
                place.release()
                position = pay(sync_store, sums, 50)
                wait_until(lambda: owners(sync_store) == {"second": 4})
                # The lease, a heartbeat interval, and a margin for a busy machine.
                assert time.monotonic() - paused_at < _LEASE + _LEASE / 3 + 3
                sync_store.wait_for("cents", position)
        wait_until(lambda: owners(sync_store) == {"first": 2, "second": 2})
        sync_store.wait_for("cents", pay(sync_store, sums, 50))
        found = sync_store.documents(Cents).find(limit=100)
        assert {key: document["cents"] for key, document in found.items()} == sums


def test_a_daemon_that_is_stopped_in_the_transaction_of_a_table_is_taken_over(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    connection.execute(f"CREATE TABLE {schema}.journal (position bigint)")
    with_table = psycopg.conninfo.make_conninfo(url, options=f"-csearch_path={schema}")
    with ExitStack() as stack:
        first = daemon_process(stack, with_table, schema, "first", "Journal")
        wait_until(lambda: owners(sync_store, "journal") == {"first": 1})
        with stopped_at(url, schema, "journal") as place:
            position = pay(sync_store, Counter(), 5)
            place.wait_until_reached()
            with paused(first.pid):
                place.release()  # the session waits for the killed process, and holds the partition
                daemon_process(stack, with_table, schema, "second", "Journal")
                sync_store.wait_for("journal", position, timeout=30)
                assert owners(sync_store, "journal") == {"second": 1}
        sync_store.wait_for("journal", pay(sync_store, Counter(), 5))
        rows = connection.execute(f"SELECT position FROM {schema}.journal").fetchall()
        logged = [event.position for event in sync_store.read_all()]
        assert sorted(position for (position,) in rows) == logged


@pytest.mark.parametrize("pool_size", [3, 12])
@pytest.mark.parametrize("grace", [0.1, 30], ids=["undone", "finished"])
def test_an_async_daemon_that_is_cancelled_in_the_middle_of_a_batch_gives_everything_back(
    sync_store: EventStore, url: str, schema: str, grace: float, pool_size: int
) -> None:
    sums: Counter[str] = Counter()

    async def run_and_cancel() -> None:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=pool_size) as store:
            daemon = store.daemon([Cents], lease=30)
            task = asyncio.create_task(daemon.run(asyncio.Event(), shutdown_timeout=grace))
            await asyncio.to_thread(place.wait_until_reached)
            task.cancel()
            if grace > 1:
                place.release()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert owners(sync_store) == {}
            assert await store.head() == position  # its connections are usable

    sync_store.catch_up(Cents)
    position = pay(sync_store, sums, 20)
    with stopped_at(url, schema, documents_of(sync_store)) as place:
        asyncio.run(run_and_cancel())
    sync_store.catch_up(Cents)
    found = sync_store.documents(Cents).find(limit=100)
    assert {key: document["cents"] for key, document in found.items()} == sums


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_daemon_that_is_told_to_stop_while_its_batches_have_all_connections_gives_everything_back(
    variant: str, sync_store: EventStore, url: str, schema: str
) -> None:
    sync_store.catch_up(Cents)
    running = Running(variant, url, schema, [Cents], lease=30, pool_size=3)
    try:
        wait_until(lambda: sum(owners(sync_store).values()) == 4)
        with stopped_at(url, schema, documents_of(sync_store)) as place:
            pay(sync_store, Counter(), 50)
            place.wait_until_reached(3)
            running.end()
            # The fourth daemon could not give its partition back: it got no connection.
            wait_until(lambda: running.daemon.partitions == 3)
    finally:
        running.stop()
    assert owners(sync_store) == {}
    assert running.failure is None
