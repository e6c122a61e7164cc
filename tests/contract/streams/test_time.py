"""Reads by time: as of a recorded time, valid at a valid time, or both (G8)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    Checkpoint,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    StreamNotFound,
    WrongExpectedVersion,
)
from indelible.errors import EpochMismatch

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def fact(number: int = 0, **options: Any) -> NewEvent:
    return NewEvent("Happened", {"number": number}, **options)


def numbers(events: Iterable[RecordedEvent]) -> list[int]:
    return [event.data["number"] for event in events]


def positions(events: Iterable[RecordedEvent]) -> list[int]:
    return [event.position for event in events]


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def record(
    connection: psycopg.Connection,
    schema: str,
    stream: str,
    facts: Iterable[tuple[datetime, datetime | None]],
) -> None:
    """Store numbered facts, recorded and valid at given times: what no clock would do on demand."""
    with connection.transaction():
        connection.execute(f"LOCK {schema}.append_lock IN ROW EXCLUSIVE MODE")
        connection.execute(f"SELECT {schema}.lock_head()")
        (stream_id, version) = connection.execute(  # type: ignore[misc]
            f"INSERT INTO {schema}.streams (name, channel, version) VALUES (%s, 'a', -1)"
            " ON CONFLICT ON CONSTRAINT streams_name_key DO UPDATE SET version = streams.version"
            " RETURNING id, version",
            [stream],
        ).fetchone()
        recorded, valid = zip(*facts, strict=True)
        connection.execute(
            f"""
            INSERT INTO {schema}.events
                (position, stream_id, version, recorded_at, id, type, data, valid_at)
            SELECT position, %s, %s + place, recorded_at, gen_random_uuid(), 'Happened',
                jsonb_build_object('number', position), valid_at
            FROM (
                SELECT nextval('{schema}.events_position') AS position, given.*
                FROM unnest(%s::timestamptz[], %s::timestamptz[])
                    WITH ORDINALITY AS given (recorded_at, valid_at, place)
            ) AS taken
            """,
            [stream_id, version, list(recorded), list(valid)],
        )
        connection.execute(
            f"UPDATE {schema}.streams SET version = version + %s WHERE id = %s",
            [len(recorded), stream_id],
        )


@pytest.fixture
def five(store: EventStore, connection: psycopg.Connection, schema: str) -> EventStore:
    """A store with five facts, recorded a minute apart, in two streams."""
    for number in range(1, 6):
        record(connection, schema, f"a-{number % 2}", [(minutes(number), None)])
    return store


# As of a recorded time -------------------------------------------------------------------------


def test_the_log_as_of_a_moment_is_what_was_recorded_by_then(five: EventStore) -> None:
    for minute, count in ((0, 0), (1, 1), (1.5, 1), (3, 3), (5, 5), (99, 5)):
        known = list(range(1, count + 1))
        moment = minutes(minute)
        log = five.read_all(as_of=moment)

        assert numbers(log) == known
        assert log.head == five.position_at(moment) == count
        assert numbers(five.read_all(as_of=moment, backwards=True)) == known[::-1]
        assert numbers(five.read_all(as_of=moment, after=1, limit=2)) == known[1:3]
        odd = [number for number in known if number % 2]
        assert numbers(five.read("a-1", as_of=moment)) == odd
        assert numbers(five.read("a-1", as_of=moment, backwards=True, limit=1)) == odd[-1:]
        assert numbers(five.read_all(as_of=count)) == known
        assert numbers(five.read("a-1", as_of=count)) == odd


def test_a_moment_counts_to_the_microsecond(five: EventStore) -> None:
    assert five.position_at(minutes(3)) == 3
    assert five.position_at(minutes(3) - MICROSECOND) == 2


def test_a_moment_is_the_same_in_every_time_zone(five: EventStore) -> None:
    """Also in the hour that a clock of the place shows twice, when summer time ends."""
    berlin = ZoneInfo("Europe/Berlin")
    for zone in (berlin, timezone(timedelta(hours=-9, minutes=-30))):
        assert five.position_at(minutes(3).astimezone(zone)) == 3
    first, second = (datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=berlin) for fold in (0, 1))
    five.append("b-1", fact(6, valid_at=second), expected=NO_STREAM)
    assert numbers(five.read("b-1", valid_at=first)) == []
    assert numbers(five.read("b-1", valid_at=second)) == [6]


def test_a_store_without_events_knew_nothing(store: EventStore) -> None:
    assert store.position_at(NOON) == 0
    assert list(store.read_all(as_of=NOON)) == []
    assert list(store.read_all(as_of=NOON, valid_at=NOON)) == []
    assert list(store.read("a-1", as_of=NOON)) == []
    with pytest.raises(StreamNotFound):
        list(store.read("a-1", as_of=NOON, valid_at=NOON, must_exist=True))


def test_facts_recorded_in_a_range_begin_with_it_and_end_before_its_end(five: EventStore) -> None:
    between = (minutes(2), minutes(4))

    assert numbers(five.read_all(recorded_between=between)) == [2, 3]
    assert numbers(five.read_all(recorded_between=between, backwards=True)) == [3, 2]
    assert numbers(five.read("a-1", recorded_between=between)) == [3]
    assert numbers(five.read("a-0", recorded_between=between, from_version=1)) == []
    assert numbers(five.read_all(recorded_between=(minutes(2), minutes(2)))) == []


def test_a_filter_holds_as_of_a_moment_too(five: EventStore) -> None:
    assert numbers(five.read_all(Query(stream_prefix="a-1"), as_of=minutes(4))) == [1, 3]
    assert numbers(
        five.read_all(Query(stream_prefix="a-1") | Query(types="Other"), as_of=minutes(4))
    ) == [1, 3]


def test_a_clock_that_goes_back_takes_nothing_back(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """What a clock says that was put back counts from the latest time it had shown before."""
    record(connection, schema, "a-1", [(minutes(n), None) for n in (1, 2, 10)])
    before = {n: numbers(store.read_all(as_of=minutes(n))) for n in range(12)}

    record(connection, schema, "a-1", [(minutes(n), None) for n in (3, 4, 11)])

    after = {n: numbers(store.read_all(as_of=minutes(n))) for n in range(12)}
    assert [after[n] for n in range(10)] == [before[n] for n in range(10)]
    assert after[10] == [1, 2, 3, 4, 5]  # it was not passed before
    assert after[11] == [1, 2, 3, 4, 5, 6]
    assert numbers(store.read("a-1", as_of=minutes(4))) == [1, 2]


def test_once_the_head_has_passed_a_moment_its_position_never_changes(
    five: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    assert (five.position_at(minutes(4)), five.has_passed(minutes(4))) == (4, True)
    assert (five.position_at(minutes(9)), five.has_passed(minutes(9))) == (5, False)

    record(connection, schema, "a-1", [(minutes(0), None)])

    assert five.position_at(minutes(4)) == 4
    assert five.position_at(minutes(9)) == 6


def test_the_position_of_a_moment_is_found_among_many(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Over more positions than one period has, with gaps wider than one, and without events."""
    record(connection, schema, "a-1", [(minutes(n / 60), None) for n in range(1, 2_301)])
    connection.execute(f"SELECT setval('{schema}.events_position', 6500)")
    record(connection, schema, "a-2", [(minutes(60 + n), None) for n in range(3)])
    rows = connection.execute(
        f"SELECT position, recorded_at FROM {schema}.events ORDER BY position"
    ).fetchall()
    moments = [moment for _, moment in rows]
    expected = {
        moment + step: next((p - 1 for p, m in rows if m > moment + step), 6503)
        for moment in [*moments[::150], moments[999], moments[1000], moments[-1]]
        for step in (-MICROSECOND, timedelta(0), MICROSECOND)
    }

    assert {moment: store.position_at(moment) for moment in expected} == expected
    assert connection.execute(f"SELECT count(*) FROM {schema}.recorded_time_index").fetchone() == (
        6,
    )


