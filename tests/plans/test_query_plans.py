"""The predicate of queries is one function, which the planner inlines into each statement."""

from __future__ import annotations

import re

import psycopg
import pytest

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
