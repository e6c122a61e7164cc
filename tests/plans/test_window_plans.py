"""Windows of a long log are looked up by index, before and after the planner has statistics."""

from __future__ import annotations

import psycopg
import pytest

from indelible import EventStore, Query
from indelible.streams.query_parameters import items_json

WINDOWS = 2_000


def fill(connection: psycopg.Connection, schema: str) -> None:
    """The windows of twenty million events with fifty types in five channels."""
    with connection.transaction():
        connection.execute(
            f"INSERT INTO {schema}.log_windows (position, events, earliest, latest)"
            f" SELECT 10000 * n, 10000, now(), now() FROM generate_series(1, {WINDOWS}) AS n"
        )
        connection.execute(
            f"""
            INSERT INTO {schema}.log_window_contents
                (type, position, channel, events, first_position, last_position)
            SELECT 'Type' || kind, 10000 * number, 'channel' || kind % 5, 200,
                10000 * (number - 1) + 1, 10000 * number
            FROM generate_series(1, {WINDOWS}) AS windows (number),
                generate_series(1, 50) AS kinds (kind)
            """
        )


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["young", "analyzed"])
def test_a_lookup_reads_the_rows_of_its_types_or_channel(
    is_analyzed: bool, sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    fill(connection, schema)
    if is_analyzed:
        connection.execute(f"ANALYZE {schema}.log_windows, {schema}.log_window_contents")

    for query, expected in (
        (Query(types="Absent"), 0),
        (Query(channel="absent"), 0),
        (Query(types="Absent") | Query(types=["Missing"], channel="channel1"), 0),
        (Query(types="Type7"), 1_000),
    ):
        with connection.transaction():
            row = connection.execute(
                f"SELECT * FROM {schema}.matching_windows(%s, 5000000, 15000000)",
                [items_json(query)],
            ).fetchone()
            assert row is not None
            written, positions = row
            assert (written, len(positions)) == (10_000 * WINDOWS, expected)
            read = connection.execute(
                "SELECT seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables"
                " WHERE relid = %s::regclass",
                [f"{schema}.log_window_contents"],
            ).fetchone()
            assert read is not None
            assert read[0] == 0, query
            assert read[1] <= expected + 1, query
