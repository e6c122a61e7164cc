"""What a page reads is bounded, however long the log is and however many streams there are."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from indelible import EventStore, Query
from indelible.admin.activity import NEWEST, busiest
from indelible.admin.event_types import count_types
from indelible.query import QueryItem
from indelible.streams.log_search import LogSearch, ValueFilter
from indelible.streams.read_options import LogReadOptions
from indelible.streams.stream_list import (
    NAMES_AT_ONCE,
    RECENT_POSITIONS,
    known_names,
    recent_streams,
    streams_page,
)

from .test_time_plans import Explained, nodes

EVENTS = 300_000
STREAMS = 100_000


def fill(connection: psycopg.Connection, schema: str) -> None:
    """Streams of three events in ten channels, of which the last is closed."""
    with connection.transaction():
        connection.execute(
            f"INSERT INTO {schema}.streams (name, channel, version, closed_at)"
            " SELECT 'a-' || lpad(number::text, 6, '0'), 'channel' || number %% 10, 2,"
            " CASE WHEN number = %(streams)s THEN now() END"
            " FROM generate_series(1, %(streams)s) AS streams (number)",
            {"streams": STREAMS},
        )
        connection.execute(
            f"""
            INSERT INTO {schema}.events (position, stream_id, version, recorded_at, id, type, data)
            SELECT
                number, 1 + (number - 1) / 3, (number - 1) %% 3, now(),
                lpad(to_hex(number), 32, '0')::uuid, 'Type' || number %% 7,
                jsonb_build_object('customer', number, 'text', repeat('x', 300))
            FROM generate_series(1, %(events)s) AS events (number)
            """,
            {"events": EVENTS},
        )
        connection.execute(f"SELECT setval('{schema}.events_position', {EVENTS})")


class Rows(Explained):
    """Counts the rows that a statement looked at in any table."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        super().__init__(connection, schema)
        self.read: dict[str, int] = {}

    def call(self, call: Any) -> list[tuple[Any, ...]]:
        found = super().call(call)
        plan = json.loads(self.plans[call.name])[0]["Plan"]
        for node in nodes(plan):
            assert node["Node Type"] != "Seq Scan" or node["Relation Name"] not in (
                "events",
                "streams",
            ), self.plans[call.name]
        self.read[call.name] = sum(
            int(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            )
            for node in nodes(plan)
            if "Relation Name" in node
        )
        return found


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["young", "analyzed"])
def test_pages_read_a_bounded_number_of_rows(
    is_analyzed: bool, sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    fill(connection, schema)
    if is_analyzed:
        connection.execute(f"VACUUM (ANALYZE) {schema}.events, {schema}.streams")
    explained = Rows(connection, schema)
    run = explained.run

    everything = [QueryItem()]
    middle = f"a-{STREAMS // 2:06}"
    for place in ({}, {"after": middle}, {"before": middle}):
        page = run(streams_page(everything, limit=51, **place))
        assert len(page.streams) == 51
        assert max(explained.read.values()) <= 51 * 3 + 2, explained.plans
    page = run(streams_page([QueryItem(stream_prefix="a-09999")], limit=51))
    assert len(page.streams) == 10
    assert max(explained.read.values()) <= 51 * 3 + 2, explained.plans
    assert "streams.list_reach" not in explained.read
    for parts in ([QueryItem(channel="channel3")], [QueryItem(stream_prefix="a-0")] * 3):
        page = run(streams_page(parts, limit=51, state="closed"))
        assert not page.streams
        assert page.is_cut
        assert max(explained.read.values()) <= NAMES_AT_ONCE + 51 * 3 + 6, explained.plans

    explained.read.clear()
    assert len(run(recent_streams(None))) == 25
    assert max(explained.read.values()) <= 2 * 500 + 25 * 3, explained.plans
    assert not run(recent_streams(Query(channel="none")))
    assert max(explained.read.values()) <= 2 * RECENT_POSITIONS, explained.plans
    run(known_names(EVENTS))
    assert explained.read["streams.known_names"] <= 5_000, explained.plans

    codec = sync_store._append_settings.codec
    for backwards in (True, False):
        search = LogSearch(
            codec,
            Query(types="Type3"),
            LogReadOptions(backwards=backwards, limit=51),
            ValueFilter.parse("customer", "-1"),
        )
        run(search.start())
        for _ in range(4):
            assert not run(search.next_window())
        assert max(explained.looked_at.values()) <= 200_000, explained.plans
    search = LogSearch(
        codec, Query(), LogReadOptions(backwards=True, limit=51), ValueFilter.parse("text", "y")
    )
    run(search.start())
    run(search.next_window())
    low, high = search.looked_at
    assert (low, high) == (0, EVENTS - 20_000)

    counts = run(count_types(None))
    while counts.upto < EVENTS:
        counts = run(count_types(None))
    assert len(counts.types) == 7
    assert sum(found.events for found in counts.types) == EVENTS
    narrow = run(count_types(Query(stream_prefix="a-09")))
    assert narrow.upto - narrow.after == 20_000

    explained.read.clear()
    found = run(busiest(EVENTS))
    assert (len(found.streams), len(found.types)) == (8, 7)
    assert explained.read["admin.busiest"] <= 2 * NEWEST + NEWEST // 3, explained.plans
