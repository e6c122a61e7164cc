"""The function append_batch: appends in a batch have the same outcomes as one by one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import tuple_row

from tests.support.waiting import wait_until

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


def alone(connection: psycopg.Connection, schema: str, append: dict[str, Any]) -> tuple[Any, ...]:
    if "conditions" in append:
        statement = "append_conditional(%s, %s)"
        values = [json.dumps([append]), json.dumps(append["conditions"])]
    else:
        statement = "append(%s, %s, %s, %s)"
        values = [
            *(append[name] for name in ("stream", "channel", "expected")),
            json.dumps(append["events"]),
        ]
    (row,) = connection.execute(
        f"SELECT outcome, last_version, details FROM {schema}.{statement}", values
    )
    return row


def one_by_one(
    connection: psycopg.Connection, schema: str, appends: list[dict[str, Any]]
) -> list[tuple[Any, ...]]:
    return [alone(connection, schema, append) for append in appends]


def at_once(
    connection: psycopg.Connection, schema: str, appends: list[dict[str, Any]]
) -> list[tuple[Any, ...]]:
    """As the client does: what is contended, or a batch that fails, is sent one by one."""
    cursor = connection.cursor(row_factory=tuple_row)
    try:
        with connection.transaction():
            cursor.execute(
                "SELECT outcome, last_version, details, ordinal"
                f" FROM {schema}.append_batch(%s) ORDER BY ordinal",
                [json.dumps(appends)],
            )
    except psycopg.errors.UniqueViolation:
        return one_by_one(connection, schema, appends)
    rows = cursor.fetchall()
    assert [row[3] for row in rows] == [*range(1, len(appends) + 1)]
    return [
        one_by_one(connection, schema, [append])[0] if row[0] == "contended" else row[:3]
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


TAG = st.sampled_from(["k:1", "k:2", "k:3"])
ITEMS = st.fixed_dictionaries(
    {
        "tags": st.sets(TAG, min_size=1, max_size=2).map(sorted),
        "types": st.sampled_from([None, None, ["Happened"], ["Other"]]),
    }
)
CONDITIONS = st.fixed_dictionaries(
    {
        "items": st.lists(ITEMS, min_size=1, max_size=2),
        "after": st.integers(0, 4),
        "seen": st.lists(st.integers(1, 6), max_size=2),
    }
)
DECISIONS = st.fixed_dictionaries(
    {
        "stream": st.sampled_from(["a-1", "b", "c", "d", "e"]),
        "id": st.sampled_from([*IDS, *[None] * 20]),
        "tags": st.sets(TAG, max_size=2).map(sorted),
        "conditions": st.none() | st.lists(CONDITIONS, min_size=1, max_size=2),
    }
)


def a_decision(
    stream: str, *tags: str, by: str | None = None, after: int = 0, event_id: str | None = None
) -> dict[str, Any]:
    items = [{"tags": [by], "types": None}]
    conditions = None if by is None else [{"items": items, "after": after, "seen": []}]
    return {"stream": stream, "id": event_id, "tags": list(tags), "conditions": conditions}


def has_each_id_once(batch: list[dict[str, Any]]) -> bool:
    ids = [decision["id"] for decision in batch if decision["id"]]
    return len(ids) == len(set(ids))


def as_decision(decision: dict[str, Any]) -> dict[str, Any]:
    event = {"id": decision["id"] or str(uuid4()), "type": "Happened", "data": {"n": 1}}
    sent = {
        "stream": decision["stream"],
        "channel": None,
        "expected": -2,
        "events": [event | {"tags": decision["tags"]}],
    }
    return sent if decision["conditions"] is None else sent | {"conditions": decision["conditions"]}


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batches=st.lists(
        st.lists(DECISIONS, min_size=1, max_size=6).filter(has_each_id_once),
        min_size=1,
        max_size=3,
    )
)
@example([[a_decision("a-1", "k:1", by="k:1"), a_decision("b", "k:1", by="k:1")]])
# The log has the order of the list, although streams are processed in another order.
@example([[a_decision("b", "k:1"), a_decision("a-1", "k:2", by="k:1")]])
@example([[a_decision("a-1", "k:1"), a_decision("b", "k:2", by="k:1")]])
@example([[a_decision("b", "k:2", by="k:1"), a_decision("a-1", "k:1")]])
@example([[a_decision("a-1", "k:1", by="k:1", event_id=IDS[0])]] * 2)
@example([[a_decision("a-1", "k:1")], [a_decision("a-1", "k:1", by="k:1"), a_decision("a-1")]])
def test_decisions_in_a_batch_have_the_outcomes_that_they_have_one_by_one(
    connection: psycopg.Connection, schema: str, batches: list[list[dict[str, Any]]]
) -> None:
    sent = [[as_decision(decision) for decision in batch] for batch in batches]
    from_the_start = f"ALTER SEQUENCE {schema}.events_position RESTART"
    with connection.transaction(force_rollback=True):
        connection.execute(from_the_start)
        actual, orders = [], []
        for batch in sent:
            hold_after_what_was_handed_out(connection, schema, batch)
            rows = connection.execute(
                f"SELECT ordinal, outcome, last_version, details FROM {schema}.append_batch(%s)",
                [json.dumps(batch)],
            ).fetchall()
            assert sorted(row[0] for row in rows) == [*range(1, len(batch) + 1)]
            decided = {place: row for place, *row in rows if row[0] != "contended"}
            contended = [place for place in range(1, len(batch) + 1) if place not in decided]
            for place in contended:
                decided[place] = list(alone(connection, schema, batch[place - 1]))
            orders.append([*sorted(set(decided) - set(contended)), *contended])
            actual.append(without_times([tuple(decided[place]) for place in orders[-1]]))
        left = log(connection, schema)
    with connection.transaction(force_rollback=True):
        connection.execute(from_the_start)
        expected = [
            without_times(one_by_one(connection, schema, [batch[place - 1] for place in order]))
            for batch, order in zip(sent, orders, strict=True)
        ]
        assert actual == expected
        assert left == log(connection, schema)


def hold_after_what_was_handed_out(
    connection: psycopg.Connection, schema: str, batch: list[dict[str, Any]]
) -> None:
    row = connection.execute(f"SELECT last_value FROM {schema}.events_position").fetchone()
    assert row is not None
    for decision in batch:
        for condition in decision.get("conditions", ()):
            condition["after"] = min(condition["after"], row[0])


def log(connection: psycopg.Connection, schema: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"SELECT stream, version, id, tags FROM {schema}.recorded_events ORDER BY position"
    ).fetchall()


def test_a_decision_on_a_tag_that_others_hold_is_passed_over(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    def decide(other: psycopg.Connection, *decisions: dict[str, Any]) -> dict[int, str]:
        sent = json.dumps([as_decision(decision) for decision in decisions])
        return dict(
            other.execute(f"SELECT ordinal, outcome FROM {schema}.append_batch(%s)", [sent])
        )

    by_one, by_two = a_decision("a-1", by="k:1"), a_decision("b", by="k:2")
    carries = a_decision("c", "k:1")
    with psycopg.connect(url) as other:
        decide(other, carries)
        assert decide(connection, by_one, by_two) == {1: "contended", 2: "appended"}
    with psycopg.connect(url) as other:
        decide(other, a_decision("d", by="k:1"))
        assert decide(connection, a_decision("e", "k:1"), by_two | {"stream": "f"}) == {
            1: "contended",
            2: "appended",
        }


def test_a_decision_in_a_batch_needs_a_snapshot_that_is_new(
    connection: psycopg.Connection, schema: str
) -> None:
    connection.execute("SET default_transaction_isolation = 'repeatable read'")
    sent = json.dumps([as_decision(a_decision("a-1", by="k:1"))])
    with pytest.raises(psycopg.DatabaseError) as refusal:
        connection.execute(f"SELECT * FROM {schema}.append_batch(%s)", [sent])
    assert refusal.value.sqlstate == "IND02"


def test_of_a_batch_with_very_many_tags_the_last_go_alone(
    connection: psycopg.Connection, schema: str
) -> None:
    """The lock table of the server is finite: all in all a batch locks 256 tags by default."""
    row = connection.execute("SELECT 4 * current_setting('max_locks_per_transaction')::int")
    most = row.fetchone()[0]  # type: ignore[index]
    sent = json.dumps(
        [as_decision(a_decision(f"s-{number}", f"k:{number}")) for number in range(most + 1)]
    )
    found = dict(
        connection.execute(f"SELECT ordinal, outcome FROM {schema}.append_batch(%s)", [sent])
    )
    assert [place for place, outcome in found.items() if outcome == "contended"] == [most + 1]


def outcomes(
    connection: psycopg.Connection, schema: str, *appends: dict[str, Any]
) -> dict[int, str]:
    return dict(
        connection.execute(
            f"SELECT ordinal, outcome FROM {schema}.append_batch(%s)",
            [json.dumps([as_sent(append) for append in appends])],
        ).fetchall()
    )


def one_and_two(connection: psycopg.Connection, schema: str) -> list[tuple[Any, ...]]:
    """Append one event to a stream and two to another: as many events as they would be of two."""
    two = {"stream": "b", "channel": None, "expected": -1, "ids": [None, None]}
    return connection.execute(
        f"SELECT ordinal, outcome, last_version FROM {schema}.append_batch(%s)",
        [json.dumps([as_sent(an_append(-2)), as_sent(two)])],
    ).fetchall()


def test_a_stream_that_others_hold_is_passed_over(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    outcomes(connection, schema, an_append(-2))
    with psycopg.connect(url) as other:
        outcomes(other, schema, an_append(-2))
        found = outcomes(connection, schema, an_append(-2), an_append(-2, stream="b"), an_append(0))
    assert found == {1: "contended", 2: "appended", 3: "contended"}


def test_where_all_fit_those_that_others_hold_are_passed_over_too(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    outcomes(connection, schema, an_append(-2))
    with psycopg.connect(url) as other:
        outcomes(other, schema, an_append(-2))
        rows = one_and_two(connection, schema)
    assert rows == [(1, "contended", None), (2, "appended", 1)]


def test_a_stream_that_others_made_meanwhile_is_left(
    connection: psycopg.Connection, schema: str, url: str
) -> None:
    connection.execute(f"ALTER FUNCTION {schema}.append_batch SET lock_timeout = '20s'")
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as threads:
        outcomes(other, schema, an_append(-2))
        rows = threads.submit(one_and_two, connection, schema)
        wait_until(
            lambda: other.execute(
                "SELECT true FROM pg_locks WHERE pid = %s AND NOT granted",
                [connection.info.backend_pid],
            ).fetchone()
        )
        other.commit()
        assert rows.result(30) == [(1, "contended", None), (2, "appended", 1)]


def test_a_stream_of_another_channel_takes_nothing_and_its_neighbours_do(
    connection: psycopg.Connection, schema: str
) -> None:
    outcomes(connection, schema, an_append(-2))
    other = an_append(-2) | {"channel": "other"}
    found = outcomes(connection, schema, other, an_append(-2, stream="b"))
    assert found == {1: "channel_mismatch", 2: "appended"}


def test_a_closed_stream_takes_nothing_and_its_neighbours_do(
    connection: psycopg.Connection, schema: str
) -> None:
    outcomes(connection, schema, an_append(-2))
    connection.execute(f"SELECT {schema}.close_stream('a-1', -2, NULL)")
    found = outcomes(connection, schema, an_append(-2), an_append(0), an_append(-2, stream="b"))
    assert found == {1: "closed", 2: "closed", 3: "appended"}
    found = outcomes(connection, schema, an_append(0), an_append(0, stream="b"))
    assert found == {1: "closed", 2: "appended"}


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
        f"SELECT last_position FROM {schema}.append_batch(%s) ORDER BY ordinal",
        [json.dumps(appends)],
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
