"""Windows of the log: filtered reads skip those without a match, and find all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import ANY, EventStore, NewEvent, Query, StreamAppend, Upcaster
from indelible.core.operation import Operation, Statement
from indelible.postgres.adapters import Cursors
from indelible.postgres.statements import statements
from indelible.serialization.codec import Codec
from indelible.streams.head import HeadState
from indelible.streams.log_windows import WINDOW, write_all_log_windows
from indelible.streams.read_log import LogReading
from indelible.streams.read_options import LogReadOptions
from indelible.streams.recorded_time import RecordedTimeRange

UPCASTERS = [Upcaster("Old", into="New"), Upcaster("Older", into="Old")]
TYPES = ["Rare", "Common", "New", "Old", "Older"]
QUERIES = [
    Query(types="Rare"),
    Query(types="Absent"),
    Query(types=["Rare", "New"]),
    Query(types="New"),
    Query(channel="b"),
    Query(types="Common", channel="c"),
    Query(types="Rare", tags="t:1"),
    Query(types="Rare", tags="t:1") | Query(channel="b", stream_prefix="b-1"),
    Query(types="Rare") | Query(types="New", channel="c"),
    Query(types="Common", stream="a-1"),
    Query(types="Rare") | Query(stream="a-1"),
]


def event(event_type: str = "Common", *tags: str) -> NewEvent:
    return NewEvent(event_type, {}, tags=tags)


def positions(events: Any) -> list[int]:
    return [event.position for event in events]


def leave_out(connection: psycopg.Connection, schema: str, count: int) -> None:
    """Take positions for no event, as transactions do that are rolled back."""
    connection.execute(
        f"SELECT setval('{schema}.events_position', last_value + %s) FROM {schema}.events_position",
        [count],
    )


def written(connection: psycopg.Connection, schema: str) -> int:
    (found,) = connection.execute(  # type: ignore[misc]
        f"SELECT coalesce(max(position), 0) FROM {schema}.log_windows"
    ).fetchone()
    return int(found)


def write_windows(connection: psycopg.Connection, schema: str) -> None:
    connection.execute(f"SELECT {schema}.write_log_windows(1000000000)")


class Counting:
    """Runs operations on a connection, and counts their statements."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._statements = statements(schema)
        self.calls: Counter[str] = Counter()

    def __call__(self, operation: Operation[Any]) -> Any:
        try:
            call = next(operation)
            while True:
                call = operation.send(self._execute(call))
        except StopIteration as stop:
            return stop.value

    def _execute(self, call: Statement) -> list[tuple[Any, ...]]:
        self.calls[call.name.removeprefix("streams.").removesuffix(".descending")] += 1
        cursor = Cursors(self._connection).of(call)
        return cursor.execute(self._statements[call.name], dict(call.parameters)).fetchall()

    def read(self, reading: LogReading) -> list[int]:
        self.calls.clear()
        found: list[int] = []
        while page := self(reading.next_page()):
            found += positions(page)
        return found


@pytest.fixture
def counting(connection: psycopg.Connection, schema: str) -> Counting:
    return Counting(connection, schema)


def reading(query: Query, *, as_of: int | None = None, **options: Any) -> LogReading:
    recorded_time = RecordedTimeRange(as_of)
    return LogReading(Codec(), query, LogReadOptions(recorded_time=recorded_time, **options))


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.sampled_from(["a-1", "a-2", "b-1", "b-2", "c-1"]),
            st.sampled_from(TYPES),
            st.sampled_from([(), ("t:1",)]),
            st.integers(1, 4),
        ),
        st.tuples(st.just("gap"), st.sampled_from([1, 4_000, 9_998, WINDOW, 25_000, 70_000])),
        st.tuples(st.just("archive"), st.sampled_from(["a-1", "b-1"])),
        st.tuples(st.just("erase"), st.sampled_from(["a-2", "b-2"])),
        st.tuples(st.just("write"), st.sampled_from([WINDOW, 3 * WINDOW, 100 * WINDOW])),
    ),
    min_size=1,
    max_size=20,
)


