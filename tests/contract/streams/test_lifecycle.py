"""The life cycle of a stream: close, reopen, archive, erase (G1, G2, G3, G5)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from indelible import (
    ANY,
    ERASED,
    NO_STREAM,
    STREAM_EXISTS,
    DuplicateEvent,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
    StreamClosed,
    StreamNotFound,
    WrongExpectedVersion,
)
from indelible.errors import AppendRejected, ChannelMismatch, PermissionDenied, StreamNotClosed
from indelible.postgres.statements import statements
from tests.conftest import Connect
from tests.migration.test_schema import as_member_of
from tests.support.waiting import wait_until


def fact(number: int = 0, **options: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **options)


# States and expected versions ------------------------------------------------------------------


def never_written(store: EventStore) -> None:
    pass


def opened(store: EventStore) -> None:
    store.append("a-1", [fact(0), fact(1)], expected=NO_STREAM)


def closed(store: EventStore) -> None:
    opened(store)
    store.close_stream("a-1", expected=1)


def archived(store: EventStore) -> None:
    closed(store)
    store.archive_stream("a-1")


def reopened(store: EventStore) -> None:
    archived(store)
    store.reopen_stream("a-1")


def erased(store: EventStore) -> None:
    opened(store)
    store.erase_stream("a-1", reason="asked to")


def erased_and_closed(store: EventStore) -> None:
    closed(store)
    store.erase_stream("a-1", reason="asked to")


State = Callable[[EventStore], None]
Yes, Wrong, Closed = "appended", WrongExpectedVersion, StreamClosed
CELLS: dict[State, dict[str, Any]] = {
    #                  the last    a lower one   NO_STREAM    STREAM_EXISTS    ANY
    never_written:     {"1": Wrong, "0": Wrong, "NO": Yes, "EXISTS": Wrong, "ANY": Yes},
    opened:            {"1": Yes, "0": Wrong, "NO": Wrong, "EXISTS": Yes, "ANY": Yes},
    closed:            dict.fromkeys(["1", "0", "NO", "EXISTS", "ANY"], Closed),
    archived:          dict.fromkeys(["1", "0", "NO", "EXISTS", "ANY"], Closed),
    reopened:          {"1": Yes, "0": Wrong, "NO": Wrong, "EXISTS": Yes, "ANY": Yes},
    erased:            {"1": Yes, "0": Wrong, "NO": Wrong, "EXISTS": Yes, "ANY": Yes},
    erased_and_closed: dict.fromkeys(["1", "0", "NO", "EXISTS", "ANY"], Closed),
}  # fmt: skip
EXPECTED: dict[str, Any] = {"1": 1, "0": 0, "NO": NO_STREAM, "EXISTS": STREAM_EXISTS, "ANY": ANY}


class Undo(Exception):
    """Ends a transaction of which nothing is to stay."""


@contextmanager
def undone(store: EventStore) -> Iterator[EventStore]:
    """A store in a transaction that is rolled back at the end."""
    with suppress(Undo), store.transaction() as transaction:
        yield transaction
        raise Undo


def append_one(store: EventStore, part: StreamAppend) -> int:
    return store.append(part.stream, part.events, expected=part.expected).version


def append_as_list(store: EventStore, part: StreamAppend) -> int:
    return store.append_many([part])[0].version


@pytest.mark.parametrize("state", CELLS, ids=lambda state: state.__name__)
def test_every_expected_version_means_the_same_in_every_state(
    store: EventStore, state: State
) -> None:
    for expected, outcome in CELLS[state].items():
        for append in (append_one, append_as_list):
            with undone(store) as bound:
                state(bound)
                before = [event.position for event in bound.read("a-1")]
                part = StreamAppend("a-1", fact(2), EXPECTED[expected])
                if outcome is Yes:
                    assert append(bound, part) == len(before)
                    assert len(list(bound.read("a-1"))) == len(before) + 1
                else:
                    with pytest.raises(outcome):
                        append(bound, part)
                    assert [event.position for event in bound.read("a-1")] == before
        # An append without events only checks the version.
        check = StreamAppend("a-1", [], EXPECTED[expected])
        with undone(store) as bound:
            state(bound)
            if CELLS[never_written if state is never_written else opened][expected] is Yes:
                bound.append_many([check])
            else:
                with pytest.raises(WrongExpectedVersion):
                    bound.append_many([check])


# Close and reopen ------------------------------------------------------------------------------


def test_a_closed_stream_says_when_it_was_closed_and_burns_no_position(store: EventStore) -> None:
    opened(store)
    info = store.close_stream("a-1", expected=1, reason="delivered")
    assert info.closed_at is not None

    with pytest.raises(StreamClosed) as refusal:
        store.append("a-1", fact(2), expected=1)
    assert (refusal.value.stream, refusal.value.version) == ("a-1", 1)
    assert refusal.value.closed_at == info.closed_at
    assert isinstance(refusal.value, AppendRejected)
    assert store.stats().last_position == 2
    assert [event.data["number"] for event in store.read("a-1")] == [0, 1]
    (change,) = store.stream_changes("a-1")
    assert (change.operation, change.reason, change.events) == ("close", "delivered", None)


def test_a_stream_is_closed_at_the_version_that_is_expected(store: EventStore) -> None:
    opened(store)
    with pytest.raises(WrongExpectedVersion) as refusal:
        store.close_stream("a-1", expected=0)
    assert (refusal.value.expected, refusal.value.actual) == (0, 1)
    assert refusal.value.last_recorded_at is not None
    assert store.stream("a-1").closed_at is None  # type: ignore[union-attr]

    matching: tuple[Any, ...] = (1, ANY, STREAM_EXISTS)
    for believed in matching:
        with undone(store) as bound:
            assert bound.close_stream("a-1", expected=believed).closed_at is not None
    with pytest.raises(WrongExpectedVersion):
        store.close_stream("a-1", expected=NO_STREAM)
    for believed in (*matching, NO_STREAM, -1):
        with pytest.raises(StreamNotFound):
            store.close_stream("b-1", expected=believed)


def test_a_reopened_stream_goes_on_where_it_stands(store: EventStore) -> None:
    closed(store)
    store.close_stream("a-1", expected=1)  # changes nothing
    assert store.reopen_stream("a-1", reason="a mistake").closed_at is None
    store.reopen_stream("a-1")  # changes nothing

    assert store.append("a-1", fact(2), expected=1).version == 2
    assert [change.operation for change in store.stream_changes("a-1")] == ["close", "reopen"]
    with pytest.raises(StreamNotFound):
        store.reopen_stream("b-1")


def test_a_retry_of_an_append_that_succeeded_succeeds_on_a_closed_stream(
    store: EventStore,
) -> None:
    """Also on an archived one, and for every expected version."""
    events = [fact(0), fact(1)]
    first = store.append("a-1", events, expected=NO_STREAM)
    later = [fact(2)]
    store.append("a-1", later, expected=1)
    store.close_stream("a-1", expected=2)

    for _ in range(2):
        for of_all in (NO_STREAM, ANY):
            again = store.append("a-1", events, expected=of_all)
            assert (again.idempotent, again.position) == (True, first.position)
        believed: tuple[Any, ...] = (1, ANY, STREAM_EXISTS)
        for expected in believed:
            assert store.append("a-1", later, expected=expected).idempotent
            assert store.append_many([StreamAppend("a-1", later, expected)])[0].idempotent
        with pytest.raises(DuplicateEvent):
            store.append("b-1", later, expected=NO_STREAM)
        with pytest.raises(DuplicateEvent):
            store.append("a-1", [later[0], fact(3)], expected=2)
        with pytest.raises(ChannelMismatch):
            store.append("a-1", fact(3), expected=2, channel="other")
        store.archive_stream("a-1")


def test_of_several_streams_one_that_is_closed_refuses_all(store: EventStore) -> None:
    closed(store)
    with pytest.raises(StreamClosed, match="a-1"):
        store.append_many(
            [StreamAppend("b-1", fact(), NO_STREAM), StreamAppend("a-1", fact(), ANY)]
        )
    assert store.stream("b-1") is None


def test_a_transaction_has_nothing_that_outlives_it(store: EventStore) -> None:
    with store.transaction() as transaction:
        for name in ("subscribe", "group", "import_events", "projector", "daemon", "wait_for"):
            assert hasattr(store, name)
            assert not hasattr(transaction, name), name


def test_what_is_appended_and_closed_in_one_transaction_is_archived_whole(
    store: EventStore,
) -> None:
    with store.transaction() as transaction:
        transaction.append("a-1", fact(0), expected=NO_STREAM)
        transaction.append("a-1", fact(1), expected=0)
        transaction.close_stream("a-1", expected=1)
        transaction.archive_stream("a-1")
        with pytest.raises(StreamClosed):
            transaction.append("a-1", fact(2), expected=1)

    assert [change.events for change in store.stream_changes("a-1")] == [None, 2]
    assert [event.version for event in store.read("a-1")] == [0, 1]


def test_a_writer_that_races_with_the_closing_is_before_it_or_refused(
    sync_store: EventStore, url: str
) -> None:
    sync_store.append("a-1", fact(), expected=NO_STREAM)
    outcomes: list[object] = []

    def append() -> None:
        try:
            outcomes.append(sync_store.append("a-1", fact(), expected=ANY))
        except StreamClosed as error:
            outcomes.append(error)

    with psycopg.connect(url) as closing:
        sync_store.bind(closing).close_stream("a-1", expected=0)
        writer = threading.Thread(target=append)
        writer.start()
        with psycopg.connect(url, autocommit=True) as looking:
            wait_until(
                lambda: (
                    looking.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    ).fetchone()
                    != (0,)
                )
            )
        closing.commit()
        writer.join()
    assert [type(outcome) for outcome in outcomes] == [StreamClosed]


# Archive ---------------------------------------------------------------------------------------


def test_archived_events_keep_their_places_for_every_reader(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    for number in range(6):
        store.append(
            f"a-{number % 2}",
            fact(number, tags=["even:yes"] if number % 2 == 0 else ()),
            expected=ANY,
        )
    before = list(store.read_all())
    even = Query(tags="even:yes")
    with store.subscribe(even) as subscription:
        assert next(subscription).position == 1
        store.close_stream("a-0", expected=2)
        info = store.archive_stream("a-0", reason="old")
        assert info.archived_at is not None
        rest = [next(subscription).position, next(subscription).position]

    assert rest == [3, 5]
    assert list(store.read_all()) == before
    assert list(store.read_all(backwards=True)) == before[::-1]
    assert [event.position for event in store.read_all(even)] == [1, 3, 5]
    assert [event.position for event in store.read("a-0")] == [1, 3, 5]
    assert [event.position for event in store.read("a-0", as_of=4, backwards=True)] == [3, 1]
    now = datetime.now(UTC)
    assert list(store.read_all(valid_at=max(now, before[-1].valid_at))) == before
    assert store.stream("a-0").position == 5  # type: ignore[union-attr]
    assert {stream.stream for stream in store.streams()} == {"a-0", "a-1"}
    assert store.stats().events == 6
    assert connection.execute(
        f"SELECT (SELECT count(*) FROM {schema}.events),"
        f" (SELECT count(*) FROM {schema}.archived_events)"
    ).fetchone() == (3, 3)
    (_, change) = store.stream_changes("a-0")
    assert (change.operation, change.events, change.reason) == ("archive", 3, "old")


def test_an_archived_stream_that_was_reopened_is_read_as_one_and_archived_again(
    store: EventStore,
) -> None:
    reopened(store)
    store.append("a-1", [fact(2), fact(3)], expected=1)

    assert [event.version for event in store.read("a-1")] == [0, 1, 2, 3]
    assert [event.version for event in store.read("a-1", backwards=True, limit=3)] == [3, 2, 1]
    with pytest.raises(StreamNotClosed):
        store.archive_stream("a-1")
    store.close_stream("a-1", expected=3)
    store.archive_stream("a-1")
    store.archive_stream("a-1")  # nothing is left to move
    assert [event.version for event in store.read("a-1")] == [0, 1, 2, 3]
    assert [change.events for change in store.stream_changes("a-1")] == [None, 2, None, None, 2]


def test_the_ids_of_archived_events_are_known_to_every_append(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    given = [fact(0), fact(1)]
    store.append("a-1", given, expected=NO_STREAM)
    store.append("b-1", fact(), expected=NO_STREAM)
    store.close_stream("a-1", expected=1)
    store.archive_stream("a-1")
    before = list(store.read_all())

    for stream, expected in [("b-1", 0), ("b-1", ANY), ("c-1", NO_STREAM), ("c-1", ANY)]:
        with pytest.raises(DuplicateEvent):
            store.append(stream, [fact(), given[1]], expected=expected)
        with pytest.raises(DuplicateEvent):
            store.append_many(
                [StreamAppend("d-1", fact(), ANY), StreamAppend(stream, given[0], expected)]
            )
        with pytest.raises(AppendRejected), store.transaction() as transaction:
            transaction.append(stream, given, expected=expected)
    appends = [
        {
            "stream": stream,
            "expected": -2,
            "events": [{"id": str(event_id), "type": "Happened", "data": {}}],
        }
        for stream, event_id in [("b-1", given[0].id), ("e-1", uuid4())]
    ]
    outcomes = connection.execute(
        f"SELECT ordinal, outcome FROM {schema}.append_batch(%s) ORDER BY ordinal", [Jsonb(appends)]
    ).fetchall()
    assert outcomes == [(1, "duplicate"), (2, "appended")]
    assert store.append("a-1", given, expected=NO_STREAM).idempotent
    assert list(store.read_all())[:-1] == before


def test_the_head_stands_where_it_was_when_everything_is_archived(store: EventStore) -> None:
    closed(store)
    head = store.head()
    store.archive_stream("a-1")

    assert store.head() == head == 2
    assert store.read_all().head == 2
    assert store.stats().events == 2
    assert [event.position for event in store.read_all(after=1)] == [2]


def test_reads_of_a_stream_look_into_the_archive_only_if_it_has_archived_events(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    archived(sync_store)
    sync_store.append("b-1", [fact(0), fact(1)], expected=NO_STREAM)
    reads = {
        name: statement
        for name, statement in statements(schema).items()
        if re.match(
            r"aggregates\.load|streams\.(read_stream|read_versions|version_at|valid_time_order)",
            name,
        )
    }
    given = {
        "from_version": 0, "to_version": 9, "limit": 9, "versions": [0, 1], "state": "s",
        "fingerprint": "s", "types": None,
        "after_version": -1, "command_event": str(uuid4()), "position": 0,
        "above_valid_at": None, "above_position": 0, "moment": "2999-01-01",
        "below_valid_at": "2999-01-01", "below_position": 0,
    }  # fmt: skip

    def looks(name: str, stream: str) -> int:
        with connection.transaction():
            wanted = set(re.findall(r"%\((\w+)\)s", reads[name]))
            connection.execute(reads[name], {k: {**given, "stream": stream}[k] for k in wanted})
            row = connection.execute(
                "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_xact_all_tables"
                " WHERE relid = %s::regclass",
                [f"{schema}.archived_events"],
            ).fetchone()
        assert row is not None
        return int(row[0])

    assert len(reads) == 9
    assert {name: looks(name, "b-1") for name in reads} == dict.fromkeys(reads, 0)
    assert all(looks(name, "a-1") for name in reads)


def test_only_a_closed_stream_that_is_there_is_archived(store: EventStore) -> None:
    opened(store)
    with pytest.raises(StreamNotClosed, match="close it first"):
        store.archive_stream("a-1")
    with pytest.raises(StreamNotFound):
        store.archive_stream("b-1")


# Erase -----------------------------------------------------------------------------------------


def test_erased_events_hold_their_places_and_nothing_else(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    store.append(
        "a-1",
        [fact(0, metadata={"by": "ann"}, tags=["order:1"]), fact(1)],
        expected=NO_STREAM,
    )
    before = list(store.read("a-1"))
    info = store.erase_stream("a-1", reason="Ann asked to be forgotten")

    assert info.erased_at is not None
    after = list(store.read("a-1"))
    assert all(event.data is ERASED and event.is_erased for event in after)
    assert [event.metadata for event in after] == [{}, {}]
    for name in ("position", "stream", "version", "id", "type", "tags", "recorded_at", "valid_at"):
        assert [getattr(e, name) for e in after] == [getattr(e, name) for e in before]
    assert list(store.read_all()) == list(store.read_all(Query(tags="order:1"))) + after[1:]
    (change,) = store.stream_changes("a-1")
    assert (change.operation, change.events) == ("erase", 2)
    assert change.reason == "Ann asked to be forgotten"
    assert change.changed_by
    assert abs(change.changed_at - datetime.now(UTC)).total_seconds() < 60
    stored = connection.execute(f"SELECT to_jsonb(events)::text FROM {schema}.events").fetchall()
    assert not any("ann" in text or "number" in text for (text,) in stored)


def test_what_comes_after_an_erasure_is_not_erased(store: EventStore) -> None:
    erased(store)
    store.append("a-1", fact(2), expected=1)

    assert [event.is_erased for event in store.read("a-1")] == [True, True, False]
    store.erase_stream("a-1", reason="again")
    assert [event.is_erased for event in store.read("a-1")] == [True, True, True]
    store.erase_stream("a-1", reason="nothing is left")
    assert [change.events for change in store.stream_changes("a-1")] == [2, 1]


def test_archived_events_are_erased_too(store: EventStore) -> None:
    reopened(store)
    store.append("a-1", fact(2), expected=1)
    store.erase_stream("a-1", reason="asked to")

    assert [event.is_erased for event in store.read("a-1")] == [True, True, True]
    store.close_stream("a-1", expected=2)
    store.archive_stream("a-1")
    assert [event.is_erased for event in store.read_all()] == [True, True, True]


@dataclass(frozen=True)
class Happened:
    number: int


def test_a_store_with_classes_reads_what_was_erased(connect: Connect) -> None:
    store = connect(events=[Happened])
    store.append("a-1", Happened(1), expected=NO_STREAM)
    store.append("a-1", NewEvent("Gone", {"number": 2}), expected=0)
    store.erase_stream("a-1", reason="asked to")
    store.append("a-1", Happened(3), expected=1)

    assert [event.data for event in store.read("a-1")] == [ERASED, ERASED, Happened(3)]


def test_a_retry_of_what_was_erased_since_stores_nothing_again(store: EventStore) -> None:
    event = fact(7)
    first = store.append("a-1", event, expected=NO_STREAM)
    store.erase_stream("a-1", reason="asked to")

    again = store.append("a-1", event, expected=NO_STREAM)
    assert (again.idempotent, again.position) == (True, first.position)
    assert [found.is_erased for found in store.read("a-1")] == [True]
    with pytest.raises(DuplicateEvent):
        store.append("b-1", event, expected=NO_STREAM)


def test_nothing_is_erased_without_a_reason(store: EventStore) -> None:
    opened(store)
    for reason in ("", "  ", None, 7, "a\x00b"):
        with pytest.raises(InvalidInput):
            store.erase_stream("a-1", reason=reason)
    with pytest.raises(StreamNotFound):
        store.erase_stream("b-1", reason="asked to")
    assert store.stream_changes("a-1") == store.stream_changes("b-1") == []


def test_groups_pass_over_what_was_erased(store: EventStore) -> None:
    """Whatever it was to them: to come, to be tried again, parked, or waiting behind that."""
    group = store.group("mails")
    group.create(retry_after=0, max_attempts=3)
    for stream in ("retried", "parked", "ahead", "kept"):
        store.append(f"{stream}-1", [fact(0), fact(1)], expected=NO_STREAM)
    with group.consume() as consumer:
        taken = {}
        for _ in range(4):
            delivery = consumer.take(20)
            assert delivery is not None
            taken[delivery.stream] = delivery
        taken["parked-1"].park("no address of ann")
        wait_until(lambda: turn(consumer) or group.info().parked == 1)
        assert [parked.stream for parked in group.parked()] == ["parked-1"]
        for stream in ("retried-1", "parked-1", "ahead-1"):
            store.erase_stream(stream, reason="asked to")
        assert group.parked() == []
        # Its worker still holds the event, and reports a failure.
        taken["retried-1"].nack()
        taken["ahead-1"].ack()
        taken["kept-1"].ack()
        store.append("kept-1", fact(2), expected=1)
        seen = []
        while len(seen) < 2:
            delivery = consumer.take(20)
            assert delivery is not None
            assert delivery.data is not ERASED
            if delivery.stream == "kept-1":
                seen.append((delivery.stream, delivery.version))
            delivery.ack()
        wait_until(lambda: turn(consumer) or group.info().lag_events == 0)

    assert seen == [("kept-1", 1), ("kept-1", 2)]
    info = group.info()
    assert (info.retrying, info.queued, info.parked, info.checkpoint) == (0, 0, 0, 9)


def turn(consumer: Any) -> bool:
    """Let a worker do what it owes; what it had read of an erased stream before may come."""
    delivery = consumer.take(0.05)
    if delivery is not None:
        assert delivery.stream != "kept-1"
        assert delivery.data is not ERASED
        delivery.ack()
    return False


def test_a_group_that_comes_after_an_erasure_never_sees_it(store: EventStore) -> None:
    erased(store)
    store.append("a-1", fact(2), expected=1)
    group = store.group("mails")
    group.create(start="beginning")

    with group.consume() as consumer:
        delivery = consumer.take(20)
        assert delivery is not None
        assert (delivery.version, delivery.data) == (2, {"number": 2})
        delivery.ack()


# Rejected by the database ----------------------------------------------------------------------


def test_no_change_passes_without_its_record(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Not for the owner who has made a record, of another stream or for another operation."""
    store = sync_store
    opened(store)
    store.append("b-1", fact(7), expected=NO_STREAM)
    recording = ("INSERT INTO stream_changes (stream_id, operation) SELECT id, '{}' FROM streams"
                " WHERE name = '{}'")  # fmt: skip
    erase = "UPDATE events SET data = 'null', metadata = NULL, erasure = 1 WHERE version = 0"
    connection.execute(f"SET search_path = {schema}")
    for recorded, change in [
        (recording.format("erase", "b-1"), erase + " AND position = 1"),
        (recording.format("archive", "a-1"), erase + " AND position = 1"),
        (recording.format("erase", "a-1"), "DELETE FROM events WHERE position = 1"),
        (recording.format("archive", "a-1"), "DELETE FROM events WHERE position = 1"),
        (
            recording.format("erase", "a-1"),
            "UPDATE events SET data = '1', erasure = 1 WHERE position = 1",
        ),
        (recording.format("erase", "a-1"), erase.replace("SET", "SET version = 9,")),
        (recording.format("erase", "a-1"), erase.replace("SET", "SET type = 'Other',")),
        (recording.format("archive", "a-1"), "TRUNCATE events, archived_events"),
        ("SELECT set_config('indelible.maintenance', 'yes', true)", erase),
        ("SELECT 1", "DELETE FROM archived_events"),
    ]:
        with pytest.raises(psycopg.Error, match="what is stored is immutable") as refusal:
            with connection.transaction():
                connection.execute(recorded)
                connection.execute(change)
        assert refusal.value.sqlstate == "IND01"
    # It is also rejected in another transaction than its record.
    connection.execute(recording.format("erase", "a-1"))
    with pytest.raises(psycopg.Error, match="what is stored is immutable"):
        connection.execute(erase + " AND position = 1")
    for change in ("DELETE FROM stream_changes", "UPDATE stream_changes SET reason = 'x'",
                   "TRUNCATE stream_changes"):  # fmt: skip
        with pytest.raises(psycopg.Error, match="what is stored is immutable"):
            connection.execute(change)
    assert [event.data["number"] for event in store.read_all()] == [0, 1, 7]


