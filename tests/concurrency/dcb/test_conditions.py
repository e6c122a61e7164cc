"""Concurrent conditional appends (G9); docs/explanation/dcb.md has the argument."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from indelible import (
    ANY,
    AppendCondition,
    AppendConditionFailed,
    EventStore,
    NewEvent,
    Query,
    StreamAppend,
)
from indelible.errors import DatabaseError, TransactionConflict
from tests.support.waiting import wait_until

_THREADS = 16


@pytest.fixture
def wide_store(url: str, schema: str) -> Iterator[EventStore]:
    with EventStore.connect(url, schema=schema, pool_size=_THREADS + 2) as store:
        yield store


def in_threads(work: Callable[[int], None]) -> None:
    together = threading.Barrier(_THREADS, timeout=30)

    def run(number: int) -> None:
        together.wait()
        work(number)

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(run, range(_THREADS)))


def tagged(*tags: str, kind: str = "Taken") -> NewEvent:
    return NewEvent(kind, {}, tags=tags)


@pytest.mark.parametrize(
    "query",
    [
        Query(tags="seat:1"),
        Query(tags=["seat:1", "flight:1"], types="Taken"),
        Query(tags="seat:1") | Query(tags="other:1"),
        Query(types="Taken"),
        Query(channel="event"),
        Query(),
    ],
    ids=["a tag", "tags and type", "two items", "a type", "a channel", "everything"],
)
def test_of_decisions_that_saw_the_same_one_is_stored(wide_store: EventStore, query: Query) -> None:
    for _ in range(3):
        marker = wide_store.read_matching(query).marker
        won = []

        def decide(number: int, marker=marker, won=won) -> None:
            try:
                wide_store.append(
                    None, tagged("seat:1", "flight:1"), condition=AppendCondition(query, marker)
                )
                won.append(number)
            except AppendConditionFailed:
                pass

        in_threads(decide)
        assert len(won) == 1


@pytest.mark.parametrize(
    "query", [Query(tags="sum:1"), Query(types=["1", "Counted"])], ids=["a tag", "types"]
)
def test_a_condition_holds_against_plain_appends_and_batches(
    wide_store: EventStore, query: Query
) -> None:
    """Each decision says how many events it saw: just as many stand before it."""

    def work(number: int) -> None:
        for _ in range(8):
            if number % 2:
                wide_store.append(f"plain-{number}", tagged("sum:1", kind="1"), expected=ANY)
                continue
            while True:
                seen = wide_store.read_matching(query)
                event = NewEvent("Counted", {"seen": len(seen)}, tags=["sum:1"])
                try:
                    wide_store.append(None, event, condition=AppendCondition(query, seen.marker))
                    break
                except AppendConditionFailed:
                    continue

    in_threads(work)
    log = list(wide_store.read_all(query))
    assert len(log) == 8 * _THREADS
    for place, event in enumerate(log):
        if event.type == "Counted":
            assert event.data["seen"] == place


def test_an_open_transaction_holds_up_no_decision_on_other_tags(
    wide_store: EventStore, url: str
) -> None:
    """Recently used tags too: the head stands still, and what was seen above it is no conflict."""
    query = Query(tags="seat:1")
    with psycopg.connect(url) as other:
        wide_store.bind(other).append("slow-1", tagged("other:1"), expected=ANY)
        head = wide_store.head()
        for version in range(20):
            seen = wide_store.read_matching(query)
            assert len(seen) == version
            wide_store.append(
                "seat-1", tagged("seat:1"), condition=AppendCondition(query, seen.marker)
            )
        assert wide_store.head() == head


def test_a_decision_on_the_tags_of_an_open_transaction_waits_and_is_then_refused(
    wide_store: EventStore, url: str
) -> None:
    query = Query(tags="seat:1")
    marker = wide_store.read_matching(query).marker
    outcome: list[object] = []

    def decide() -> None:
        try:
            outcome.append(
                wide_store.append(None, tagged("seat:1"), condition=AppendCondition(query, marker))
            )
        except AppendConditionFailed as error:
            outcome.append(error)

    with psycopg.connect(url) as other:
        wide_store.bind(other).append("slow-1", tagged("seat:1"), expected=ANY)
        thread = threading.Thread(target=decide)
        thread.start()
        with psycopg.connect(url, autocommit=True) as watching:
            wait_until(lambda: waits_for_advisory_lock(watching))
        assert outcome == []
    thread.join(30)
    assert isinstance(outcome[0], AppendConditionFailed)


@pytest.mark.parametrize("event", [tagged(), tagged("seat:1")], ids=["without tags", "tagged"])
def test_while_a_condition_without_tags_is_under_way_every_append_waits(
    wide_store: EventStore, url: str, event: NewEvent
) -> None:
    with psycopg.connect(url) as other, ThreadPoolExecutor(3) as threads:
        wide_store.bind(other).append(
            None, tagged(), condition=AppendCondition(Query(types="None"), 0)
        )
        alone = threads.submit(wide_store.append, "a-1", event, expected=ANY)
        listed = threads.submit(
            wide_store.append_many, [StreamAppend("b-1", NewEvent("Happened", {}), ANY)]
        )
        with psycopg.connect(url, autocommit=True) as watching:
            wait_until(lambda: waits_at_the_gate(watching) == 2)
        assert not alone.done()
        assert not listed.done()
        other.commit()
        alone.result(30)
        listed.result(30)


def waits_at_the_gate(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
        " WHERE relname = 'append_lock' AND NOT granted"
    ).fetchone()
    return int(row[0]) if row else 0


def waits_for_advisory_lock(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    ).fetchone()
    return bool(row and row[0])


def test_neighbours_in_a_batch_do_not_wait_for_a_tag_that_a_decision_holds(
    wide_store: EventStore, url: str
) -> None:
    with psycopg.connect(url) as other:
        wide_store.bind(other).append(
            None, tagged("seat:1"), condition=AppendCondition(Query(tags="seat:1"), 0)
        )
        with ThreadPoolExecutor(60) as threads:
            waiting = [
                threads.submit(wide_store.append, f"w-{n}", tagged("seat:1"), expected=ANY)
                for n in range(4)
            ]
            free = [
                threads.submit(wide_store.append, f"f-{n}", tagged(f"seat:2{n}"), expected=ANY)
                for n in range(40)
            ]
            for future in free:
                future.result(30)
            assert not any(future.done() for future in waiting)
            other.commit()
            for future in waiting:
                future.result(30)


def deadlocks(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database"
            " WHERE datname = current_database()"
        ).fetchone()
    return int(row[1]) if row else 0


def test_random_mixed_appends_never_deadlock(wide_store: EventStore, url: str) -> None:
    """Conditional and plain, over the same few tags and streams."""

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(310):  # 10,000 appends on both servers together
            tags = [f"k:{chance.randrange(6)}" for _ in range(chance.randrange(1, 4))]
            streams = [f"s-{chance.randrange(5)}" for _ in range(chance.randrange(1, 3))]
            parts = [StreamAppend(stream, tagged(*tags), ANY) for stream in streams]
            query = Query(tags=f"k:{chance.randrange(6)}")
            if chance.random() < 0.3:
                query |= Query(tags=f"k:{chance.randrange(6)}")
            if chance.random() < 0.05:
                query = Query(types="None")
            if chance.random() < 0.5:
                wide_store.append(streams[0], tagged(*tags), expected=ANY)
                continue
            seen = wide_store.read_matching(query)
            with suppress(AppendConditionFailed):
                wide_store.append_many(parts, condition=AppendCondition(query, seen.marker))

    before = deadlocks(url)
    in_threads(work)
    assert deadlocks(url) == before
    for number in range(5):
        versions = [event.version for event in wide_store.read(f"s-{number}")]
        assert versions == [*range(len(versions))]


def test_rolled_back_decisions_leave_no_trace(wide_store: EventStore) -> None:
    """A name is taken by one at a time, whoever gives up in the middle."""
    query = Query(tags="name:ann")
    taken = []

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(8):
            try:
                with wide_store.transaction() as transaction:
                    transaction.append(
                        None, tagged("name:ann"), condition=AppendCondition(query, 0)
                    )
                    if chance.random() < 0.9:
                        raise KeyError  # the append gives up
                taken.append(number)
            except (AppendConditionFailed, KeyError):
                pass

    in_threads(work)
    assert len(taken) == len(list(wide_store.read_all(query))) <= 1


def test_stores_in_one_database_do_not_wait_for_each_others_tags(
    wide_store: EventStore, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=f"{schema}_b", migrate=True) as neighbour:
        condition = AppendCondition(Query(tags="seat:1"), 0)
        with psycopg.connect(url) as other:
            neighbour.bind(other).append(None, tagged("seat:1"), condition=condition)
            wide_store.append(None, tagged("seat:1"), condition=condition)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema}_b CASCADE")


# The lock table, and the append lock -----------------------------------------------------


def locks_of(connection: psycopg.Connection) -> tuple[int, list[str]]:
    """How many advisory locks a connection holds, and how it holds the append lock."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE locktype = 'advisory'),"
        " array_agg(mode) FILTER (WHERE relname = 'append_lock')"
        " FROM pg_locks LEFT JOIN pg_class ON pg_class.oid = relation"
        " WHERE pid = pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return row[0], sorted(row[1] or [])