def test_a_reader_that_may_not_write_gets_the_same_answer(
    store: EventStore, connection: psycopg.Connection, schema: str, url: str
) -> None:
    record(connection, schema, "a-1", [(minutes(n), None) for n in range(1, 1_502)])

    with EventStore.connect(
        psycopg.conninfo.make_conninfo(url, options="-c default_transaction_read_only=on"),
        schema=schema,
    ) as reader:
        assert reader.position_at(minutes(700)) == 700
        assert numbers(reader.read_all(valid_at=minutes(1_400), backwards=True, limit=2)) == [
            1400,
            1399,
        ]
    assert connection.execute(f"SELECT count(*) FROM {schema}.recorded_time_index").fetchone() == (
        0,
    )
    assert store.position_at(minutes(700)) == 700
    assert connection.execute(f"SELECT count(*) FROM {schema}.recorded_time_index").fetchone() == (
        1,
    )


def test_a_checkpoint_stands_for_a_moment_of_its_history(five: EventStore) -> None:
    checkpoint = Checkpoint(3, five.epoch())
    assert numbers(five.read_all(as_of=checkpoint)) == [1, 2, 3]
    assert numbers(five.read("a-1", as_of=checkpoint)) == [1, 3]
    assert numbers(five.read_all(as_of=checkpoint, valid_at=minutes(2))) == [1, 2]

    five.renew_epoch()

    with pytest.raises(EpochMismatch):
        list(five.read_all(as_of=checkpoint))
    with pytest.raises(EpochMismatch):
        list(five.read("a-1", as_of=checkpoint, valid_at=NOON))


