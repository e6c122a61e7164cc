"""One order, and no missed events (G5); docs/explanation/ordering.md has the argument."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import psycopg
import pytest

from indelible import ANY, NO_STREAM, EventStore, NewEvent, WrongExpectedVersion
from indelible.errors import UnsupportedIsolationLevel
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from tests.support.interleavings import stopped_in


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def open_transaction(url: str) -> Iterator[psycopg.Connection]:
    """A connection of a caller's own, with a transaction that the test ends."""
    with psycopg.connect(url) as connection:
        yield connection


def positions(store: EventStore, after: int = 0) -> list[int]:
    return [event.position for event in store.read_all(after=after)]


def test_an_event_that_commits_late_below_others_is_not_passed_over(
    sync_store: EventStore, url: str
) -> None:
    """A slow commit holds a lower position, and a reader comes by meanwhile."""
    with open_transaction(url) as slow:
        low = sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        high = sync_store.append("fast-1", event(), expected=NO_STREAM)
        assert low.position < high.position

        seen = sync_store.read_all()
        assert [e.position for e in seen] == []
        assert seen.head < low.position

        slow.commit()

    assert positions(sync_store, after=seen.head) == [low.position, high.position]


def test_the_first_append_after_a_restart_of_the_sequence_holds_the_head(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """Nothing was handed out since then, so that there is no last position to hold it at."""
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(f"ALTER SEQUENCE {schema}.events_position RESTART WITH 1000")
    with open_transaction(url) as slow:
        low = sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        high = sync_store.append("fast-1", event(), expected=NO_STREAM)

        assert sync_store.head() < low.position < high.position

        slow.commit()

    assert positions(sync_store) == [low.position, high.position]


def test_the_first_append_of_a_session_does_not_take_the_head_back(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """It looks for the epoch first, and others go on meanwhile."""
    sync_store.append("b-1", event(), expected=NO_STREAM)
    with open_transaction(url) as slow:
        bound = sync_store.bind(slow)
        appending = threading.Thread(
            target=bound.append, args=["a-1", event()], kwargs={"expected": NO_STREAM}
        )
        with stopped_in(url, schema, "ensure_epoch", "boolean") as place:
            appending.start()
            place.wait_until_reached()
            told = sync_store.append("b-1", event(), expected=0).position
            place.release()
            appending.join()
        assert sync_store.head() == told
        slow.rollback()


def test_a_writer_sees_its_stream_while_the_head_is_held(sync_store: EventStore, url: str) -> None:
    with open_transaction(url) as slow:
        sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        sync_store.append("fast-1", event(), expected=NO_STREAM)

        assert len(list(sync_store.read("fast-1"))) == 1
        assert list(sync_store.read_all()) == []


def test_a_rollback_lets_the_head_go_on(sync_store: EventStore, url: str) -> None:
    with open_transaction(url) as slow:
        sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        kept = sync_store.append("fast-1", event(), expected=NO_STREAM)
        slow.rollback()

        assert positions(sync_store) == [kept.position]


def test_a_lost_backend_lets_the_head_go_on(sync_store: EventStore, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other, pytest.raises(psycopg.OperationalError):
        with psycopg.connect(url) as slow:
            sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
            kept = sync_store.append("fast-1", event(), expected=NO_STREAM)
            other.execute("SELECT pg_terminate_backend(%s)", [slow.info.backend_pid])
            wait_until(lambda: positions(sync_store) == [kept.position])
            slow.execute("SELECT 1")


def test_an_unrelated_writing_transaction_holds_nobody_back(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """The transaction has an id and a snapshot, and nothing to do with the store."""
    with open_transaction(url) as unrelated:
        unrelated.execute(f"CREATE TABLE {schema}.unrelated ()")
        result = sync_store.append("fast-1", event(), expected=NO_STREAM)

        assert sync_store.head() == result.position


def test_a_transaction_that_began_early_and_appends_late_comes_late(
    sync_store: EventStore, url: str
) -> None:
    """It has its transaction id before the others, and its event after them."""
    with open_transaction(url) as early:
        early.execute("CREATE TEMPORARY TABLE mine (number integer)")
        first = sync_store.append("a-1", event(1), expected=NO_STREAM)
        assert sync_store.head() == first.position
        second = sync_store.bind(early).append("a-1", event(2), expected=0)
        early.commit()
    assert [(e.position, e.version) for e in sync_store.read_all()] == [
        (first.position, 0),
        (second.position, 1),
    ]


def test_a_transaction_that_only_read_holds_nobody_back(sync_store: EventStore, url: str) -> None:
    with open_transaction(url) as reader:
        list(sync_store.bind(reader).read("fast-1"))
        list(sync_store.bind(reader).read_all())
        result = sync_store.append("fast-1", event(), expected=NO_STREAM)

        assert sync_store.head() == result.position


def test_a_refused_append_burns_no_position_and_holds_no_head(
    sync_store: EventStore, url: str
) -> None:
    before = sync_store.append("a-1", event(), expected=NO_STREAM)
    with open_transaction(url) as refused:
        with pytest.raises(WrongExpectedVersion):
            sync_store.bind(refused).append("a-1", event(), expected=7)
        after = sync_store.append("b-1", event(), expected=NO_STREAM)

        assert after.position == before.position + 1
        assert sync_store.head() == after.position


def test_a_rollback_to_a_savepoint_gives_the_lock_back_and_the_next_append_takes_it_anew(
    sync_store: EventStore, url: str
) -> None:
    with open_transaction(url) as slow:
        bound = sync_store.bind(slow)
        with pytest.raises(RuntimeError), bound.transaction() as inner:
            inner.append("slow-1", event(), expected=NO_STREAM)
            raise RuntimeError("undo")
        settled = sync_store.append("fast-1", event(), expected=NO_STREAM)
        assert sync_store.head() == settled.position

        again = bound.append("slow-1", event(), expected=NO_STREAM)
        sync_store.append("fast-1", event(), expected=0)
        assert sync_store.head() < again.position
        slow.commit()

    assert len(positions(sync_store)) == 3


def test_one_transaction_holds_one_lock_however_often_it_appends(
    sync_store: EventStore, url: str
) -> None:
    with open_transaction(url) as slow:
        for number in range(20):
            sync_store.bind(slow).append("slow-1", event(), expected=number - 1)

        locks = slow.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        ).fetchone()

    assert locks == (1,)


def test_a_prepared_transaction_holds_the_head_until_it_is_committed(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SHOW max_prepared_transactions").fetchone()
        if row == ("0",):
            pytest.skip("the server allows no prepared transactions")
        connection.execute("BEGIN")
        low = sync_store.bind(connection).append("slow-1", event(), expected=NO_STREAM)
        connection.execute(f"PREPARE TRANSACTION '{schema}'")
        high = sync_store.append("fast-1", event(), expected=NO_STREAM)
        assert sync_store.head() < low.position

        connection.execute(f"COMMIT PREPARED '{schema}'")

    assert positions(sync_store) == [low.position, high.position]


@pytest.mark.parametrize("handed_over", ["the head's", "the append lock's"])
def test_a_transaction_that_is_being_prepared_holds_the_head(
    sync_store: EventStore, url: str, schema: str, handed_over: str
) -> None:
    """The server hands its locks over one after the other: each state in between is made here."""
    settled = sync_store.append("a-1", event(), expected=NO_STREAM)
    locks = {
        "the head's": f"SELECT pg_advisory_xact_lock_shared"
        f"({schema}.store_lock_key() << 48 | {settled.position})",
        "the append lock's": f"LOCK TABLE {schema}.append_lock IN ROW EXCLUSIVE MODE",
    }
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
            pytest.skip("the server allows no prepared transactions")
        connection.execute("BEGIN")
        connection.execute(locks.pop(handed_over))
        connection.execute(f"PREPARE TRANSACTION '{schema}'")
        try:
            connection.execute("BEGIN")
            connection.execute(*locks.values())
            sync_store.append("a-1", event(), expected=0)
            assert sync_store.head() == settled.position
        finally:
            connection.execute("ROLLBACK")
            connection.execute(f"ROLLBACK PREPARED '{schema}'")


@pytest.mark.parametrize("is_inside", [False, True], ids=["before", "in the transaction"])
@pytest.mark.parametrize("noted", ["yes", "{xid} 999999999", "{xid} -5", "{next_xid} 999999999"])
def test_no_setting_of_a_writer_lets_an_append_go_without_its_lock(
    sync_store: EventStore, url: str, schema: str, noted: str, is_inside: bool
) -> None:
    """What lock_head() notes in the session is known, and anybody may write it."""
    settled = sync_store.append("a-1", event(), expected=ANY)
    with psycopg.connect(url, autocommit=True) as slow:
        (number,) = slow.execute(f"SELECT {schema}.store_lock_key()").fetchone()  # type: ignore[misc]
        if is_inside:
            slow.execute("BEGIN")
        (xid,) = slow.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()  # type: ignore[misc]
        forged = noted.format(xid=xid, next_xid=xid + 1)
        slow.execute(
            "SELECT set_config(%s, %s, %s)", [f"indelible_holds.head_{number}", forged, is_inside]
        )
        if not is_inside:
            slow.execute("BEGIN")
        low = sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        high = sync_store.append("fast-1", event(), expected=NO_STREAM)
        assert sync_store.head() <= settled.position < low.position < high.position
        slow.execute("COMMIT")
    assert positions(sync_store) == [settled.position, low.position, high.position]


def test_what_a_session_noted_in_an_earlier_transaction_says_nothing_in_a_later_one(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with psycopg.connect(url, autocommit=True) as slow:
        (number,) = slow.execute(f"SELECT {schema}.store_lock_key()").fetchone()  # type: ignore[misc]
        setting = f"indelible_holds.head_{number}"
        bound = sync_store.bind(slow)
        slow.execute("BEGIN")
        bound.append("slow-1", event(), expected=NO_STREAM)
        (noted,) = slow.execute("SELECT current_setting(%s)", [setting]).fetchone()  # type: ignore[misc]
        slow.execute("COMMIT")
        settled = sync_store.append("fast-1", event(), expected=NO_STREAM)

        slow.execute("SELECT set_config(%s, %s, false)", [setting, noted])
        slow.execute("SET synchronous_commit = off")
        slow.execute("BEGIN")
        bound.append("slow-1", event(), expected=0)
        assert slow.execute("SHOW synchronous_commit").fetchone() == ("local",)
        assert sync_store.head() == settled.position  # and not at its place in the earlier one


def test_a_lock_of_somebody_without_rights_holds_nobody_back(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """Any login may take any advisory lock; whoever appends holds the append lock as well."""
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(f"SELECT pg_advisory_lock_shared({schema}.store_lock_key() << 48)")
        result = sync_store.append("a-1", event(), expected=ANY)
        assert sync_store.head() == result.position
        assert sync_store.head_info().holders == ()

        with open_transaction(url) as slow:
            sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
            sync_store.append("a-1", event(), expected=ANY)
            assert sync_store.head() == result.position
            assert [holder.pid for holder in sync_store.head_info().holders] == [
                slow.info.backend_pid
            ]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_the_log_is_not_read_in_a_snapshot_that_may_be_older_than_the_head(
    sync_store: EventStore, url: str, level: str
) -> None:
    """Head and scan in one snapshot: an event would be skipped."""
    with open_transaction(url) as strict:
        strict.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        with pytest.raises(UnsupportedIsolationLevel, match="READ COMMITTED"):
            list(sync_store.bind(strict).read_all())


def test_two_stores_in_one_database_do_not_hold_each_other_back(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """Advisory locks share one space per database."""
    other = f"{schema}_b"
    migrate_store(Settings(url, other))
    try:
        with open_transaction(url) as slow:
            sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
            with EventStore.connect(url, schema=other) as neighbour:
                result = neighbour.append("fast-1", event(), expected=NO_STREAM)

                assert neighbour.head() == result.position
                assert list(neighbour.read("slow-1")) == []
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {other} CASCADE")


def test_no_append_locks_a_table(sync_store: EventStore, url: str) -> None:
    with open_transaction(url) as slow:
        sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        strongest = slow.execute(
            "SELECT DISTINCT mode FROM pg_locks WHERE locktype = 'relation'"
            " AND pid = pg_backend_pid() AND mode NOT IN ('AccessShareLock', 'RowShareLock',"
            " 'RowExclusiveLock')"
        ).fetchall()

    assert strongest == []


def test_every_committed_event_is_read_once_in_order_under_load(sync_store: EventStore) -> None:
    """Writers commit, roll back, use savepoints and conflict; readers follow from the start."""
    writers, rounds, readers = 12, 40, 3
    committed: list[int] = []
    noting = threading.Lock()
    writing_ended = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        random = Random(number)
        for round_ in range(rounds):
            done: list[int] = []
            try:
                with sync_store.transaction() as transaction:
                    # Rows are locked in one order, so that there is no deadlock.
                    for part, chosen in enumerate(sorted(random.sample(range(20), 2))):
                        stream = f"s-{chosen:02}"
                        result = transaction.append(stream, event(round_), expected=ANY)
                        done.append(result.position)
                        if part == 1 and random.random() < 0.5:
                            with pytest.raises(ValueError, match="undo"):
                                with transaction.transaction() as inner:
                                    inner.append(f"u-{number}", event(), expected=ANY)
                                    raise ValueError("undo")
                    if random.random() < 0.2:
                        raise RuntimeError("roll back")
            except RuntimeError:
                continue
            with noting:
                committed.extend(done)

    def read(seen: list[tuple[int, str, int]]) -> None:
        checkpoint, last_round = 0, False
        while True:
            last_round = writing_ended.is_set()
            log = sync_store.read_all(after=checkpoint)
            seen.extend((e.position, e.stream, e.version) for e in log)
            checkpoint = max(checkpoint, log.head)
            if last_round:
                return

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return run

    seen: list[list[tuple[int, str, int]]] = [[] for _ in range(readers)]
    reading = [threading.Thread(target=guarded(lambda s=s: read(s))) for s in seen]  # type: ignore[misc]
    writing = [threading.Thread(target=guarded(lambda n=n: write(n))) for n in range(writers)]
    for thread in reading + writing:
        thread.start()
    for thread in writing:
        thread.join()
    writing_ended.set()
    for thread in reading:
        thread.join()

    assert failures == []
    assert len(committed) > rounds
    for one in seen:
        assert [position for position, _, _ in one] == sorted(committed)
        versions = defaultdict(list)
        for _, stream, version in one:
            versions[stream].append(version)
        assert all(found == list(range(len(found))) for found in versions.values())


def test_the_head_is_right_whatever_happens_between_its_two_looks(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """After the look at the locks a writer begins, and another one commits above it.

    The function that names the store in the keys of locks stops the reader there: it is asked
    for each lock that was found.
    """
    before = sync_store.append("a-1", event(), expected=ANY)
    found: list[int] = []

    def look() -> None:
        with psycopg.connect(url, autocommit=True, application_name="stopped") as reader:
            row = reader.execute(f"SELECT {schema}.head()").fetchone()
            assert row is not None
            found.append(row[0])

    with psycopg.connect(url, autocommit=True) as admin, psycopg.connect(url) as slow:
        row = admin.execute(f"SELECT {schema}.store_lock_key()").fetchone()
        assert row is not None
        # Above all positions, so that no writer uses it.
        admin.execute(
            "SELECT pg_advisory_lock_shared(%s::bigint << 48 | ((1::bigint << 48) - 1))", row
        )
        admin.execute("SELECT pg_advisory_lock(20, 26)")
        admin.execute(
            f"CREATE OR REPLACE FUNCTION {schema}.store_lock_key() RETURNS bigint"
            " LANGUAGE plpgsql VOLATILE AS $$ BEGIN"
            " IF current_setting('application_name') = 'stopped' THEN"
            "   PERFORM pg_advisory_xact_lock_shared(20, 26);"
            f" END IF; RETURN {row[0]}; END $$"
        )
        reader = threading.Thread(target=look)
        reader.start()
        wait_until(
            lambda: bool(
                admin.execute(
                    "SELECT 1 FROM pg_locks WHERE NOT granted AND (classid, objid) = (20, 26)"
                ).fetchone()
            )
        )
        low = sync_store.bind(slow).append("slow-1", event(), expected=NO_STREAM)
        high = sync_store.append("fast-1", event(), expected=NO_STREAM)
        admin.execute("SELECT pg_advisory_unlock(20, 26)")
        reader.join(20)
        assert found == [before.position]
        assert found[0] < low.position < high.position