def test_an_append_with_very_many_tags_takes_one_lock_on_everything(
    wide_store: EventStore, url: str
) -> None:
    with psycopg.connect(url) as other:
        bound = wide_store.bind(other)
        bound.append("a-1", tagged(*(f"k:{number}" for number in range(64))), expected=ANY)
        assert locks_of(other) == (65, ["RowExclusiveLock"])
        other.rollback()
        bound.append("a-1", tagged(*(f"k:{number}" for number in range(65))), expected=ANY)
        # The lock of the head, and the lock that serializes transactions that exclude appends.
        assert locks_of(other) == (2, ["ShareRowExclusiveLock"])


def test_a_transaction_of_very_many_appends_leaves_the_lock_table_to_others(
    wide_store: EventStore, url: str
) -> None:
    with psycopg.connect(url) as other:
        bound = wide_store.bind(other)

        def append(first: int, last: int) -> None:
            for number in range(first, last):
                tags = [f"k:{number}:{place}" for place in range(8)]
                bound.append("a-1", tagged(*tags), expected=ANY)

        append(0, 32)
        assert locks_of(other) == (257, ["RowExclusiveLock"])
        # Locks released by a rollback to a savepoint are not counted.
        with pytest.raises(KeyError), bound.transaction():
            append(32, 40)
            assert locks_of(other)[1] == ["RowExclusiveLock", "ShareRowExclusiveLock"]
            raise KeyError
        assert locks_of(other) == (257, ["RowExclusiveLock"])
        append(32, 150)
        assert locks_of(other) == (258, ["RowExclusiveLock", "ShareRowExclusiveLock"])
        other.commit()
        append(150, 151)
        assert locks_of(other) == (9, ["RowExclusiveLock"])


