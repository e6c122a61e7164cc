"""A store without statistics for the planner is read in the order of an index, nothing is sorted.

A new store has no statistics until autovacuum has analyzed it, and neither has a restored one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from indelible import EventStore, Query
from indelible.streams.read_log import log_reading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import stream_reading

from .test_time_plans import Explained, nodes

EVENTS = 60_000


def fill(connection: psycopg.Connection, schema: str, *, length: int) -> None:
    """Streams of a length, of which one has 20,000 events; autovacuum never analyzes them."""
    with connection.transaction():
        for table in ("events", "streams"):
            connection.execute(f"ALTER TABLE {schema}.{table} SET (autovacuum_enabled = off)")
            # The tests use a store again and again; autovacuum may have analyzed it.
            name = [f"{schema}.{table}"]
            connection.execute("DELETE FROM pg_statistic WHERE starelid = %s::regclass", name)
            connection.execute(
                "UPDATE pg_class SET relpages = 0, reltuples = -1 WHERE oid = %s::regclass", name
            )
        streams = (EVENTS - 20_000) // length
        connection.execute(
            f"INSERT INTO {schema}.streams (name, channel, version)"
            " SELECT 'a-' || number, 'a', CASE number WHEN 0 THEN 19999 ELSE %s END"
            " FROM generate_series(0, %s) AS streams (number)",
            [length - 1, streams],
        )
        connection.execute(
            f"""
            INSERT INTO {schema}.events (position, stream_id, version, recorded_at, id, type, data)
            SELECT
                number,
                CASE WHEN number <= 20000 THEN 1 ELSE 2 + (number - 20001) / %(length)s END,
                CASE WHEN number <= 20000 THEN number - 1 ELSE (number - 20001) %% %(length)s END,
                now(), lpad(to_hex(number), 32, '0')::uuid,
                CASE WHEN number %% 100 = 0 THEN 'Rare' ELSE 'Happened' END, '{{}}'
            FROM generate_series(1, {EVENTS}) AS events (number)
            """,
            {"length": length},
        )
        connection.execute(f"SELECT setval('{schema}.events_position', {EVENTS})")


class Plans(Explained):
    """Explains statements as the store sends them, with the given parameters."""

    def nodes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Iterate over the nodes of all plans, with the names of their statements."""
        for name, found in self.plans.items():
            for node in nodes(json.loads(found)[0]["Plan"]):
                yield name, node


@pytest.mark.parametrize("length", [1, 100])
def test_a_young_store_is_read_in_the_order_of_an_index(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, length: int
) -> None:
    fill(connection, schema, length=length)
    codec = sync_store._append_settings.codec
    explained = Plans(connection, schema)

    for backwards in (False, True):
        reading = log_reading(codec, None, LogReadOptions(backwards=backwards))
        count = 0
        while page := explained.run(reading.next_page()):
            count += len(page)
        assert count == EVENTS
        of_stream = stream_reading(codec, "a-0", StreamReadOptions(backwards=backwards))
        count = 0
        while page := explained.run(of_stream.next_page()):
            count += len(page)
        assert count == 20_000
    rare = log_reading(codec, Query(types="Rare"), LogReadOptions())
    assert len(explained.run(rare.next_page())) == 100

    names = {name for name, _ in explained.nodes()}
    assert {"streams.read_log", "streams.read_log.descending", "streams.read_stream"} <= names
    for name, node in explained.nodes():
        told = f"{name}: {explained.plans[name]}"
        # Sorting a page would be harmless; a plan that sorts reads all events up to the head.
        if node["Node Type"] == "Sort":
            assert node["Actual Rows"] <= (600 if "filtered" in name else 0), told
        if node["Node Type"] == "Seq Scan":
            assert node["Relation Name"] not in ("events", "streams"), told


def test_the_statements_of_the_log_are_bounded_by_a_row_comparison(
    connection: psycopg.Connection, schema: str
) -> None:
    """Both bounds as plain comparisons make the planner expect one event in 200."""
    explained = Plans(connection, schema)
    plain = "position > 0 AND position <= 50000"
    row = "position > 0 AND (position, 0) <= (50000, 0)"
    fill(connection, schema, length=1)
    expected = {
        text: explained._connection.execute(
            f"EXPLAIN (FORMAT JSON) SELECT * FROM {schema}.events WHERE {text}".encode()
        ).fetchall()[0][0][0]["Plan"]["Plan Rows"]
        for text in (plain, row)
    }
    assert expected[row] > 10 * expected[plain]
