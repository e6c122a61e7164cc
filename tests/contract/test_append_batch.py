"""The function append_batch: appends sent together have the outcomes that they have one by one."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import tuple_row

IDS = [str(UUID(int=number)) for number in range(1, 8)]

EVENTS = st.lists(st.sampled_from([*IDS, None, None, None]), min_size=1, max_size=3, unique_by=str)
APPENDS = st.fixed_dictionaries(
    {
        "stream": st.sampled_from(["a-1", "a-1", "b"]),
        "channel": st.sampled_from([None, None, None, None, "a", "b"]),
        "expected": st.sampled_from([-4, -2, -2, -1, 0, 1, 2]),
        "ids": EVENTS,
    }
)


def an_append(expected: int, *, stream: str = "a-1", event_id: str | None = None) -> dict[str, Any]:
    return {"stream": stream, "channel": None, "expected": expected, "ids": [event_id]}


def crosses_streams(batch: list[dict[str, Any]]) -> bool:
    """Whether an id stands in appends to several streams, which of them comes first is open."""
    streams: dict[str, set[str]] = {}
    for append in batch:
        for event_id in filter(None, append["ids"]):
            streams.setdefault(event_id, set()).add(append["stream"])
    return any(len(found) > 1 for found in streams.values())


def as_sent(append: dict[str, Any]) -> dict[str, Any]:
    return {
        "stream": append["stream"],
        "channel": append["channel"],
        "expected": append["expected"],
        "events": [
            {"id": event_id or str(uuid4()), "type": "Happened", "data": {"n": 1}, "tags": ["k:1"]}
            for event_id in append["ids"]
        ],
    }


def one_by_one(
    connection: psycopg.Connection, schema: str, appends: list[dict[str, Any]]
) -> list[tuple[Any, ...]]:
    return [
        row
        for append in appends
        for row in connection.execute(
            f"SELECT outcome, last_version, facts FROM {schema}.append(%s, %s, %s, %s)",
            [append["stream"], append["channel"], append["expected"], json.dumps(append["events"])],
        )
    ]


def at_once(
    connection: psycopg.Connection, schema: str, appends: list[dict[str, Any]]
) -> list[tuple[Any, ...]]:
    """As the client does: what is busy, or a batch that fails, is sent one by one."""
    cursor = connection.cursor(row_factory=tuple_row)
    try:
        with connection.transaction():
            cursor.execute(
                "SELECT outcome, last_version, facts, place"
                f" FROM {schema}.append_batch(%s) ORDER BY place",
                [json.dumps(appends)],
            )
    except psycopg.errors.UniqueViolation:
        return one_by_one(connection, schema, appends)
    rows = cursor.fetchall()
    assert [row[3] for row in rows] == [*range(1, len(appends) + 1)]
    return [
        one_by_one(connection, schema, [append])[0] if row[0] == "busy" else row[:3]
        for row, append in zip(rows, appends, strict=True)
    ]


def stored(connection: psycopg.Connection, schema: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT stream, version, id, type, data, tags, channel"
        f" FROM {schema}.recorded_events ORDER BY stream, version"
    ).fetchall()


def without_times(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        (
            outcome,
            version,
            {key: value for key, value in facts.items() if key != "recorded_at"}
            if isinstance(facts, dict)
            else facts,
        )
        for outcome, version, facts in rows
    ]


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batches=st.lists(
        st.lists(APPENDS, min_size=1, max_size=6).filter(lambda batch: not crosses_streams(batch)),
        min_size=1,
        max_size=3,
    )
)
@example([[an_append(-4), an_append(-2)]])
@example([[an_append(-4, event_id=IDS[0]), an_append(-2, event_id=IDS[0])]])
@example([[an_append(-2), an_append(1), an_append(-2)]])
@example([[an_append(-2), an_append(1), an_append(-2), an_append(2)]])
@example([[an_append(-2, event_id=IDS[0])], [an_append(-2, event_id=IDS[0]), an_append(0)]])
def test_a_batch_has_the_outcomes_of_its_appends_one_by_one(
    connection: psycopg.Connection, schema: str, batches: list[list[dict[str, Any]]]
) -> None:
    sent = [[as_sent(append) for append in batch] for batch in batches]
    found = []
    for way in (one_by_one, at_once):
        with connection.transaction(force_rollback=True):
            outcomes = []
            for batch in sent:
                with connection.transaction():
                    outcomes.append(without_times(way(connection, schema, batch)))
            found.append((outcomes, stored(connection, schema)))
    expected, actual = found
    assert actual[1] == expected[1]
    assert actual[0] == expected[0]


def outcomes(
    connection: psycopg.Connection, schema: str, *appends: dict[str, Any]
) -> dict[int, str]:
    return dict(
        connection.execute(
            f"SELECT place, outcome FROM {schema}.append_batch(%s)",
            [json.dumps([as_sent(append) for append in appends])],
        ).fetchall()
    )


def test_a_stream_that_others_hold_is_passed_over(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    outcomes(connection, schema, an_append(-2))
    with psycopg.connect(url) as other:
        outcomes(other, schema, an_append(-2))
        found = outcomes(connection, schema, an_append(-2), an_append(-2, stream="b"), an_append(0))
    assert found == {1: "busy", 2: "appended", 3: "busy"}


def test_a_closed_stream_takes_nothing_and_its_neighbours_do(
    connection: psycopg.Connection, schema: str
) -> None:
    outcomes(connection, schema, an_append(-2))
    connection.execute(f"SELECT {schema}.close_stream('a-1', -2, NULL)")
    found = outcomes(connection, schema, an_append(-2), an_append(0), an_append(-2, stream="b"))
    assert found == {1: "closed", 2: "closed", 3: "appended"}


def test_a_stream_that_others_are_making_is_not_waited_for_long(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    with psycopg.connect(url) as other:
        outcomes(other, schema, an_append(-2))
        connection.execute("SET statement_timeout = '5s'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            outcomes(connection, schema, an_append(-2), an_append(-2, stream="b"))


def test_an_event_that_is_there_already_fails_no_neighbour_and_takes_no_position(
    connection: psycopg.Connection, schema: str
) -> None:
    outcomes(connection, schema, an_append(-2, event_id=IDS[0]))
    found = outcomes(
        connection,
        schema,
        an_append(-2, event_id=IDS[0]),
        an_append(-2, stream="b"),
        an_append(-2, stream="c", event_id=IDS[0]),
    )
    assert found == {1: "idempotent", 2: "appended", 3: "duplicate"}
    last = connection.execute(f"SELECT last_value FROM {schema}.events_position").fetchone()
    assert last == (2,)


def test_a_batch_that_has_not_committed_holds_the_head_back(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    with psycopg.connect(url) as other:
        outcomes(other, schema, an_append(-2), an_append(-2, stream="b"))
        outcomes(connection, schema, an_append(-2, stream="c"))
        assert connection.execute(f"SELECT {schema}.head()").fetchone() == (0,)
    assert connection.execute(f"SELECT {schema}.head()").fetchone() == (3,)


def test_a_batch_is_in_the_log_in_the_order_of_its_list(
    connection: psycopg.Connection, schema: str
) -> None:
    appends = [
        as_sent({"stream": f"s-{number * 7 % 40}", "channel": None, "expected": -2, "ids": "xy"})
        for number in range(40)
    ]
    for append in appends:
        for event in append["events"]:
            event["id"] = str(uuid4())
    rows = connection.execute(
        f"SELECT last_position FROM {schema}.append_batch(%s) ORDER BY place", [json.dumps(appends)]
    ).fetchall()
    ids = [event["id"] for append in appends for event in append["events"]]
    log = connection.execute(
        f"SELECT id::text, position FROM {schema}.recorded_events ORDER BY position"
    ).fetchall()
    assert [found for found, _ in log] == ids
    assert [position for (position,) in rows] == [position for _, position in log][1::2]


@pytest.mark.parametrize(("expected", "events"), [(-3, [{}]), (None, [{}]), (-2, [])])
def test_what_is_no_append_is_refused(
    connection: psycopg.Connection, schema: str, expected: int | None, events: list[Any]
) -> None:
    entry = {"stream": "a-1", "channel": None, "expected": expected, "events": events}
    with pytest.raises(psycopg.DatabaseError) as refusal:
        connection.execute(f"SELECT * FROM {schema}.append_batch(%s)", [json.dumps([entry])])
    assert refusal.value.sqlstate == "IND04"
    assert stored(connection, schema) == []
