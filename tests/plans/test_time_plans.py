"""Reads by time and loads with a million events read only the rows that they need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from indelible import NO_STREAM, Decider, EventStore, NewEvent, Snapshots
from indelible.aggregates.adapter import adapter_of
from indelible.aggregates.state_loader import StateLoader
from indelible.core.operation import Statement
from indelible.postgres.adapters import Cursors
from indelible.postgres.statements import statements
from indelible.streams.read_log import log_reading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import stream_reading
from indelible.streams.recorded_time import RecordedTimeRange, position_at
from indelible.streams.valid_time import ValidTimeRange

EVENTS = 1_000_000
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def moment(event: int) -> datetime:
    """When an event was recorded: one a second."""
    return BEGINNING + timedelta(seconds=event)


def fill(connection: psycopg.Connection, schema: str) -> None:
    """A million events in ten thousand streams; one in twenty has a valid time of its own, up to
    twelve days before or after."""
    with connection.transaction():
        connection.execute(
            f"INSERT INTO {schema}.streams (name, channel, version)"
            " SELECT 'a-' || number, 'a', 99 FROM generate_series(0, 9999) AS streams (number)"
        )
        connection.execute(
            f"""
            INSERT INTO {schema}.events
                (position, stream_id, version, recorded_at, id, type, data, valid_at)
            SELECT
                number, 1 + number %% 10000, (number - 1) / 10000,
                %(beginning)s + make_interval(secs => number),
                lpad(to_hex(number), 32, '0')::uuid, 'Happened', '{{}}',
                CASE WHEN number %% 20 = 0 THEN
                    %(beginning)s
                    + make_interval(secs => number + (number::bigint * 7919) %% 2000000 - 1e6)
                END
            FROM generate_series(1, {EVENTS}) AS events (number)
            """,
            {"beginning": BEGINNING},
        )
        connection.execute(f"SELECT setval('{schema}.events_position', {EVENTS})")
    connection.execute(f"VACUUM (ANALYZE) {schema}.events, {schema}.streams")


class Explained:
    """Runs plans, and notes of each statement how many events its plan looked at, and how many
    blocks the last call of it."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._statements = statements(schema)
        self.looked_at: dict[str, int] = {}
        self.blocks: dict[str, int] = {}
        self.plans: dict[str, str] = {}
        self.calls: dict[str, int] = {}

    def run(self, plan: Any) -> Any:
        try:
            call = next(plan)
            while True:
                call = plan.send(self.call(call))
        except StopIteration as stop:
            return stop.value

    def call(self, call: Statement) -> list[tuple[Any, ...]]:
        statement = self._statements[call.name]
        parameters = dict(call.parameters)
        cursor = Cursors(self._connection).of(call)
        ((found,),) = cursor.execute(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters
        ).fetchall()
        self.calls[call.name] = self.calls.get(call.name, 0) + 1
        looked_at = sum(rows_of(node) for node in nodes(found[0]["Plan"]))
        self.looked_at[call.name] = max(self.looked_at.get(call.name, 0), looked_at)
        plan = found[0]["Plan"]
        self.blocks[call.name] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        self.plans[call.name] = json.dumps(found, indent=1)
        return cursor.execute(statement, parameters).fetchall()


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def rows_of(node: dict[str, Any]) -> int:
    """How many events a node of a plan looked at."""
    if node.get("Relation Name") not in ("events", "archived_events"):
        return 0
    seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return int(seen * node["Actual Loops"])


