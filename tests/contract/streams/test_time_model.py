"""Compare reads by recorded and valid time with a model in plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import EventStore, Query

BEGINNING = datetime(2026, 3, 2, 12, tzinfo=UTC)
STREAMS = 3

ticks = st.integers(0, 6)
"""Moments a microsecond apart, so few that many are the same."""


def moment(tick: int) -> datetime:
    return BEGINNING + timedelta(microseconds=tick)


@dataclass(frozen=True)
class Fact:
    stream: int
    recorded: int
    valid: int | None
    gap: int
    """How many positions are left out before it."""

    @property
    def key(self) -> int:
        return self.recorded if self.valid is None else self.valid


facts = st.lists(
    st.builds(
        Fact,
        st.integers(0, STREAMS - 1),
        ticks,
        st.none() | ticks,
        st.sampled_from([0, 0, 0, 400, 1300]),
    ),
    min_size=1,
    max_size=25,
)
bounds = st.tuples(ticks, ticks).map(lambda pair: (min(pair), max(pair)))


def store_facts(connection: psycopg.Connection, schema: str, given: list[Fact]) -> list[int]:
    """Store facts at positions that go on from the last one; return these."""
    (last,) = connection.execute(  # type: ignore[misc]
        f"SELECT last_value FROM {schema}.events_position"
    ).fetchone()
    positions = list(accumulate((1 + fact.gap for fact in given), initial=last))[1:]
    streams = [fact.stream for fact in given]
    versions = [streams[:place].count(stream) for place, stream in enumerate(streams)]
    for stream in set(streams):
        connection.execute(
            f"INSERT INTO {schema}.streams (id, name, channel, version) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, 'a', %s)",
            [stream, f"a-{stream}", streams.count(stream) - 1],
        )
    connection.execute(
        f"""
        INSERT INTO {schema}.events
            (position, stream_id, version, recorded_at, id, type, data, valid_at)
        SELECT position, stream, version, recorded_at, gen_random_uuid(), 'Happened', '1', valid_at
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[],
            %s::timestamptz[]) AS given (position, stream, version, recorded_at, valid_at)
        """,
        [
            positions,
            streams,
            versions,
            [moment(fact.recorded) for fact in given],
            [None if fact.valid is None else moment(fact.valid) for fact in given],
        ],
    )
    connection.execute(f"SELECT setval('{schema}.events_position', %s)", [positions[-1]])
    return positions


def test_reads_by_time_agree_with_a_plain_model(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    store = sync_store.bind(connection)

    @settings(
        max_examples=80,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(facts, ticks, ticks, bounds, bounds, st.booleans(), st.integers(0, 4))
    def agree(
        given: list[Fact],
        known: int,
        holds: int,
        recorded: tuple[int, int],
        valid: tuple[int, int],
        backwards: bool,
        limit: int,
    ) -> None:
        with connection.transaction(force_rollback=True):
            positions = store_facts(connection, schema, given)
            # The clock of the log: if the clock is put back, recorded times stay at the latest one.
            clock = list(accumulate((fact.recorded for fact in given), max))
            rows = list(zip(given, positions, clock, strict=True))

            def in_order_of_valid_time(chosen: list[tuple[Fact, int, int]]) -> list[int]:
                found = [position for _, position in sorted((f.key, p) for f, p, _ in chosen)]
                return found[::-1] if backwards else found

            later = [position for _, position, time in rows if time > known]
            assert store.position_at(moment(known)) == (later[0] - 1 if later else positions[-1])

            as_of = [row for row in rows if row[2] <= known]
            between = [row for row in rows if recorded[0] <= row[2] < recorded[1]]
            for times, chosen in (({"as_of": moment(known)}, as_of), (
                {"recorded_between": (moment(recorded[0]), moment(recorded[1]))}, between
            )):  # fmt: skip
                found = [position for _, position, _ in chosen]
                assert [e.position for e in store.read_all(**times)] == found  # type: ignore[arg-type]
                for ranged, holding in (
                    ({"valid_at": moment(holds)}, [r for r in chosen if r[0].key <= holds]),
                    (
                        {"valid_between": (moment(valid[0]), moment(valid[1]))},
                        [r for r in chosen if valid[0] <= r[0].key < valid[1]],
                    ),
                ):
                    options = {**times, **ranged, "backwards": backwards}
                    expected = in_order_of_valid_time(holding)
                    events = list(store.read_all(**options))  # type: ignore[arg-type]
                    assert [event.position for event in events] == expected
                    assert (
                        [event.position for event in store.read_all(**options, limit=limit)]
                        == (  # type: ignore[arg-type]
                            expected[:limit]
                        )
                    )
                    of_two = Query(stream_prefix="a-0") | Query(stream_prefix="a-2")
                    assert [event.position for event in store.read_all(of_two, **options)] == (  # type: ignore[arg-type]
                        [event.position for event in events if event.stream != "a-1"]
                    )
                    for stream in range(STREAMS):
                        assert [e.position for e in store.read(f"a-{stream}", **options)] == (  # type: ignore[arg-type]
                            in_order_of_valid_time([r for r in holding if r[0].stream == stream])
                        )

    agree()