def test_appends_go_on_while_a_condition_without_tags_waits_for_a_long_transaction(
    wide_store: EventStore, url: str
) -> None:
    condition = AppendCondition(Query(types="None"), 0)
    with (
        psycopg.connect(url) as other,
        psycopg.connect(url, autocommit=True) as watching,
        ThreadPoolExecutor(2) as threads,
    ):
        wide_store.bind(other).append("slow-1", tagged(), expected=ANY)
        # Two of them: only one at a time blocks other appends.
        waiting = [
            threads.submit(wide_store.append, None, tagged(), condition=condition) for _ in range(2)
        ]
        for number in range(3):
            wait_until(lambda: waits_at_the_gate(watching) == 1)
            wide_store.append(f"a-{number}", tagged(), expected=ANY)
        assert not any(future.done() for future in waiting)
        other.commit()
        for future in waiting:
            future.result(30)


def test_who_keeps_a_condition_without_tags_waiting_too_long_is_named(
    wide_store: EventStore, url: str
) -> None:
    condition = AppendCondition(Query(types="None"), 0)
    with (
        psycopg.connect(url, application_name="the slow one") as slow,
        psycopg.connect(url) as waiting,
        psycopg.connect(url) as third,
    ):
        wide_store.bind(slow).append("slow-1", tagged(), expected=ANY)
        waiting.execute("SET lock_timeout = '0.5s'")
        with pytest.raises(
            DatabaseError, match=rf"process {slow.info.backend_pid} \(the slow one, idle in"
        ):
            wide_store.bind(waiting).append(None, tagged(), condition=condition)
        waiting.rollback()
        slow.rollback()

        # Of two transactions that exclude appends, one waits for the other.
        wide_store.bind(slow).append(None, tagged(), condition=condition)
        third.execute("SET lock_timeout = '0.5s'")
        with pytest.raises(DatabaseError, match=rf"process {slow.info.backend_pid} "):
            wide_store.bind(third).append(None, tagged(), condition=condition)


def test_of_two_transactions_that_wait_for_each_other_at_the_append_lock_one_is_undone_at_once(
    wide_store: EventStore, url: str
) -> None:
    """Both have appended, and both are to lock out all who have."""
    condition = AppendCondition(Query(types="None"), 0)
    with (
        psycopg.connect(url) as one,
        psycopg.connect(url) as two,
        psycopg.connect(url, autocommit=True) as watching,
        ThreadPoolExecutor(1) as threads,
    ):
        wide_store.bind(one).append("a-1", tagged(), expected=ANY)
        wide_store.bind(two).append("b-1", tagged(), expected=ANY)
        waits = threads.submit(wide_store.bind(one).append, None, tagged(), condition=condition)
        wait_until(lambda: waits_at_the_gate(watching))
        with pytest.raises(TransactionConflict, match="run the whole transaction again"):
            wide_store.bind(two).append(None, tagged(), condition=condition)
        two.rollback()
        waits.result(30)
