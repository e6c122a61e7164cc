"""Windows that are written beside writers: no filtered reader misses an event."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import Any

import psycopg
import pytest

from indelible import ANY, EventStore, NewEvent, Query
from tests.support.waiting import wait_until

RARE = Query(types="Rare") | Query(types="Seldom", channel="b")
WRITERS = 4
ROUNDS = 60


def write(store: EventStore, number: int) -> None:
    """Append in transactions, some of which stay open for a while or are rolled back."""
    random = Random(number)
    for _ in range(ROUNDS):
        with suppress(ZeroDivisionError), store.transaction() as transaction:
            for _ in range(random.randint(1, 3)):
                stream = f"{random.choice('ab')}-{number}"
                kind = random.choice(["Common", "Common", "Rare", "Seldom"])
                transaction.append(stream, NewEvent(kind, {}), expected=ANY)
            if random.random() < 0.3:
                transaction.connection.execute("SELECT pg_sleep(0.02)")
            if random.random() < 0.2:
                raise ZeroDivisionError


def positions(store: EventStore, query: Query | None = None) -> list[int]:
    return [event.position for event in store.read_all(query)]


def test_no_filtered_reader_misses_an_event_while_windows_are_written(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """Positions are left out as well, so that a window has only a few events."""
    done = threading.Event()
    read: list[list[int]] = [[], []]

    def each(work: Callable[[psycopg.Connection], Any]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not done.is_set():
                work(connection)

    def leave_out(connection: psycopg.Connection) -> None:
        connection.execute(
            f"SELECT max(nextval('{schema}.events_position')) FROM generate_series(1, 1500)"
        )

    def write_windows(connection: psycopg.Connection) -> None:
        connection.execute(f"SELECT {schema}.write_log_windows(10000)")

    def follow(found: list[int]) -> None:
        head = 0
        while not (done.is_set() and head == sync_store.head()):
            log = sync_store.read_all(RARE, after=head)
            found += [event.position for event in log]
            head = max(head, log.head)

    def subscribe(found: list[int]) -> None:
        with sync_store.subscribe(RARE) as subscription:
            for event in subscription:
                found.append(event.position)
                if event.type == "Rare" and event.stream == "b-end":
                    return

    with ThreadPoolExecutor(WRITERS + 6) as threads:
        try:
            others = [
                threads.submit(each, leave_out),
                threads.submit(each, write_windows),
                threads.submit(each, write_windows),
                threads.submit(follow, read[0]),
                threads.submit(subscribe, read[1]),
            ]
            for writer in [threads.submit(write, sync_store, n) for n in range(WRITERS)]:
                writer.result(timeout=120)
            sync_store.append("b-end", NewEvent("Rare", {}), expected=ANY)
        finally:
            done.set()
        for other in others:
            other.result(timeout=60)

    everything = list(sync_store.read_all())
    expected = [event.position for event in everything if RARE.matches(event)]
    with psycopg.connect(url) as connection:
        windows = connection.execute(f"SELECT count(*) FROM {schema}.log_windows").fetchone()
    assert windows is not None
    assert windows[0] > 10
    assert read == [expected, expected]
    assert positions(sync_store, RARE) == expected
    assert sum(one.events for one in sync_store.types()) == len(everything)


@pytest.mark.parametrize(
    ("write", "table"),
    [
        ("write_log_windows(10000)", "log_windows"),
        ("index_recorded_times(10000)", "recorded_time_index"),
    ],
)
def test_a_new_epoch_leaves_no_gap_below_rows_that_are_being_written(
    sync_store: EventStore, url: str, schema: str, write: str, table: str
) -> None:
    """Readers would take the gap for a part of the log without events."""
    for number in range(3):
        sync_store.append("a-1", NewEvent("Rare", {}), expected=number - 1)
        with psycopg.connect(url) as connection:
            connection.execute(
                f"SELECT max(nextval('{schema}.events_position')) FROM generate_series(1, 12000)"
            )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT {schema}.{write}")
        before = f"SELECT max(position) FROM {schema}.{table}"
        assert connection.execute(before).fetchone() == (10_000,)
        with ThreadPoolExecutor(1) as threads:
            with psycopg.connect(url) as writer:
                writer.execute(f"SELECT {schema}.{write}")
                assert writer.execute(before).fetchone() == (20_000,)
                renewal = threads.submit(sync_store.renew_epoch)
                waiting = (
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                )
                wait_until(lambda: renewal.done() or connection.execute(waiting).fetchone() != (0,))
            renewal.result(timeout=20)
        assert connection.execute(before).fetchone() == (None,)
    assert len(positions(sync_store, Query(types="Rare"))) == 3
