"""An import next to appends, readers and another import, and an import that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from indelible import ANY, NO_STREAM, EventStore, NewEvent, StreamAppend
from indelible.bulk_import import ImportEvent, operations

COMMAND = [sys.executable, "-c", "from indelible.cli import main; main()"]


def happened(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def line(stream: str, number: int) -> str:
    return json.dumps({"stream": stream, "type": "Imported", "data": {"number": number}}) + "\n"


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def state(store: EventStore) -> list[tuple]:
    return [(e.position, e.stream, e.version, e.id, e.data) for e in store.read_all()]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CHUNK_EVENTS", 50)


@pytest.mark.usefixtures("small_chunks")
def test_an_import_beside_live_appenders_loses_doubles_and_disorders_nothing(
    sync_store: EventStore,
) -> None:
    """All write the same few streams; a reader follows from the start."""
    lines = [line(f"s-{n % 7}", n) for n in range(4_000)]
    appenders, ended, seen, failures = 8, threading.Event(), [], []
    appended: list[list[int]] = [[] for _ in range(appenders)]

    def append(number: int) -> None:
        count = 0
        while not ended.is_set():
            streams = [f"s-{(number + count) % 9}", f"s-{count % 5}"]
            results = sync_store.append_many(
                [StreamAppend(stream, happened(), ANY) for stream in streams]
            )
            appended[number] += [result.position for result in results]
            count += 1

    def follow() -> None:
        for event in sync_store.subscribe():
            if event.type == "End":
                return
            seen.append(event)

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return run

    reading = threading.Thread(target=guarded(follow), daemon=True)
    writing = [
        threading.Thread(target=guarded(lambda n=n: append(n)), daemon=True)
        for n in range(appenders)
    ]  # type: ignore[misc]
    for thread in (reading, *writing):
        thread.start()
    try:
        result = sync_store.import_events(lines, source="file")
    finally:
        ended.set()
    for thread in writing:
        thread.join()
    sync_store.append("end-1", NewEvent("End", {}), expected=NO_STREAM)
    reading.join(timeout=30)

    assert failures == []
    assert result.imported == len(lines)
    imported = [e for e in seen if e.type == "Imported"]
    assert [e.data["number"] for e in imported] == list(range(len(lines)))
    live = [e.position for e in seen if e.type == "Happened"]
    assert live == sorted(position for each in appended for position in each)
    assert len(live) > appenders
    assert [e.position for e in seen] == sorted(e.position for e in seen)
    versions = defaultdict(list)
    for event in seen:
        versions[event.stream].append(event.version)
    assert all(found == list(range(len(found))) for found in versions.values())


@pytest.mark.usefixtures("small_chunks")
def test_the_same_import_twice_at_once_stores_everything_once(sync_store: EventStore) -> None:
    lines = [line(f"s-{n % 13}", n) for n in range(2_000)]

    with ThreadPoolExecutor(3) as threads:
        results = list(
            threads.map(lambda _: sync_store.import_events(lines, source="file"), range(3))
        )

    assert [r.imported + r.skipped for r in results] == [len(lines)] * 3
    assert sum(r.imported for r in results) == len(lines)
    assert [e.data["number"] for e in sync_store.read_all()] == list(range(len(lines)))


def test_an_import_killed_in_the_middle_is_taken_up_and_leaves_the_state_of_one_run(
    sync_store: EventStore, second_store: EventStore, url: str, schema: str, tmp_path: Path
) -> None:
    lines = [line(f"s-{n % 101}", n) for n in range(60_000)]
    file = tmp_path / "events.ndjson"
    file.write_text("".join(lines), "utf-8")
    second_store.import_events(lines, source=file.name)

    started = subprocess.Popen(
        [*COMMAND, "store", "import", str(file)],
        env={**os.environ, "INDELIBLE_URL": url, "INDELIBLE_SCHEMA": schema},
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: sync_store.head() > 0)
    started.send_signal(signal.SIGKILL)
    started.wait()
    found = len(state(sync_store))
    assert 0 < found < len(lines)

    result = sync_store.import_events(lines, source=file.name)

    assert result.imported + result.skipped == len(lines)
    # A chunk that was sent when the client died may be committed after this query.
    assert result.skipped >= found
    # The positions of a chunk in progress are lost.
    assert [row[1:] for row in state(sync_store)] == [row[1:] for row in state(second_store)]


@pytest.mark.usefixtures("small_chunks")
def test_a_lost_connection_is_made_again_and_nothing_is_stored_twice(
    sync_store: EventStore, url: str, schema: str
) -> None:
    def events() -> Iterator[str]:
        for n in range(1_000):
            if n % 300 == 299:
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE query LIKE %s AND pid <> pg_backend_pid()",
                        [f"%{schema}%"],
                    )
            yield line(f"s-{n % 3}", n)

    result = sync_store.import_events(events(), source="file")

    assert result.imported + result.skipped == 1_000
    assert [e.data["number"] for e in sync_store.read_all()] == list(range(1_000))


@pytest.mark.usefixtures("small_chunks")
def test_a_slow_source_holds_back_neither_readers_nor_writers(sync_store: EventStore) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def events() -> Iterator[str]:
        yield from (line("s-1", n) for n in range(120))
        waiting.set()
        assert go_on.wait(30)
        yield line("s-1", 120)

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(sync_store.import_events, events(), source="file")
        assert waiting.wait(30)
        live = sync_store.append("s-1", happened(), expected=ANY)
        assert sync_store.head() == live.position
        go_on.set()
        assert running.result().imported == 121


def test_a_chunk_that_has_not_been_committed_holds_the_head(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """The chunk waits for a stream that another transaction has locked, or for the commit."""
    # The blocks end in this order, so that a failing test does not wait for its own locks.
    with ThreadPoolExecutor(1) as thread:
        with psycopg.connect(url) as blocking:
            # A chunk writes its rows last: stop it there.
            blocking.execute(f"LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE")
            running = thread.submit(sync_store.import_events, [line("s-1", 0)], source="file")
            with psycopg.connect(url, autocommit=True) as looking:

                def waits() -> bool:
                    row = looking.execute(
                        "SELECT count(*) FROM pg_locks WHERE NOT granted"
                        " AND relation = %s::regclass",
                        [f"{schema}.events"],
                    ).fetchone()
                    return row != (0,)

                wait_until(waits)
            info = sync_store.head_info()
            assert info.last_position == 1
            assert sync_store.head() == 0
            assert info.holders
            blocking.rollback()
            assert running.result().position == 1
    assert sync_store.head() == 1


def test_imports_and_lists_over_the_same_streams_in_any_order_never_deadlock(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    def deadlocks() -> int:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        return int(row[0]) if row else 0

    before = deadlocks()

    def work(number: int) -> None:
        for round_ in range(8):
            # Some streams exist; the first appender creates the others.
            names = [f"r{round_}-{n}" for n in range(12)] + [f"s-{n}" for n in range(12)]
            names = names[number * 3 :] + names[: number * 3]
            if number % 2:
                sync_store.append_many([StreamAppend(name, happened(), ANY) for name in names])
            else:
                sync_store.import_events(
                    [ImportEvent(name, {}, "Imported", id=uuid4()) for name in names]
                )

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))

    time.sleep(1.1)  # the server updates its count of deadlocks at most once a second
    assert deadlocks() == before
    assert sync_store.stats().events == 6 * 8 * 24


def test_no_import_locks_a_table(sync_store: EventStore, url: str, schema: str) -> None:
    found: list[tuple] = []

    def events() -> Iterator[ImportEvent]:
        yield ImportEvent("s-1", {}, "Imported", id=uuid4())

    with ThreadPoolExecutor(1) as thread:
        with psycopg.connect(url) as blocking:
            blocking.execute(f"LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE")
            running = thread.submit(sync_store.import_events, events())
            with psycopg.connect(url, autocommit=True) as looking:

                def waits() -> bool:
                    found[:] = looking.execute(
                        "SELECT DISTINCT mode FROM pg_locks"
                        " WHERE locktype = 'relation' AND pid IN ("
                        "  SELECT pid FROM pg_locks WHERE NOT granted"
                        "  AND relation = %s::regclass)",
                        [f"{schema}.events"],
                    ).fetchall()
                    return found != []

                wait_until(waits)
            blocking.rollback()
            running.result()

    assert {mode for (mode,) in found} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
