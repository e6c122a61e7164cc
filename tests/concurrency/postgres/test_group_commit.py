"""Group commit: appends of one process share a commit, and nothing else.

docs/explanation/appends.md has the argument; tests/unit tests which appends share a batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AppendResult,
    AsyncEventStore,
    DuplicateEvent,
    EventStore,
    NewEvent,
    WrongExpectedVersion,
)
from indelible.core.operation import Statement
from indelible.errors import DatabaseError
from indelible.postgres.engine import PoolEngine
from tests.support.waiting import wait_until

_SECONDS = 60


class Threads:
    """Appends from as many threads as there are appends."""

    def __init__(self, url: str, schema: str) -> None:
        self.store = EventStore.connect(url, schema=schema, pool_size=8)
        self._threads = ThreadPoolExecutor(200)

    def submit(self, stream: str, events: Any, expected: Any) -> Future[AppendResult]:
        return self._threads.submit(self.store.append, stream, events, expected=expected)

    def close(self) -> None:
        self._threads.shutdown()
        self.store.close()


class Tasks:
    """Appends from as many tasks, on an event loop in a thread of its own."""

    def __init__(self, url: str, schema: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

        async def connect() -> AsyncEventStore:
            return await AsyncEventStore.connect(url, schema=schema, pool_size=8)

        self._store = self._run(connect())

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_SECONDS)

    def submit(self, stream: str, events: Any, expected: Any) -> Future[AppendResult]:
        return asyncio.run_coroutine_threadsafe(
            self._store.append(stream, events, expected=expected), self._loop
        )

    def close(self) -> None:
        self._run(self._store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Writers = Threads | Tasks


@pytest.fixture(params=[Threads, Tasks])
def writers(request: pytest.FixtureRequest, url: str, schema: str) -> Iterator[Writers]:
    opened: Writers = request.param(url, schema)
    yield opened
    opened.close()


@pytest.fixture
def tasks(url: str, schema: str) -> Iterator[Tasks]:
    opened = Tasks(url, schema)
    yield opened
    opened.close()


@pytest.fixture
def held(url: str, schema: str, sync_store: EventStore) -> Iterator[psycopg.Connection]:
    """Somebody else's transaction that has appended to held-0, held-1, held-2 and made new-0."""
    for number in range(3):
        sync_store.append(f"held-{number}", event(), expected=ANY)
    with psycopg.connect(url) as connection:
        store = sync_store.bind(connection)
        for number in range(3):
            store.append(f"held-{number}", event(), expected=ANY)
        store.append("new-0", event(), expected=NO_STREAM)
        yield connection


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def outcomes(futures: list[Future[AppendResult]]) -> list[AppendResult | BaseException]:
    done, late = wait(futures, timeout=_SECONDS)
    assert not late
    assert len(done) == len(set(futures))
    return [future.exception() or future.result() for future in futures]


