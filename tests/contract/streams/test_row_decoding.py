"""Events are read as the driver itself would read their rows, value by value."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import tuple_row

from indelible import ANY, ERASED, NO_STREAM, EventStore, NewEvent, RecordedEvent

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False, width=32)
).filter(lambda number: str(number) != "-0.0")
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.dictionaries(TEXT, children, max_size=3)
    ),
    max_leaves=6,
)
MOMENTS = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)
)  # fmt: skip
EVENTS = st.builds(
    NewEvent,
    type=st.text("aZé😀ß-_.", min_size=1, max_size=8),
    data=JSON,
    metadata=st.dictionaries(TEXT, JSON, max_size=3),
    tags=st.lists(st.from_regex(r"\A[a-zé]{1,5}:[a-zß😀, {}\"]{0,6}x\Z"), max_size=3, unique=True),
    valid_at=st.one_of(st.none(), MOMENTS),
)


def by_the_driver(
    connection: psycopg.Connection, schema: str, after: int = 0
) -> list[tuple[Any, ...]]:
    """Read the log with psycopg's own conversions, and no function of the store."""
    cursor = connection.cursor(row_factory=tuple_row)
    statement = (
        f"SELECT position, stream, version, id, type, data::text, metadata::text, tags, channel,"
        f" recorded_at, valid_at FROM {schema}.recorded_events WHERE position > {after}"
        " ORDER BY position"
    )
    return cursor.execute(statement.encode()).fetchall()


def comparable(event: RecordedEvent) -> tuple[Any, ...]:
    data = None if event.is_erased else json.dumps(event.data)
    return (
        event.position,
        event.stream,
        event.version,
        event.id,
        event.type,
        data,
        json.dumps(event.metadata),
        list(event.tags),
        event.channel,
        event.recorded_at,
        event.valid_at,
    )


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=st.lists(EVENTS, min_size=1, max_size=8))
def test_events_are_what_the_driver_reads(
    store: EventStore, connection: psycopg.Connection, schema: str, events: list[NewEvent]
) -> None:
    stream, after = f"a-{uuid4()}", store.head()
    store.append(stream, events, expected=ANY)

    rows = by_the_driver(connection, schema, after)
    read = [comparable(event) for event in store.read_all(after=after)]

    assert [row[:5] for row in read] == [row[:5] for row in rows]
    for row, (position, *_, data, metadata, tags, channel, recorded_at, valid_at) in zip(
        read, rows, strict=True
    ):
        assert json.loads(row[5]) == json.loads(data), position
        assert json.loads(row[6]) == json.loads(metadata or "{}"), position
        assert row[7:] == (tags or [], channel, recorded_at, valid_at), position
    assert all(event.recorded_at.tzinfo is UTC for event in store.read_all(limit=3))
    assert [comparable(event) for event in store.read(stream)] == read


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Caracas"])
def test_the_time_zone_of_the_session_does_not_matter(
    sync_store: EventStore, connection: psycopg.Connection, zone: str
) -> None:
    valid = datetime(1880, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    sync_store.append("a-1", NewEvent("Happened", 1, valid_at=valid), expected=ANY)
    connection.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    bound = sync_store.bind(connection)

    (event,) = bound.read("a-1")

    assert (event.valid_at, event.valid_at.tzinfo) == (valid, UTC)
    assert abs(event.recorded_at - datetime.now(UTC)) < timedelta(minutes=1)


class CallersLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return "the caller's"


@pytest.mark.parametrize("kind", ["text", "text[]", "int8", "bool", "uuid", "jsonb", "timestamptz"])
def test_how_the_caller_s_connection_reads_values_does_not_matter(
    sync_store: EventStore, connection: psycopg.Connection, kind: str
) -> None:
    new = NewEvent("Happened", 1, tags=["key:value"])
    kept = psycopg.adapters.types[kind.removesuffix("[]")]
    oid = kept.array_oid if kind.endswith("[]") else kept.oid
    connection.adapters.register_loader(oid, CallersLoader)
    bound = sync_store.bind(connection)

    result = bound.append("a-1", new, expected=NO_STREAM)
    again = bound.append("a-1", new, expected=NO_STREAM)

    assert again == msgspec.structs.replace(result, idempotent=True)
    assert [*bound.read("a-1"), *bound.read_all()] == [*sync_store.read("a-1")] * 2


def test_the_events_of_an_append_and_the_erased_ones_keep_their_times(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    store.append("a-1", [NewEvent("Happened", number) for number in range(3)], expected=ANY)
    store.append("b-1", NewEvent("Happened", 3), expected=ANY)
    store.close_stream("a-1", expected=2)
    store.erase_stream("a-1", reason="asked for")

    rows = by_the_driver(connection, schema)
    read = list(store.read_all())

    assert [(event.recorded_at, event.valid_at) for event in read] == [row[9:] for row in rows]
    assert len({event.recorded_at for event in read}) == 2
    assert [event.data for event in read] == [ERASED] * 3 + [3]