def test_reads_by_time_and_loads_look_at_little_of_a_million_events(
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(connection, schema)
    assert sync_store.position_at(moment(700_000)) == 700_000  # reads the periods
    codec = sync_store._append_settings.codec
    explained = Explained(connection, schema)

    assert explained.run(position_at(moment(500_000))) == 500_000
    for backwards in (False, True):
        reading = log_reading(
            codec,
            None,
            LogReadOptions(
                backwards=backwards,
                limit=3_000,
                recorded_time=RecordedTimeRange(moment(900_000)),
                valid_time=ValidTimeRange(moment(500_000)),
            ),
        )
        keys = []
        while page := explained.run(reading.next_page()):
            keys += [(event.valid_at, event.position) for event in page]
        assert len(keys) == 3_000
        assert keys == sorted(keys, reverse=backwards)

    # A stream is sorted once for the first page, and once for all other pages.
    monkeypatch.setattr("indelible.streams.paging._FIRST_PAGE", 10)
    monkeypatch.setattr("indelible.streams.paging._LARGEST_PAGE", 10)
    of_stream = stream_reading(
        codec,
        "a-7",
        StreamReadOptions(valid_time=ValidTimeRange(moment(10_000_000))),
    )
    while explained.run(of_stream.next_page()):
        pass
    assert (
        explained.calls["streams.read_stream_by_valid_time"]
        == explained.calls["streams.valid_time_order"]
        == 1
    )
    assert explained.calls["streams.read_versions"] == 9
    assert explained.looked_at["streams.read_versions"] == 10

    sync_store.group("prices").create(start=500_000, deliver_when_valid=True)
    ((group_id,),) = connection.execute(
        f"UPDATE {schema}.group_slices SET token = 1 RETURNING group_id"
    ).fetchmany(1)
    any_log = {"epoch": None, "anchor": None, "anchor_id": None}
    of_group = {"group_id": group_id, "token": 1, "items": None, "partition_by": None, **any_log}
    # Fifty thousand events are due, since no worker ran for long.
    above = {"above_valid_at": moment(-2_000_000), "above_position": 0}
    ((_, next_due),) = explained.call(
        Statement("subscriptions.next_due", {**above, **any_log, "upto": EVENTS})
    )
    window = explained.call(Statement("consumer_groups.due_window", {**above, "count": 500}))
    until = {"until_valid_at": window[0][0], "until_position": window[0][1], "upto": EVENTS}
    rows = explained.call(Statement("consumer_groups.fetch_due", {**of_group, **above, **until}))
    assert len(rows) == 500
    assert rows[0][13] == next_due
    assert explained.looked_at["subscriptions.next_due"] < 10, explained.plans[
        "subscriptions.next_due"
    ]
    for statement in ("consumer_groups.due_window", "consumer_groups.fetch_due"):
        assert explained.looked_at[statement] <= 1_000, explained.plans[statement]

    assert max(explained.looked_at.values()) < 30_000, explained.plans
    ((taken,),) = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {schema}.position_at(%s, {EVENTS})",
        [moment(654_321)],
    ).fetchall()
    assert taken[0]["Plan"]["Shared Hit Blocks"] + taken[0]["Plan"]["Shared Read Blocks"] < 200

    def count(state: int, event: object) -> int:
        return state + 1

    counted = adapter_of(Decider(lambda command, state: [], count, int, Snapshots(every=1)))
    for statement, valid_at in (
        ("aggregates.load", None),
        ("aggregates.load_by_valid_time", moment(3 * EVENTS)),
    ):
        blocks = []
        for _ in range(2):  # the whole stream, and then nothing after its snapshot
            loading = StateLoader(codec, "a-5", counted, valid_at=valid_at)
            explained.run(loading.load())
            assert (loading.state, loading.version) == (100, 99)
            blocks.append(explained.blocks[statement])
            explained.run(loading.take_snapshot())
        assert blocks[1] < 30 < blocks[0] < 500


def test_a_session_that_is_as_old_as_the_store_loads_by_its_indexes(
    connection: psycopg.Connection, schema: str, sync_store: EventStore
) -> None:
    """Plans are made when the tables are small, and nobody analyses them while they grow."""
    connection.execute(f"ALTER TABLE {schema}.events SET (autovacuum_enabled = off)")
    codec, counted = (
        sync_store._append_settings.codec,
        adapter_of(Decider(lambda command, state: [], lambda state, event: state, int)),
    )
    explained = Explained(connection, schema)
    sync_store.append("a-5", NewEvent("Happened", {}), expected=NO_STREAM)
    moments = (None, datetime(2999, 1, 1, tzinfo=UTC))
    for number in range(20):
        if number == 10:
            connection.execute(
                f"INSERT INTO {schema}.streams (name, channel, version)"
                " SELECT 'b-' || number, 'b', 0 FROM generate_series(1, 20000) AS streams (number)"
            )
            connection.execute(
                f"""
                INSERT INTO {schema}.events
                    (position, stream_id, version, recorded_at, id, type, data)
                SELECT id, id, 0, now(), gen_random_uuid(), 'Happened', '{{}}'
                FROM {schema}.streams WHERE channel = 'b'
                """
            )
        for valid_at in moments:
            explained.run(StateLoader(codec, "a-5", counted, valid_at=valid_at).load())

    assert max(explained.blocks.values()) < 50, explained.blocks
