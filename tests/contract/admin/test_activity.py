"""What an operator looks at: activity over time, the busiest streams, the state of the store."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from indelible import ANY, EventStore, NewEvent
from indelible.admin import activity
from indelible.admin.activity import busiest, positions_over
from indelible.admin.health import store_health
from indelible.postgres.migrations import newest_version

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


def fill(connection: psycopg.Connection, schema: str, count: int) -> None:
    """A stream with an event per minute before noon."""
    connection.execute(
        f"INSERT INTO {schema}.streams (name, channel, version) VALUES ('a', 'c', 0)"
    )
    connection.execute(
        f"""
        INSERT INTO {schema}.events (position, stream_id, version, recorded_at, id, type, data)
        SELECT
            number, (SELECT id FROM {schema}.streams), number - 1,
            %(now)s::timestamptz - make_interval(mins => %(count)s - number::integer),
            lpad(to_hex(number), 32, '0')::uuid, 'Type', '{{}}'
        FROM generate_series(1, %(count)s) AS events (number)
        """,
        {"count": count, "now": NOW},
    )
    connection.execute(f"SELECT setval('{schema}.events_position', {count})")


def test_positions_over_time_are_those_of_the_moments(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    fill(connection, schema, 3_000)
    edges = [NOW - timedelta(days=3) + timedelta(hours=number) for number in range(97)]
    head = sync_store.head()
    found = sync_store._engine.run(positions_over(edges, head))
    assert found == [sync_store.position_at(edge) for edge in edges]
    assert (found[0], found[-1]) == (0, 3_000)
    assert 0 < found[60] < 3_000
    assert sync_store._engine.run(positions_over(edges, 100)) == [min(each, 100) for each in found]


def test_positions_of_a_log_without_its_index_are_not_looked_up(
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(connection, schema, 10_000)
    monkeypatch.setattr(activity, "_INDEXED_AT_ONCE", 2_000)
    run = sync_store._engine.run
    found = [run(positions_over([NOW], 10_000)) for _ in range(3)]
    assert found == [None, None, [10_000]]


def test_a_log_that_another_session_indexes_is_not_looked_up(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    fill(connection, schema, 10_000)
    with connection.transaction():
        connection.execute(f"SELECT {schema}.index_recorded_times(1000)")
        assert sync_store._engine.run(positions_over([NOW], 10_000)) is None
    assert sync_store._engine.run(positions_over([NOW], 10_000)) == [10_000]


def test_the_busiest_are_those_with_most_of_the_newest_events(sync_store: EventStore) -> None:
    counts = {f"order-{number}": number for number in range(1, 12)}
    for stream, count in counts.items():
        events = [NewEvent(f"Type{number % 3}", {}) for number in range(count)]
        sync_store.append(stream, events, expected=ANY, channel="even" if count % 2 == 0 else "odd")
    found = sync_store._engine.run(busiest(sync_store.head(), most=5))
    assert [(each.name, each.events) for each in found.streams] == Counter(counts).most_common(5)
    assert [each.name for each in found.types] == ["Type0", "Type1", "Type2"]
    assert sum(each.events for each in found.types) == sum(counts.values())
    assert [(each.name, each.events) for each in found.channels] == [("odd", 36), ("even", 30)]


def test_archived_streams_are_among_the_busiest(sync_store: EventStore) -> None:
    sync_store.append("order-1", [NewEvent("Placed", {}), NewEvent("Placed", {})], expected=ANY)
    sync_store.close_stream("order-1", expected=1)
    sync_store.archive_stream("order-1")
    found = sync_store._engine.run(busiest(sync_store.head()))
    assert [(each.name, each.events) for each in found.streams] == [("order-1", 2)]


def test_the_health_tells_who_holds_the_head_back(
    sync_store: EventStore, url: str, schema: str
) -> None:
    sync_store.append("order-1", NewEvent("Placed", {}), expected=ANY)
    found = sync_store._engine.run(store_health())
    assert (found.head, found.last_position, list(found.holders)) == (1, 1, [])
    assert found.schema_version == newest_version()
    assert abs(found.clock - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.bytes > 0
    with EventStore.connect(url, schema=schema) as other, other.transaction() as open_one:
        open_one.append("order-2", NewEvent("Placed", {}), expected=ANY)
        sync_store.append("order-3", NewEvent("Placed", {}), expected=ANY)
        held = sync_store._engine.run(store_health())
        assert (held.head, held.last_position) == (1, 3)
        (holder,) = held.holders
        assert holder.state == "idle in transaction"
