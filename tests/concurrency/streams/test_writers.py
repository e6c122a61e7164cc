"""Concurrent writers (G2, G3, G4); docs/explanation/appends.md has the argument."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier, Event, Thread
from typing import TypeVar

import psycopg
import pytest
from psycopg.types.json import Jsonb

from indelible import (
    ANY,
    NO_STREAM,
    AppendResult,
    AsyncEventStore,
    DuplicateEvent,
    EventStore,
    IndelibleError,
    NewEvent,
    StreamAppend,
    WrongExpectedVersion,
)
from indelible.core.uuid7 import uuid7
from indelible.errors import ChannelMismatch

T = TypeVar("T")


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def at_once(count: int, work: Callable[[int], T]) -> list[T | IndelibleError]:
    """Do something on many threads that begin together; errors of the store are results."""
    together = Barrier(count, timeout=30)

    def run(number: int) -> T | IndelibleError:
        together.wait()
        try:
            return work(number)
        except IndelibleError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_of_writers_with_the_same_expected_version_exactly_one_wins(
    sync_store: EventStore,
) -> None:
    for version in range(-1, 5):
        results = at_once(12, lambda n, v=version: sync_store.append("a-1", event(n), expected=v))

        won = [result for result in results if isinstance(result, AppendResult)]
        lost = [result for result in results if isinstance(result, WrongExpectedVersion)]
        assert (len(won), len(lost)) == (1, 11)
        assert {error.actual for error in lost} == {version + 1}


def test_any_never_conflicts_and_never_drops_an_event(sync_store: EventStore) -> None:
    """Twenty racing appends to a stream that is not there yet: all of them are there."""
    results = at_once(20, lambda n: sync_store.append("a-1", event(n), expected=ANY))

    assert all(isinstance(result, AppendResult) for result in results)
    stored = list(sync_store.read("a-1"))
    assert sorted(e.data["number"] for e in stored) == list(range(20))
    assert [e.version for e in stored] == list(range(20))
    assert [e.position for e in stored] == sorted(e.position for e in stored)


def test_any_never_conflicts_among_tasks(url: str, schema: str) -> None:
    async def race() -> list[int]:
        async with AsyncEventStore.connect(url, schema=schema, pool_size=8) as store:
            await asyncio.gather(*(store.append("a-1", event(n), expected=ANY) for n in range(100)))
            return [e.version async for e in store.read("a-1")]

    assert asyncio.run(race()) == list(range(100))


def test_racing_retries_of_one_append_store_it_once(sync_store: EventStore) -> None:
    for number, expected in enumerate([NO_STREAM, ANY]):
        same = [event(1), event(2)]
        stream = f"a-{number}"
        results = at_once(
            10, lambda _, s=stream, x=expected, e=same: sync_store.append(s, e, expected=x)
        )

        done = [result for result in results if isinstance(result, AppendResult)]
        assert len(done) == 10, results
        assert sum(not result.idempotent for result in done) == 1
        assert len({(result.version, result.position) for result in done}) == 1
        assert len(list(sync_store.read(stream))) == 2


def test_one_id_raced_to_many_streams_stands_in_one(sync_store: EventStore) -> None:
    same = event()
    results = at_once(10, lambda n: sync_store.append(f"a-{n}", same, expected=NO_STREAM))

    assert sum(isinstance(result, AppendResult) for result in results) == 1
    assert sum(isinstance(result, DuplicateEvent) for result in results) == 9
    assert len(list(sync_store.read_all())) == 1


def test_a_stream_raced_for_by_two_channels_belongs_to_one(sync_store: EventStore) -> None:
    results = at_once(
        8, lambda n: sync_store.append("a-1", event(n), expected=ANY, channel=f"c{n % 2}")
    )

    won = [result for result in results if isinstance(result, AppendResult)]
    lost = [result for result in results if isinstance(result, ChannelMismatch)]
    assert (len(won), len(lost)) == (4, 4)


def test_writers_of_other_streams_do_not_wait_for_an_open_transaction(
    sync_store: EventStore, url: str
) -> None:
    with psycopg.connect(url) as slow:
        sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        with psycopg.connect(url, autocommit=True) as quick:
            quick.execute("SET lock_timeout = '1ms'")
            for number in range(5):
                sync_store.bind(quick).append(f"fast-{number}", event(), expected=NO_STREAM)
                sync_store.bind(quick).append_many(
                    [StreamAppend(f"fast-{number}", event(), 0), StreamAppend("new-1", [], ANY)]
                )


def test_lists_over_the_same_streams_in_any_order_never_deadlock(sync_store: EventStore) -> None:
    streams = [f"a-{number}" for number in range(6)]

    def write(number: int) -> int:
        random = Random(number)
        for _ in range(15):
            chosen = random.sample(streams, 4)
            sync_store.append_many([StreamAppend(s, event(number), ANY) for s in chosen])
        return 15 * 4

    results = at_once(10, write)

    assert results == [60] * 10
    assert len(list(sync_store.read_all())) == 600
    for stream in streams:
        versions = [e.version for e in sync_store.read(stream)]
        assert versions == list(range(len(versions)))


def test_lists_are_stored_whole_or_not_at_all_under_conflicts(sync_store: EventStore) -> None:
    def write(number: int) -> int:
        won = 0
        for _ in range(10):
            versions = [(sync_store.stream(s), s) for s in ("a-1", "b-1")]
            try:
                sync_store.append_many(
                    [
                        StreamAppend(s, event(number), -1 if info is None else info.version)
                        for info, s in versions
                    ]
                )
                won += 1
            except WrongExpectedVersion:
                pass
        return won

    won = sum(result for result in at_once(8, write) if isinstance(result, int))

    assert won > 0
    assert len(list(sync_store.read("a-1"))) == len(list(sync_store.read("b-1"))) == won


def test_what_was_acknowledged_is_stored_once_though_backends_are_killed(
    sync_store: EventStore, url: str
) -> None:
    stopped, acknowledged = Event(), Event()

    def kill() -> None:
        with psycopg.connect(url, autocommit=True, application_name="killer") as connection:
            while not stopped.wait(0.03):
                # A slow machine could kill each connection before it is ready.
                if acknowledged.is_set():
                    acknowledged.clear()
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'indelible' ORDER BY random() LIMIT 1"
                    )

    killer = Thread(target=kill)
    killer.start()

    def write(number: int) -> list[int]:
        versions = []
        for round_ in range(60):
            result = sync_store.append(f"a-{number}", event(round_), expected=round_ - 1)
            acknowledged.set()
            versions.append(result.version)
        return versions

    try:
        results = at_once(6, write)
    finally:
        stopped.set()
        killer.join()

    assert results == [list(range(60))] * 6
    for number in range(6):
        assert [e.data["number"] for e in sync_store.read(f"a-{number}")] == list(range(60))


def test_a_stale_snapshot_is_refused_and_never_believed(sync_store: EventStore, url: str) -> None:
    """The version is read under the row lock, and not in a snapshot from before it."""
    sync_store.append("a-1", event(0), expected=NO_STREAM)
    with psycopg.connect(url) as strict:
        strict.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        strict.execute("SELECT 1")  # the transaction takes its snapshot
        sync_store.append("a-1", event(1), expected=0)
        with pytest.raises(IndelibleError, match="again"):
            sync_store.bind(strict).append("a-1", event(2), expected=0)

    assert [e.data["number"] for e in sync_store.read("a-1")] == [0, 1]


def test_plans_made_on_small_tables_stay_right_when_these_have_grown(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """A session keeps its plans; one that scans a table would be slower with every event."""
    for number in range(3):
        sync_store.append(f"s-{number}", event(), expected=NO_STREAM)

    def looked_at(connection: psycopg.Connection) -> tuple[int, int]:
        """How many rows were scanned, and how many entries of indexes."""
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_all_tables"
            "  WHERE schemaname = %(schema)s AND relname IN ('events', 'streams')),"
            " (SELECT sum(idx_tup_read) FROM pg_stat_all_indexes"
            "  WHERE schemaname = %(schema)s AND relname IN ('events', 'streams'))",
            {"schema": schema},
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    with psycopg.connect(url, autocommit=True) as session:
        # The planner knows that a scan of so few rows is cheaper than their index.
        session.execute(f"ANALYZE {schema}.events, {schema}.streams")
        scanned, read = looked_at(session)
        for number in range(100):
            sync_store.bind(session).append(f"t-{number}", event(), expected=ANY)
            sync_store.bind(session).append_many([StreamAppend(f"t-{number}", event(), 0)])
            sync_store.bind(session).append_many([StreamAppend(f"u-{number}", event(), NO_STREAM)])
            with pytest.raises(WrongExpectedVersion):
                sync_store.bind(session).append("s-1", event(), expected=NO_STREAM)
            # Appends to different streams, and to one stream.
            for given in ((("t", 1), ("v", -1)), (("t", 2), ("t", 3))):
                batch = [
                    {
                        "stream": f"{letter}-{number}",
                        "expected": expected,
                        "events": [{"id": uuid7().hex, "type": "Happened", "data": number}],
                    }
                    for letter, expected in given
                ]
                outcomes = session.execute(
                    f"SELECT outcome FROM {schema}.append_batch(%s)", [Jsonb(batch)]
                )
                assert outcomes.fetchall() == [("appended",), ("appended",)]

        scanned_later, read_later = looked_at(session)
        assert scanned_later == scanned
        # A full read of an index is a scan too.
        assert read_later - read < 100 * 30