def test_a_position_beyond_the_head_reads_up_to_the_head(five: EventStore) -> None:
    log = five.read_all(as_of=2**63 - 1)
    assert numbers(log) == [1, 2, 3, 4, 5]
    assert log.head == 5


def test_a_writer_reads_its_stream_as_of_what_it_wrote(
    store: EventStore, connection: psycopg.Connection, schema: str, url: str
) -> None:
    """Below an event of a stream nothing of it can appear: no head is needed for that."""
    store.append("a-1", fact(1), expected=NO_STREAM)
    with psycopg.connect(url) as slow:
        slow.execute(f"LOCK {schema}.append_lock IN ROW EXCLUSIVE MODE")
        slow.execute(f"SELECT {schema}.lock_head()")
        result = store.append("a-1", fact(2), expected=0)
        assert store.head() < result.position
        assert numbers(store.read("a-1", as_of=result.position)) == [1, 2]
        assert numbers(store.read("a-1", as_of=result.position - 1)) == [1]


def test_a_subscription_begins_after_a_moment(five: EventStore) -> None:
    with five.subscribe(after=minutes(3)) as subscription:
        assert numbers([next(subscription), next(subscription)]) == [4, 5]
    with five.subscribe(after=minutes(0)) as subscription:
        assert numbers([next(subscription)]) == [1]


def test_a_group_begins_with_what_was_recorded_at_a_moment(five: EventStore) -> None:
    group = five.group("mails")
    group.create(start=minutes(3))
    assert group.info().start == 2
    group.reset(minutes(4))
    assert group.info().checkpoint == 3


# Valid at a valid time -------------------------------------------------------------------------


def test_facts_are_valid_from_when_they_were_recorded_or_as_they_say(store: EventStore) -> None:
    now = store.append("price-1", fact(1), expected=NO_STREAM).recorded_at
    store.append("price-1", fact(2, valid_at=now + timedelta(days=20)), expected=0)
    store.append("price-1", fact(3, valid_at=now - timedelta(days=20)), expected=1)

    def valid(days: float) -> list[int]:
        return numbers(store.read("price-1", valid_at=now + timedelta(days=days)))

    assert valid(-21) == []
    assert valid(-20) == [3]
    assert valid(0) == [3, 1]
    assert valid(19) == [3, 1]
    assert valid(20) == [3, 1, 2]
    assert numbers(store.read_all(valid_at=now)) == [3, 1]
    assert numbers(store.read_all(valid_at=now, backwards=True)) == [1, 3]
    assert [event.valid_at for event in store.read("price-1")] == [
        now,
        now + timedelta(days=20),
        now - timedelta(days=20),
    ]