def test_filtered_reads_find_the_same_with_and_without_windows(
    url: str, schema: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of any shape; `Query.matches` says what to find among all its events."""
    monkeypatch.setattr("indelible.streams.log_windows._READ_AT_ONCE", 3 * WINDOW)
    monkeypatch.setattr("indelible.streams.log_windows._LOOKED_UP_AT_ONCE", 5 * WINDOW)

    def put(stream: str, event_type: str, tags: list[str] | None) -> None:
        """Append without the lock that holds the head until the end of the transaction."""
        connection.execute(
            f"""
            WITH written AS (
                INSERT INTO {schema}.streams (name, channel, version)
                VALUES (%(stream)s::text, left(%(stream)s::text, 1), 0)
                ON CONFLICT (name) DO UPDATE SET version = streams.version + 1
                RETURNING id, version
            ), stored AS (
                INSERT INTO {schema}.events
                    (position, stream_id, version, recorded_at, id, type, data, tags)
                SELECT nextval('{schema}.events_position'), id, version, now(),
                    gen_random_uuid(), %(type)s, '1', %(tags)s::text[]
                FROM written
                RETURNING position
            )
            INSERT INTO {schema}.event_tags SELECT tag, position
            FROM stored CROSS JOIN unnest(%(tags)s::text[]) AS tags (tag)
            """,
            {"stream": stream, "type": event_type, "tags": tags},
        )

    def take(store: Any, step: Any) -> None:
        match step:
            case "append", stream, event_type, tags, count:
                if (info := store.stream(stream)) is None or info.closed_at is None:
                    for _ in range(count):
                        put(stream, event_type, list(tags) or None)
            case "gap", count:
                leave_out(connection, schema, count)
            case "archive", stream if store.stream(stream) is not None:
                store.close_stream(stream, expected=ANY)
                store.archive_stream(stream)
            case "erase", stream if store.stream(stream) is not None:
                store.erase_stream(stream, reason="asked")
            case "write", count:
                connection.execute(f"SELECT {schema}.write_log_windows(%s)", [count])

    with EventStore.connect(url, schema=schema, events=UPCASTERS) as opened:
        store = opened.bind(connection)

        @settings(
            max_examples=60,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        @given(
            steps,
            st.lists(st.sampled_from(QUERIES), min_size=1, max_size=4),
            st.booleans(),
            st.none() | st.integers(1, 6),
            st.integers(0, 60_000),
        )
        def agree(
            given: list[Any], queries: list[Query], backwards: bool, limit: int | None, after: int
        ) -> None:
            with connection.transaction(force_rollback=True):
                connection.execute(f"SELECT setval('{schema}.events_position', 0)")
                for step in given:
                    take(store, step)
                everything = list(store.read_all(after=after))
                for query in queries:
                    expected = [one.position for one in everything if query.matches(one)]
                    expected = expected[::-1] if backwards else expected
                    found = store.read_all(query, after=after, backwards=backwards, limit=limit)
                    assert positions(found) == expected[:limit], query
                rows = connection.execute(f"SELECT type, position FROM {schema}.recorded_events")
                by_type: dict[str, list[int]] = {}
                for name, position in rows.fetchall():
                    by_type.setdefault(name, []).append(position)
                assert {
                    one.type: (one.events, one.first_position, one.last_position)
                    for one in store.types()
                } == {name: (len(at), min(at), max(at)) for name, at in by_type.items()}

        agree()


def long_log(store: EventStore, connection: psycopg.Connection, schema: str) -> None:
    """A thousand events over ten million positions."""
    connection.execute(
        f"INSERT INTO {schema}.streams (id, name, channel, version) OVERRIDING SYSTEM VALUE"
        " VALUES (0, 'a-1', 'a', 999)"
    )
    connection.execute(
        f"""
        INSERT INTO {schema}.events (position, stream_id, version, recorded_at, id, type, data)
        SELECT 10000 * number - 5000, 0, number - 1, now(), gen_random_uuid(),
            CASE WHEN number IN (300, 301, 700) THEN 'Rare' ELSE 'Common' END, '{{}}'
        FROM generate_series(1, 1000) AS numbers (number)
        """
    )
    connection.execute(f"SELECT setval('{schema}.events_position', max(position))"
                       f" FROM {schema}.events")  # fmt: skip


RARE = [2_995_000, 3_005_000, 6_995_000]


def test_a_filter_reads_only_the_windows_with_a_match(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, counting: Counting
) -> None:
    long_log(sync_store, connection, schema)
    absent, rare = Query(types="Absent"), Query(types="Rare")

    assert counting.read(reading(rare)) == RARE  # writes the windows
    assert written(connection, schema) == 9_990_000

    for query, pages in ((absent, 3), (Query(channel="absent"), 3), (rare, 5)):
        for backwards in (False, True):
            expected = RARE if query is rare else []
            found = counting.read(reading(query, backwards=backwards))
            assert found == (expected[::-1] if backwards else expected)
            assert counting.calls["read_log_filtered"] <= pages
            assert counting.calls.total() <= pages + 4
            log = sync_store.read_all(query, as_of=RARE[0], backwards=backwards)
            assert positions(log) == expected[:1]  # in the middle of a window
    either = Query(types="Rare") | Query(types="Absent", channel="a")
    assert counting.read(reading(either)) == RARE
    assert counting.calls.total() <= 9


def test_reads_that_windows_cannot_help_do_not_write_them(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, counting: Counting
) -> None:
    long_log(sync_store, connection, schema)

    for query in (
        Query(),
        Query(stream_prefix="b"),
        Query(tags="t:1"),
        Query(types="Rare") | Query(stream="b-1"),
    ):
        counting.read(reading(query))
        assert {name for name in counting.calls if "windows" in name} == set()
    assert list(sync_store.read_all(Query(types="Rare"), after=9_990_000)) == []
    assert len(list(sync_store.read_all())) == 1000
    assert written(connection, schema) == 0


def test_one_call_writes_a_bounded_number_of_positions(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, counting: Counting
) -> None:
    long_log(sync_store, connection, schema)

    page = reading(Query(types="Common"), limit=3)
    assert counting.read(page) == [5_000, 15_000, 25_000]

    assert written(connection, schema) <= 100_000
    counting(write_all_log_windows())
    assert written(connection, schema) == 9_990_000
    (counts,) = connection.execute(
        f"SELECT array_agg(DISTINCT events) FROM {schema}.log_windows"
    ).fetchall()
    assert counts == ([1],)


def test_a_window_with_too_many_channels_may_have_any(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    appends = [StreamAppend(f"{n}-1", [event(f"T{n % 2}")], expected=ANY) for n in range(1_001)]
    for begin in range(0, 1_001, 250):
        store.append_many(appends[begin : begin + 250])
    leave_out(connection, schema, 50_000)
    store.append("last-1", event(), expected=ANY)
    write_windows(connection, schema)

    assert connection.execute(
        f"SELECT type, position, channel, events FROM {schema}.log_window_contents ORDER BY type"
    ).fetchall() == [("T0", 10_000, "", 501), ("T1", 10_000, "", 500)]
    for query in (Query(channel="7"), Query(types="T1", channel="7")):
        assert positions(store.read_all(query, backwards=True)) == [8]
        assert positions(store.read_all(query)) == [8]
    assert positions(store.read_all(Query(types="T0", channel="7"))) == []


def test_a_window_has_its_first_and_its_last_position(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    leave_out(connection, schema, WINDOW - 1)
    store.append("a-1", [event("Rare"), event("New")], expected=ANY)
    leave_out(connection, schema, 40_000)
    store.append("b-1", event(), expected=ANY)

    for _ in ("without windows", "with windows"):
        for event_type, position in (("Rare", WINDOW), ("New", WINDOW + 1)):
            for backwards in (False, True):
                found = store.read_all(Query(types=event_type), backwards=backwards)
                assert positions(found) == [position]
        write_windows(connection, schema)
    assert connection.execute(
        f"SELECT position, first_position FROM {schema}.log_window_contents ORDER BY position"
    ).fetchall() == [(WINDOW, WINDOW), (2 * WINDOW, WINDOW + 1)]


def test_positions_that_are_not_settled_are_not_in_a_window(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, url: str
) -> None:
    """A slow transaction has the first position of a window whose other events are committed."""
    with psycopg.connect(url) as slow:
        bound = sync_store.bind(slow)
        bound.append("a-1", event("Rare"), expected=ANY)
        leave_out(connection, schema, 30_000)
        sync_store.append("a-2", event(), expected=ANY)

        write_windows(connection, schema)
        assert written(connection, schema) == 0
        assert list(sync_store.read_all(Query(types="Rare"))) == []

    assert positions(sync_store.read_all(Query(types="Rare"))) == [1]
    assert written(connection, schema) == 30_000
    assert positions(sync_store.read_all(Query(types="Rare"))) == [1]


def test_one_session_writes_windows_and_others_do_not_wait(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, url: str
) -> None:
    long_log(sync_store, connection, schema)

    with psycopg.connect(url) as writing:
        write_windows(writing, schema)
        assert positions(sync_store.read_all(Query(types="Rare"))) == RARE
        assert written(connection, schema) == 0
    assert written(connection, schema) == 9_990_000


def test_a_session_that_may_not_write_reads_and_counts_without_windows(
    sync_store: EventStore, connection: psycopg.Connection, schema: str, url: str
) -> None:
    long_log(sync_store, connection, schema)

    with EventStore.connect(
        psycopg.conninfo.make_conninfo(url, options="-c default_transaction_read_only=on"),
        schema=schema,
    ) as reader:
        assert positions(reader.read_all(Query(types="Rare"))) == RARE
        before = reader.types()
        assert written(connection, schema) == 0
        assert sync_store.types() == before
        assert written(connection, schema) == 9_990_000
        assert positions(reader.read_all(Query(types="Rare"))) == RARE
        assert reader.types() == before


def test_a_full_disk_stops_no_reader(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Neither for want of windows, nor of the index of recorded times."""
    long_log(sync_store, connection, schema)
    connection.execute(
        f"CREATE FUNCTION {schema}.fill_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
    )
    for table in ("log_windows", "recorded_time_index"):
        connection.execute(
            f"CREATE TRIGGER disk_is_full BEFORE INSERT ON {schema}.{table}"
            f" FOR EACH ROW EXECUTE FUNCTION {schema}.fill_disk()"
        )

    moment = next(sync_store.read_all(limit=1)).recorded_at

    assert positions(sync_store.read_all(Query(types="Rare"))) == RARE
    assert [one.events for one in sync_store.types()] == [997, 3]
    assert sync_store.position_at(moment) == sync_store.head()
    assert written(connection, schema) == 0


def test_types_are_counted_behind_the_last_window_as_well(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    long_log(sync_store, connection, schema)
    sync_store.types()
    last = sync_store.append("b-1", [event("Rare"), event("New")], expected=ANY).position

    common, new, rare = sync_store.types()

    assert (common.events, common.first_position, common.last_position) == (997, 5_000, 9_995_000)
    assert (new.events, new.first_position, new.last_position) == (1, last, last)
    assert (rare.events, rare.first_position, rare.last_position) == (4, RARE[0], last - 1)


def test_a_group_skips_windows_without_a_match(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    long_log(sync_store, connection, schema)
    group = sync_store.group("rare")
    group.create(Query(types="Rare"))
    taken = []
    with group.consume() as consumer:
        for _ in RARE:
            delivery = consumer.take(timeout=30)
            assert delivery is not None
            taken.append(delivery.position)
            delivery.ack()

    assert taken == RARE
    assert written(connection, schema) > RARE[-1]


# Epochs ----------------------------------------------------------------------------------------


def lose(connection: psycopg.Connection, schema: str, after: int) -> None:
    """Restore the events of an earlier time, but not the windows; positions go on from there."""
    for trigger in ("events_are_immutable", "events_change_as_recorded"):
        connection.execute(f"ALTER TABLE {schema}.events DISABLE TRIGGER {trigger}")
    connection.execute(f"DELETE FROM {schema}.events WHERE position > %s", [after])
    for trigger in ("events_are_immutable", "events_change_as_recorded"):
        connection.execute(f"ALTER TABLE {schema}.events ENABLE ALWAYS TRIGGER {trigger}")
    connection.execute(f"SELECT setval('{schema}.events_position', %s)", [after])


@pytest.fixture
def restore(connection: psycopg.Connection, schema: str) -> Callable[[int], None]:
    return lambda after: lose(connection, schema, after)


def test_a_new_epoch_drops_windows_of_positions_that_may_be_handed_out_again(
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    restore: Callable[[int], None],
) -> None:
    long_log(sync_store, connection, schema)
    write_windows(connection, schema)
    sync_store.has_passed(next(sync_store.read_all(limit=1)).recorded_at)
    restore(5_000_000)

    sync_store.renew_epoch()

    for table in ("log_windows", "log_window_contents", "recorded_time_index"):
        assert connection.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone() == (0,)
    position = sync_store.append("b-1", event("Absent"), expected=ANY).position
    leave_out(connection, schema, 4_000_000)
    sync_store.append("b-1", event(), expected=ANY)
    assert positions(sync_store.read_all(Query(types="Absent"))) == [position]
    assert positions(sync_store.read_all(Query(types="Rare"))) == RARE[:2]
    assert sum(one.events for one in sync_store.types()) == 502


def test_a_lookup_in_another_epoch_is_refused(
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    counting: Counting,
    restore: Callable[[int], None],
) -> None:
    """The reader would skip all the rest, and never look at a page of the other log."""
    long_log(sync_store, connection, schema)
    write_windows(connection, schema)
    halfway = reading(Query(types="Absent"), as_of=9_000_000)
    counting(halfway.start())
    assert counting(halfway.next_window()) == []
    restore(5_000_000)
    connection.execute(f"UPDATE {schema}.epochs SET timeline = timeline - 1")
    connection.execute("RESET ALL")

    with pytest.raises(psycopg.Error) as failure:
        counting(halfway.next_page())

    assert failure.value.sqlstate == "IND06"
    assert counting.calls["matching_windows"] == 1


def test_a_reader_that_goes_on_in_a_new_epoch_looks_up_windows_again(
    sync_store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    counting: Counting,
    restore: Callable[[int], None],
) -> None:
    long_log(sync_store, connection, schema)
    write_windows(connection, schema)
    followed = LogReading(Codec(), Query(types="Rare"), LogReadOptions(), follows=True)
    counting(followed.start())
    found: list[int] = []
    while found != RARE[:2]:
        found += positions(counting(followed.next_window()))
    connection.execute(
        f"INSERT INTO {schema}.settled (position, noted_at) VALUES (%s, now())"
        " ON CONFLICT (is_only) DO UPDATE SET position = excluded.position",
        [followed.position],
    )
    restore(followed.position)
    connection.execute(f"UPDATE {schema}.epochs SET timeline = timeline - 1")
    connection.execute("RESET ALL")

    new = sync_store.append("b-1", event("Rare"), expected=ANY).position
    leave_out(connection, schema, 1_000_000)
    sync_store.append("b-1", event(), expected=ANY)
    ((head, epoch, event_id),) = connection.execute(
        f"SELECT head, epoch, event_id FROM {schema}.head_state()"
    ).fetchall()
    followed.extend(HeadState(head, epoch, event_id))
    while not followed.is_caught_up:
        found += positions(counting(followed.next_window()))
        followed.extend(HeadState(head, epoch, event_id))

    assert found == [*RARE[:2], new]