def commits(connection: psycopg.Connection, schema: str) -> tuple[int, int]:
    """How many events there are, and in how many transactions they were written."""
    row = connection.execute(
        f"SELECT count(*), count(DISTINCT xmin::text) FROM {schema}.events"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_concurrent_appends_share_commits_and_each_has_its_own_result(
    writers: Writers, connection: psycopg.Connection, schema: str, sync_store: EventStore
) -> None:
    results = outcomes(
        [writers.submit(f"a-{number % 150}", event(number), ANY) for number in range(300)]
    )
    assert all(isinstance(result, AppendResult) for result in results)
    events, transactions = commits(connection, schema)
    assert events == 300
    assert transactions < 150
    by_position = {stored.position: stored for stored in sync_store.read_all()}
    for number, result in enumerate(results):
        assert isinstance(result, AppendResult)
        stored = by_position[result.position]
        assert (stored.stream, stored.version) == (result.stream, result.version)
        assert stored.recorded_at == result.recorded_at
        assert stored.data == {"number": number}


def test_each_conflicts_alone(writers: Writers) -> None:
    for version in range(-1, 3):
        racing = [writers.submit("hot-1", event(number), version) for number in range(20)]
        others = [writers.submit(f"b-{number}", event(), version) for number in range(20)]
        found = outcomes(racing)
        won = [result for result in found if isinstance(result, AppendResult)]
        lost = [result for result in found if isinstance(result, WrongExpectedVersion)]
        assert (len(won), len(lost)) == (1, 19)
        assert {error.actual for error in lost} == {version + 1}
        assert {error.last_event_id is not None for error in lost} == {True}
        assert all(isinstance(result, AppendResult) for result in outcomes(others))


def test_any_never_conflicts_and_appends_to_a_stream_keep_the_order_of_their_caller(
    tasks: Tasks, sync_store: EventStore
) -> None:
    futures = [tasks.submit("hot-1", event(number), ANY) for number in range(400)]
    results = outcomes(futures)
    assert [result.version for result in results if isinstance(result, AppendResult)] == [
        *range(400)
    ]
    stored = [found.data["number"] for found in sync_store.read("hot-1")]
    assert stored == [*range(400)]


def test_one_event_appended_by_many_at_once_is_stored_once(
    writers: Writers, sync_store: EventStore
) -> None:
    same = event()
    results = outcomes([writers.submit("a-1", same, ANY) for _ in range(30)])
    assert all(isinstance(result, AppendResult) for result in results)
    assert sum(not result.idempotent for result in results) == 1  # type: ignore[union-attr]
    elsewhere = outcomes([writers.submit(f"b-{number}", same, ANY) for number in range(30)])
    assert all(isinstance(result, DuplicateEvent) for result in elsewhere)
    assert len(list(sync_store.read_all())) == 1


def test_an_event_that_the_database_does_not_take_fails_alone(
    writers: Writers, connection: psycopg.Connection, schema: str
) -> None:
    connection.execute(
        f"ALTER TABLE {schema}.events ADD CONSTRAINT events_no_poison CHECK (type <> 'Poison')"
    )
    futures = [
        writers.submit(f"a-{number}", NewEvent("Poison" if number == 30 else "Good", {}), ANY)
        for number in range(60)
    ]
    results = outcomes(futures)
    assert isinstance(results.pop(30), DatabaseError)
    assert all(isinstance(result, AppendResult) for result in results)


def test_who_waits_for_a_stream_that_others_hold_holds_up_nobody(
    writers: Writers, held: psycopg.Connection, sync_store: EventStore
) -> None:
    waiting = [writers.submit(f"held-{number % 3}", event(), ANY) for number in range(12)]
    waiting.append(writers.submit("new-0", event(), ANY))
    for round_ in range(3):
        free = [writers.submit(f"free-{number}", event(), ANY) for number in range(30)]
        assert all(isinstance(result, AppendResult) for result in outcomes(free)), round_
    assert not any(future.done() for future in waiting)
    held.commit()
    assert all(isinstance(result, AppendResult) for result in outcomes(waiting))
    versions = [found.version for found in sync_store.read("held-0")]
    assert versions == [0, 1, 2, 3, 4, 5]
    assert [found.version for found in sync_store.read("new-0")] == [0, 1]


def test_a_cancelled_append_harms_no_other(tasks: Tasks, held: psycopg.Connection) -> None:
    # Two appends wait for locks and occupy the workers, so later appends wait in the queue.
    waiting = [tasks.submit(f"held-{number}", event(), ANY) for number in range(3)]
    queued = [tasks.submit(f"a-{number}", event(), ANY) for number in range(40)]
    for number in range(0, 40, 2):
        queued[number].cancel()
    waiting[0].cancel()
    kept = outcomes([future for number, future in enumerate(queued) if number % 2])
    assert all(isinstance(result, AppendResult) for result in kept)
    held.commit()
    assert all(isinstance(result, AppendResult) for result in outcomes(waiting[1:]))
    again = outcomes([tasks.submit(f"held-{number}", event(), ANY) for number in range(3)])
    assert all(isinstance(result, AppendResult) for result in again)


def test_a_connection_lost_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    writers: Writers, connection: psycopg.Connection, schema: str, sync_store: EventStore
) -> None:
    # So that there is a middle append.
    connection.execute(
        f"CREATE FUNCTION {schema}.take_long() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';"
        f"CREATE TRIGGER take_long BEFORE INSERT ON {schema}.events"
        f" EXECUTE FUNCTION {schema}.take_long()"
    )
    futures = [writers.submit(f"a-{number % 70}", event(number), ANY) for number in range(1_000)]
    terminated = 0
    while terminated < 3 and not all(future.done() for future in futures):
        terminated += connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active'"
            " AND query LIKE %s AND pid <> pg_backend_pid()",
            [f"%{schema}%.append_batch(%"],
        ).rowcount
    results = outcomes(futures)
    assert terminated >= 1
    assert [result for result in results if not isinstance(result, AppendResult)] == []
    stored = sorted(found.data["number"] for found in sync_store.read_all())
    assert stored == [*range(1_000)]


def test_the_workers_wait_for_nobody_to_come(writers: Writers, sync_store: EventStore) -> None:
    result = writers.submit("a-1", event(), NO_STREAM).result(_SECONDS)
    assert result.version == 0
    wait_until(lambda: sync_store.head() == result.position)


def test_what_is_to_be_done_meanwhile_is_done_when_all_was_sent(
    sync_store: EventStore, url: str
) -> None:
    with psycopg.connect(url, autocommit=True) as other:

        def let_go() -> bool:
            other.execute("SELECT pg_advisory_unlock(4711)")
            return False

        other.execute("SELECT pg_advisory_lock(4711)")
        assert isinstance(sync_store._engine, PoolEngine)
        with sync_store._engine._checkout() as connection:
            connection.execute("SET lock_timeout = '20s'")
            with connection.using_waits(let_go):
                connection.execute("SELECT pg_advisory_lock(4711)")  # ends only after `let_go`
            connection.execute("SELECT pg_advisory_unlock(4711)")
            connection.execute("RESET lock_timeout")


def test_who_has_to_wait_for_a_connection_does_meanwhile_what_there_is_to_do(
    url: str, schema: str
) -> None:
    done = threading.Event()

    def do() -> bool:
        done.set()
        return False

    with (
        EventStore.connect(url, schema=schema, pool_size=1) as store,
        ThreadPoolExecutor(1) as threads,
        store.transaction(),
    ):
        answer = threads.submit(store._engine._execute, Statement("streams.head"), do)
        assert done.wait(_SECONDS)
        assert not answer.done()