def test_archived_events_are_as_immutable_as_the_others(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    archived(sync_store)
    connection.execute(f"SET search_path = {schema}")
    for change in (
        "UPDATE archived_events SET type = 'Other'",
        "DELETE FROM archived_events",
        "TRUNCATE archived_events",
        "DELETE FROM events",
        "TRUNCATE events",
    ):
        with pytest.raises(psycopg.Error, match="what is stored is immutable"):
            connection.execute(change)
    with pytest.raises(psycopg.Error, match="what is stored is immutable"):
        with connection.transaction():
            connection.execute(
                "INSERT INTO stream_changes (stream_id, operation)"
                " SELECT id, 'archive' FROM streams"
            )
            connection.execute("DELETE FROM archived_events")
    assert len(list(sync_store.read("a-1"))) == 2


def test_nothing_comes_into_the_archive_but_by_archiving(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Not for the owner who has made a record: neither a copy of an event nor a made-up one."""
    closed(sync_store)
    connection.execute(f"SET search_path = {schema}")
    copy = "INSERT INTO archived_events SELECT * FROM events"
    made_up = (
        "INSERT INTO archived_events (position, stream_id, version, recorded_at, id, type, data)"
        " SELECT 99, id, 7, now(), gen_random_uuid(), 'Other', '{}' FROM streams"
    )
    recording = (
        "INSERT INTO stream_changes (stream_id, operation) SELECT id, 'archive' FROM streams"
    )
    saying_so = "UPDATE streams SET archived_at = now()"
    for changes in (
        [copy],
        [made_up],
        [recording, copy],
        [recording, saying_so, copy],
        [recording, saying_so, made_up],
        # Readers of the stream would not look there.
        [recording, "DELETE FROM events"],
    ):
        with pytest.raises(psycopg.Error, match="what is stored is immutable") as refusal:
            with connection.transaction():
                for change in changes:
                    connection.execute(change)
        assert refusal.value.sqlstate == "IND01"
    sync_store.archive_stream("a-1")
    with pytest.raises(psycopg.Error, match="what is stored is immutable"):
        connection.execute("UPDATE streams SET archived_at = NULL")
    with pytest.raises(psycopg.Error, match="what is stored is immutable"):
        connection.execute(made_up)
    assert [event.data["number"] for event in sync_store.read("a-1")] == [0, 1]


def test_a_plain_append_takes_at_most_14_relation_locks(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """All on the fast path, of which PostgreSQL 15 to 17 have 16. Plans are made once a session,
    and lock every index."""

    def locks(own: psycopg.Connection, stream: str, expected: Any) -> tuple[int, int]:
        sync_store.bind(own).append(stream, fact(), expected=expected)
        # Before a catalog is read, which is locked as well.
        row = own.execute(
            "SELECT count(*), count(*) FILTER (WHERE fastpath) FROM pg_locks"
            " WHERE pid = pg_backend_pid() AND locktype = 'relation'"
            " AND relation <> 'pg_locks'::regclass"
        ).fetchone()
        own.commit()
        assert row is not None
        return row

    def check(first: bool) -> None:
        for stream, expected in [("a-1", ANY), (f"a-{uuid4()}", NO_STREAM)]:
            with psycopg.connect(url) as own:
                if not first:
                    locks(own, stream, expected)
                    locks(own, "a-2", ANY)
                    stream, expected = stream + "b", expected
                taken, fast = locks(own, stream, expected)
                assert taken <= 14
                assert fast == taken

    check(first=True)
    check(first=False)
    sync_store.append("old-1", fact(), expected=NO_STREAM)
    sync_store.close_stream("old-1", expected=0)
    sync_store.archive_stream("old-1")
    check(first=False)


def test_only_a_maintainer_archives_and_erases(url: str, schema: str) -> None:
    with as_member_of(url, schema, "writer") as member:
        with EventStore.connect(member, schema=schema) as store:
            closed(store)
            store.reopen_stream("a-1")
            store.close_stream("a-1", expected=1)
            for forbidden in (
                lambda: store.archive_stream("a-1"),
                lambda: store.erase_stream("a-1", reason="asked to"),
            ):
                with pytest.raises(PermissionDenied, match=f"{schema}_maintainer"):
                    forbidden()
            assert [change.changed_by for change in store.stream_changes("a-1")] == (
                [f"login_{schema}"] * 3
            )
        with psycopg.connect(member, autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT {schema}.record_change(1, 'erase', 1, 'x')")
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(f"GRANT {schema}_maintainer TO login_{schema}")
        with EventStore.connect(member, schema=schema) as store:
            store.archive_stream("a-1")
            store.erase_stream("a-1", reason="asked to")
            assert [event.is_erased for event in store.read("a-1")] == [True, True]
        with psycopg.connect(member, autocommit=True) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"UPDATE {schema}.events SET data = NULL")
