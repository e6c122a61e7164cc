"""The statements behind the page read as many rows as they return, also in a long log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from indelible import NO_STREAM, EventStore, NewEvent
from indelible.postgres.maintenance import index_correlation
from indelible.postgres.statements import statements


@pytest.fixture
def filled(sync_store: EventStore) -> EventStore:
    """A store with one stream of 3,000 events, and no statistics."""
    events = [NewEvent("Happened", {"n": n}) for n in range(3_000)]
    sync_store.append("a-1", events, expected=NO_STREAM)
    return sync_store


def _rows_read(connection: psycopg.Connection, schema: str, name: str, **given: Any) -> int:
    """Return how many rows of events a statement reads."""
    with connection.transaction():
        connection.execute(statements(schema)[name], given).fetchall()
        return sum(
            (row[0] or 0) + (row[1] or 0)
            for row in connection.execute(
                "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables"
                " WHERE schemaname = %s AND relname IN ('events', 'archived_events')",
                [schema],
            )
        )


def test_times_are_read_row_by_row(
    filled: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    given = {"stream": "a-1", "from_version": 100, "to_version": 2_100, "step": 100}
    assert _rows_read(connection, schema, "streams.times", **given) == 21


def test_positions_over_time_are_look_ups(
    filled: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    now = datetime.now(UTC)
    filled.position_at(now)  # writes the index of recorded times
    moments = [now - timedelta(hours=hours) for hours in range(97)]
    read = _rows_read(connection, schema, "admin.positions_over", moments=moments, head=3_000)
    assert read <= 97 * 2


def test_the_busiest_are_looked_for_in_the_newest_only(
    filled: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    read = _rows_read(connection, schema, "admin.busiest", after=2_900, upto=3_000, most=8)
    assert read == 100


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_correlation_is_looked_up_by_its_index(
    filled: EventStore,
    connection: psycopg.Connection,
    schema: str,
    *,
    is_analyzed: bool,
) -> None:
    """And not by a walk through the log in the order of the answer."""
    index_correlation(filled._engine._settings)
    for number in range(3):
        event = NewEvent("Happened", {}, metadata={"correlation_id": "co-1"})
        filled.append(f"b-{number}", event, expected=NO_STREAM)
    if is_analyzed:
        connection.execute(f"ANALYZE {schema}.events".encode())
        connection.commit()
    given = {"value": "co-1", "items": None, "upto": 4_000, "limit": 201}
    assert _rows_read(connection, schema, "admin.correlated", **given) <= 10
