"""The predicate of queries is one function, which the planner inlines into each statement."""

from __future__ import annotations

import re

import psycopg
import pytest

from indelible import NO_STREAM, EventStore, NewEvent
from indelible.postgres.statements import statements

ASKING = [name for name, text in statements("x").items() if "matching_items(" in text]


def test_the_statements_that_filter_by_a_query_ask_the_function() -> None:
    assert len(ASKING) >= 7


@pytest.mark.parametrize("name", ASKING)
def test_the_predicate_of_a_query_is_inlined(
    connection: psycopg.Connection, schema: str, name: str
) -> None:
    """Otherwise it would be called for each event, and begin a query of its own each time."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statements(schema)[name])))
    text = re.sub(
        r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statements(schema)[name]
    ).replace("%%", "%")
    connection.prepare_threshold = None
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.execute(f"PREPARE asking AS {text}".encode())
    nothing = ", ".join("NULL" for _ in names)
    plan = connection.execute(f"EXPLAIN (VERBOSE) EXECUTE asking ({nothing})").fetchall()

    told = "\n".join(line for (line,) in plan)
    assert "jsonb_to_recordset" in told
    assert "matching_items" not in told


def test_a_page_of_a_group_is_read_row_by_row_up_to_its_limit(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """It neither sorts the window nor reads all streams, also while there are no statistics."""
    with sync_store.transaction() as transaction:
        for number in range(300):
            transaction.append(f"a-{number}", NewEvent("Happened", {}), expected=NO_STREAM)
    sync_store.group("mails").create()
    with sync_store.transaction() as transaction:  # another session, whose scans do not count
        transaction.connection.execute(f"UPDATE {schema}.group_slices SET token = 1")
    fetched = dict.fromkeys(("partition_by", "items", "epoch", "anchor", "anchor_id"))
    with connection.transaction():
        rows = connection.execute(
            statements(schema)["consumer_groups.fetch"],
            {**fetched, "group_id": 1, "token": 1, "after": 0, "upto": 300, "limit": 20},
        ).fetchall()
        assert [row[0] for row in rows] == list(range(1, 21))
        scans = connection.execute(
            "SELECT relname, seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE schemaname = %s AND relname IN ('events', 'streams', 'group_slices')",
            [schema],
        ).fetchall()
    assert len(scans) == 3
    for name, count, read in scans:
        assert count == 0, name
        assert read <= 25, name