def test_of_two_facts_with_the_same_valid_time_the_later_recorded_comes_last(
    store: EventStore,
) -> None:
    store.append("b-1", fact(1, valid_at=NOON), expected=NO_STREAM)
    store.append("a-1", [fact(2, valid_at=NOON), fact(3, valid_at=NOON)], expected=NO_STREAM)

    assert numbers(store.read_all(valid_at=NOON)) == [1, 2, 3]
    assert numbers(store.read("a-1", valid_at=NOON, backwards=True)) == [3, 2]
    assert numbers(store.read_all(valid_at=NOON - MICROSECOND)) == []


def test_both_times_together_say_what_was_believed(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """On Monday the price of Friday was 9; on Wednesday it was found to be 7."""
    monday, wednesday, friday = (minutes(n) for n in (1, 3, 5))
    record(connection, schema, "price-1", [(monday, friday), (wednesday, friday)])

    def believed(known: datetime, holds: datetime) -> list[int]:
        found = numbers(store.read("price-1", as_of=known, valid_at=holds))
        assert numbers(store.read_all(as_of=known, valid_at=holds)) == found
        return found

    assert believed(monday, friday) == [1]
    assert believed(wednesday, friday) == [1, 2]
    assert believed(wednesday, minutes(4)) == []
    assert believed(minutes(0), friday) == []


def test_facts_valid_in_a_range_begin_with_it_and_end_before_its_end(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    record(
        connection,
        schema,
        "a-1",
        [(minutes(2), None), (minutes(3), minutes(1)), (minutes(4), None), (minutes(5), NOON)],
    )
    between = (minutes(1), minutes(4))

    assert numbers(store.read("a-1", valid_between=between)) == [2, 1]
    assert numbers(store.read_all(valid_between=between)) == [2, 1]
    assert numbers(store.read_all(valid_between=between, backwards=True)) == [1, 2]
    assert numbers(store.read_all(valid_between=between, recorded_between=between)) == [2, 1]
    assert numbers(store.read_all(valid_between=between, as_of=1)) == [1]
    assert numbers(store.read_all(valid_between=(NOON, NOON))) == []
    first = datetime.min.replace(tzinfo=UTC)
    assert numbers(store.read_all(valid_between=(first, minutes(1)))) == [4]
    assert numbers(store.read_all(valid_between=(first, first))) == []


def test_versions_positions_and_limits_bound_a_read_by_valid_time(store: EventStore) -> None:
    store.append(
        "a-1",
        [fact(n, valid_at=minutes(-n)) for n in range(1, 6)],
        expected=NO_STREAM,
    )

    assert numbers(store.read("a-1", valid_at=NOON)) == [5, 4, 3, 2, 1]
    assert numbers(store.read("a-1", valid_at=NOON, from_version=1, to_version=3)) == [4, 3, 2]
    assert numbers(store.read("a-1", valid_at=NOON, limit=2)) == [5, 4]
    assert numbers(store.read_all(valid_at=NOON, after=2)) == [5, 4, 3]
    assert numbers(store.read_all(valid_at=NOON, after=2, limit=1)) == [5]
    log = store.read_all(valid_at=NOON, limit=0)
    assert (list(log), log.head) == ([], 5)


def test_expected_versions_speak_of_the_recorded_order(store: EventStore) -> None:
    store.append("a-1", [fact(1), fact(2, valid_at=NOON)], expected=NO_STREAM)
    last = list(store.read("a-1", valid_at=datetime.now(UTC) + timedelta(days=1)))[-1]
    assert last.version == 0

    with pytest.raises(WrongExpectedVersion):
        store.append("a-1", fact(3), expected=last.version)
    store.append("a-1", fact(3), expected=1)


def test_no_page_repeats_or_leaves_out_a_fact(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """More facts than the first pages and several periods hold; most have the same few times, and
    the clock goes back on the way."""
    given = [
        (minutes(n % 1_700 / 60 + n / 600), None if n % 3 else minutes(n % 7)) for n in range(3_700)
    ]
    record(connection, schema, "a-1", given)
    rows = [
        (valid or recorded, position) for position, (recorded, valid) in enumerate(given, start=1)
    ]
    for moment in (minutes(3), minutes(20), minutes(99)):
        expected = [position for valid, position in sorted(rows) if valid <= moment]
        assert positions(store.read_all(valid_at=moment)) == expected
        assert positions(store.read("a-1", valid_at=moment)) == expected
        assert positions(store.read_all(valid_at=moment, backwards=True)) == expected[::-1]
        assert positions(store.read("a-1", valid_at=moment, backwards=True)) == expected[::-1]
        limited = store.read("a-1", valid_at=moment, backwards=True, limit=150)
        assert positions(limited) == expected[::-1][:150]
    assert positions(store.read_all(Query(types="Other"), valid_at=minutes(99))) == []


# Bad input -------------------------------------------------------------------------------------


WRONG: list[dict[str, Any]] = [
    {"as_of": datetime(2026, 1, 1)},
    {"as_of": "2026-01-01"},
    {"as_of": True},
    {"as_of": -1},
    {"as_of": 2**63},
    {"as_of": NOON, "recorded_between": (NOON, NOON)},
    {"recorded_between": NOON},
    {"recorded_between": (NOON,)},
    {"recorded_between": (NOON, NOON - MICROSECOND)},
    {"recorded_between": (NOON, datetime(2027, 1, 1))},
    {"valid_at": datetime(2026, 1, 1)},
    {"valid_at": 7},
    {"valid_at": float("inf")},
    {"valid_at": NOON, "valid_between": (NOON, NOON)},
    {"valid_between": "infinity"},
]


def test_a_time_that_is_none_is_refused(store: EventStore) -> None:
    for wrong in WRONG:
        with pytest.raises(InvalidInput):
            list(store.read_all(**wrong))
        with pytest.raises(InvalidInput):
            list(store.read("a-1", **wrong))


def test_a_moment_without_a_zone_has_no_position(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        store.position_at(datetime(2026, 1, 1))
    with pytest.raises(InvalidInput, match="time zone"):
        store.subscribe(after=datetime(2026, 1, 1)).stop()


def test_a_valid_time_that_no_reader_could_hold_is_refused_by_the_database(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    for moment in ("infinity", "-infinity", "10000-01-01 00:00+00", "0044-03-15 BC"):
        with pytest.raises(psycopg.errors.CheckViolation, match="events_valid_at_range"):
            connection.execute(
                f"SELECT {schema}.append('a-1', NULL, -1, jsonb_build_array(jsonb_build_object("
                "'id', gen_random_uuid(), 'type', 'A', 'data', 1, 'valid_at', %s::text)))",
                [moment],
            )
    assert store.stream("a-1") is None


# What it costs ---------------------------------------------------------------------------------


def test_facts_whose_valid_time_is_their_recorded_time_take_no_room_for_it(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    store.append("a-1", [fact(n) for n in range(50)], expected=ANY)
    store.append("a-1", fact(50, valid_at=NOON), expected=ANY)

    (given,) = connection.execute(  # type: ignore[misc]
        f"SELECT count(valid_at) FROM {schema}.events"
    ).fetchone()
    connection.execute(f"ANALYZE {schema}.events")
    (indexed,) = connection.execute(  # type: ignore[misc]
        "SELECT reltuples FROM pg_class WHERE oid = %s::regclass",
        [f"{schema}.events_valid_at_index"],
    ).fetchone()
    assert (given, indexed) == (1, 1)
