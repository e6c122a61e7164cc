"""Bulk import; docs/explanation/bulk-import.md explains why it is safe."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import (
    ANY,
    ERASED,
    NO_STREAM,
    AppendCondition,
    AppendConditionFailed,
    DuplicateEvent,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    StreamClosed,
    WrongExpectedVersion,
)
from indelible.bulk_import import ImportEvent, ImportResult, operations
from indelible.cli.output import event_json
from indelible.errors import (
    ChannelMismatch,
    EncodingFailed,
    EventTooLarge,
    PermissionDenied,
    UnregisteredEventClass,
)
from tests.conftest import Connect

LONG_AGO = datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def line(stream: str = "a-1", number: int = 0, **fields: Any) -> str:
    return json.dumps(
        {"stream": stream, "type": "Happened", "data": {"number": number}, **fields}, default=str
    )


def event(stream: str = "a-1", number: int = 0, **fields: Any) -> ImportEvent:
    return ImportEvent(stream, {"number": number}, "Happened", **{"id": uuid4(), **fields})


def exported(store: EventStore) -> list[str]:
    """What `indelible log --json` writes."""
    return [json.dumps(event_json(e), default=str) for e in store.read_all()]


def facts(store: EventStore) -> list[tuple]:
    return [
        (e.stream, e.version, e.id, e.type, e.data, e.metadata, e.tags, e.channel, e.valid_at)
        for e in store.read_all()
    ]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CHUNK_EVENTS", 10)
    monkeypatch.setattr(operations, "STEP", 3)


def test_lines_of_three_fields_are_imported_in_their_order(store: EventStore) -> None:
    lines = [line("b-1", 0), "\n", line("a-1", 1) + "\n", line("b-1", 2).encode()]

    result = store.import_events(lines, source="file")

    assert result == ImportResult(imported=3, skipped=0, position=3)
    log = list(store.read_all())
    assert [(e.stream, e.version, e.data["number"]) for e in log] == [
        ("b-1", 0, 0),
        ("a-1", 0, 1),
        ("b-1", 1, 2),
    ]
    assert [e.position for e in log] == [1, 2, 3]
    assert {e.channel for e in log} == {"a", "b"}
    assert all(e.metadata == {} and e.tags == () for e in log)
    assert all(abs(datetime.now(UTC) - e.recorded_at) < timedelta(minutes=1) for e in log)


def test_nothing_is_imported_from_nothing(store: EventStore) -> None:
    assert store.import_events([]) == ImportResult(imported=0, skipped=0, position=0)
    assert store.import_events(iter(["", "\n"])) == ImportResult(0, 0, 0)


def test_an_import_goes_on_after_what_a_stream_has(store: EventStore) -> None:
    store.append("a-1", [NewEvent("Happened", {}), NewEvent("Happened", {})], expected=NO_STREAM)

    store.import_events([event("a-1", version=2), event("a-1"), event("b-1", version=0)])
    store.append("a-1", NewEvent("Happened", {}), expected=3)

    assert [e.version for e in store.read("a-1")] == [0, 1, 2, 3, 4]


def test_every_field_arrives(store: EventStore) -> None:
    given = event(
        version=0,
        metadata={"by": "ann"},
        tags=["k:2", "k:1"],
        valid_at=LONG_AGO,
        recorded_at=LONG_AGO + timedelta(days=1),
        channel="other",
    )

    store.import_events([given], keep_recorded_at=True)

    (found,) = store.read_all()
    assert (found.id, found.metadata, found.tags) == (given.id, {"by": "ann"}, ("k:1", "k:2"))
    assert (found.valid_at, found.recorded_at) == (given.valid_at, given.recorded_at)
    assert (found.channel, found.type, found.data) == ("other", "Happened", {"number": 0})


def test_typed_events_are_imported_with_a_stream(connect: Connect) -> None:
    @dataclass(frozen=True)
    class Paid:
        amount: int
        by: UUID

    store = connect(events=[Paid])
    paid = Paid(3, uuid4())

    store.import_events([ImportEvent("order-1", paid, id=uuid4())])

    assert [e.data for e in store.read("order-1")] == [paid]
    with pytest.raises(UnregisteredEventClass):
        connect().import_events([ImportEvent("order-1", paid, id=uuid4())])


def test_the_events_of_another_store_are_imported_as_they_are(
    connect: Connect, second_schema: str
) -> None:
    here = connect()
    here.append(
        "a-1",
        [NewEvent("A", {"x": [1, None]}, tags=["k:v"]), NewEvent("B", "text", {"by": "ann"})],
        expected=NO_STREAM,
    )
    here.append("b-1", NewEvent("C", 1, valid_at=LONG_AGO), expected=NO_STREAM, channel="other")
    there = connect(schema=second_schema)

    there.import_events(list(here.read_all()), keep_recorded_at=True)

    assert facts(there) == facts(here)
    assert [e.recorded_at for e in there.read_all()] == [e.recorded_at for e in here.read_all()]


def test_erased_events_of_another_store_are_erased_here(
    connect: Connect, second_schema: str
) -> None:
    here, there = connect(), connect(schema=second_schema)
    here.append("a-1", NewEvent("A", {"name": "ann"}, {"by": "ann"}, tags=["k:v"]), expected=ANY)
    here.erase_stream("a-1", reason="asked for")
    here.append("a-1", NewEvent("A", None), expected=ANY)

    there.import_events(list(here.read_all()), keep_recorded_at=True)

    assert [e.data for e in there.read("a-1")] == [ERASED, None]
    assert [e.recorded_at for e in there.read_all()] == [e.recorded_at for e in here.read_all()]
    found = there.stream("a-1")
    assert found is not None
    assert found.erased_at is not None
    assert there.import_events(list(here.read_all()), keep_recorded_at=True).skipped == 2


def test_an_export_is_imported_as_it_is_and_again_without_effect(
    connect: Connect, second_schema: str
) -> None:
    here, there = connect(), connect(schema=second_schema)
    for number in range(25):
        here.append(f"s-{number % 3}", NewEvent("A", {"n": number, "ü": "\u2028"}), expected=ANY)
    lines = exported(here)

    first = there.import_events(lines)
    again = there.import_events(lines)

    assert facts(there) == facts(here)
    assert first == ImportResult(25, 0, 25)
    assert again == ImportResult(0, 25, 25)
    assert there.stats().last_position == 25


def test_recorded_at_is_only_kept_where_asked(store: EventStore) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)

    store.import_events([event(recorded_at=LONG_AGO)])
    store.import_events([event(recorded_at=LONG_AGO), event()], keep_recorded_at=True)

    now, kept, without = (e.recorded_at for e in store.read_all())
    assert now > before
    assert kept == LONG_AGO
    assert without > before


def test_moments_in_other_zones_mean_the_same(store: EventStore) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))

    store.import_events([line(id=uuid4(), recorded_at=LONG_AGO.astimezone(zone).isoformat())],
                        keep_recorded_at=True)  # fmt: skip

    assert next(store.read_all()).recorded_at == LONG_AGO


def test_a_future_recorded_at_is_refused(store: EventStore) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    with pytest.raises(InvalidInput, match=r"^event 2: recorded_at .* is in the future"):
        store.import_events([event(), event(recorded_at=tomorrow)], keep_recorded_at=True)

    assert store.stats().events == 0
    store.import_events([event(recorded_at=tomorrow)])  # it does not count


@pytest.mark.usefixtures("small_chunks")
def test_a_bad_line_is_named_and_the_chunks_before_it_stay(store: EventStore) -> None:
    lines = [line(f"s-{n % 3}", n) for n in range(25)]
    bad = [*lines[:17], '{"stream": "s-1", "type"', *lines[18:]]

    with pytest.raises(InvalidInput, match=r"^line 18: "):
        store.import_events(bad, source="file")
    assert [e.data["number"] for e in store.read_all()] == list(range(10))

    assert store.import_events(lines, source="file") == ImportResult(15, 10, 25)
    assert [e.data["number"] for e in store.read_all()] == list(range(25))


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ("[]", InvalidInput, "Expected `object`"),
        ("x", InvalidInput, "JSON"),
        (b"\xff\xfe", InvalidInput, "JSON"),
        ('{"type": "A", "data": 1}', InvalidInput, "missing required field `stream`"),
        ('{"stream": "a", "data": 1}', InvalidInput, "missing required field `type`"),
        ('{"stream": "a", "type": "A"}', InvalidInput, "missing required field `data`"),
        (line(tag=["k:v"]), InvalidInput, "unknown field `tag`"),
        (line(""), InvalidInput, "stream must have 1 to 255"),
        (line("-x"), InvalidInput, "nothing before its first '-'"),
        (line(type="x" * 256), InvalidInput, "event type must have 1 to 255"),
        (line(type="a\x00"), InvalidInput, "control characters"),
        (line(id="17"), InvalidInput, "UUID"),
        (line(version=-1), InvalidInput, "version must be"),
        (line(version="x"), InvalidInput, "version must be"),
        (line(version=1.5), InvalidInput, "JSON"),
        (line(metadata=[]), InvalidInput, "metadata of event 'Happened' must be a JSON object"),
        (line(tags=["a\x00"]), InvalidInput, "tag must not contain control"),
        (line(valid_at="2020-01-01T00:00:00"), InvalidInput, "with a time zone"),
        (line(recorded_at="2020-01-01T00:00:00"), InvalidInput, "with a time zone"),
        (line(data={"x": "\x00"}), EncodingFailed, "data.x contains a NUL"),
        (line(metadata={"x": "\x00"}), EncodingFailed, "metadata.x contains a NUL"),
        ('{"stream": "a", "type": "A", "data": "\\ud800"}', InvalidInput, "line 2: "),
        ('{"stream": "a", "type": "A", "data": {"\\ud800x": 1}}', InvalidInput, "line 2: "),
        ('{"stream": "a", "type": "A", "data": 1e999}', EncodingFailed, "out of range"),
        (b'{"stream": "a", "type": "A", "data": "\xff"}', InvalidInput, "line 2: "),
        ('{"stream": "a", "type": "A", "data": NaN}', InvalidInput, "line 2: "),
        ('{"stream": "a", "type": "A", "data": ' + "[" * 9999 + "]" * 9999 + "}", InvalidInput, ""),
        (line(data="x" * 2_000), EventTooLarge, "over the limit"),
        (7, InvalidInput, "not 7"),
        (NewEvent("A", {}), InvalidInput, "must be a line of NDJSON"),
        (ImportEvent("a", {}, "A", id="x"), InvalidInput, "must be a UUID"),
        (ImportEvent("a", {}, "A", id=uuid4(), version=True), InvalidInput, "version must be"),
        (ImportEvent(None, {}, "A", id=uuid4()), InvalidInput, "stream must be text"),
        (ImportEvent("a", {}, 7, id=uuid4()), InvalidInput, "event type must be text"),
        (ImportEvent("a", {}, "A", id=uuid4(), channel=""), InvalidInput, "channel must have"),
        (ImportEvent("a", {}, "A", id=uuid4(), tags="k:v"), InvalidInput, "tags must be"),
        (ImportEvent("a", {}, "A", id=uuid4(), metadata=7), InvalidInput, "must be a mapping"),
    ],
    ids=range(37),
)
def test_bad_input_says_where_it_stands_and_stores_nothing(
    connect: Connect, bad: Any, error: type[Exception], says: str
) -> None:
    store = connect(max_event_bytes=1_000)

    with pytest.raises(error) as refusal:
        store.import_events([line(), bad, line()], source="file")

    assert str(refusal.value).startswith(("line 2: ", "event 2: "))
    assert says in str(refusal.value)
    assert store.stats().events == 0
    assert store.stats().last_position == 0
    assert list(store.streams()) == []


@pytest.mark.parametrize("events", ["text", b"bytes", 7, None])
def test_something_that_gives_no_events_is_refused(store: EventStore, events: Any) -> None:
    with pytest.raises(InvalidInput, match="an iterable of lines or events"):
        store.import_events(events)


def test_an_event_without_an_id_needs_a_source(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match=r"^line 1: the event has no id: .* source="):
        store.import_events([line()])
    with pytest.raises(InvalidInput, match="the source must be text"):
        store.import_events([line()], source=7)


def test_ids_made_from_a_source_are_the_same_each_time_and_others_for_another(
    store: EventStore,
) -> None:
    lines = [line(number=1), line(number=1)]

    assert store.import_events(lines, source="monday").imported == 2
    assert store.import_events(lines, source="monday").skipped == 2
    assert store.import_events(lines, source="tuesday").imported == 2

    ids = [e.id for e in store.read_all()]
    assert len(set(ids)) == 4
    assert {made.version for made in ids} == {8}
    assert ids[0] < ids[1]


def test_a_version_that_is_not_the_next_one_is_refused(store: EventStore) -> None:
    last = NewEvent("Happened", {})
    stored = store.append("a-1", last, expected=NO_STREAM)

    with pytest.raises(WrongExpectedVersion, match=r"^event 2: ") as refusal:
        store.import_events([event("b-1", version=0), event("a-1", version=0)])

    assert (refusal.value.stream, refusal.value.expected, refusal.value.actual) == ("a-1", -1, 0)
    assert refusal.value.last_event_id == last.id
    assert refusal.value.conflicts[0].last_recorded_at == stored.recorded_at
    assert [info.stream for info in store.streams()] == ["a-1"]
    assert store.stats().last_position == 1


def test_versions_with_a_gap_are_refused(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match=r"^event 3: version 3 .* does not follow version 1"):
        store.import_events([event(version=0), event(), event(version=3)])
    assert store.stats().events == 0


def test_another_channel_is_refused(store: EventStore) -> None:
    store.append("a-1", NewEvent("Happened", {}), expected=NO_STREAM)

    with pytest.raises(ChannelMismatch, match=r"^event 2: ") as refusal:
        store.import_events([event("b-1"), event("a-1", channel="other")])
    assert (refusal.value.channel, refusal.value.actual) == ("other", "a")
    with pytest.raises(InvalidInput, match="belongs to one channel"):
        store.import_events([event("c-1", channel="x"), event("c-1", channel="y")])

    assert store.stats().events == 1


def test_the_same_id_with_other_content_is_refused(store: EventStore) -> None:
    first = event(number=1, version=0, recorded_at=LONG_AGO)
    store.import_events([first], keep_recorded_at=True)

    for other in (
        event(number=2, id=first.id),
        event(number=1, id=first.id, metadata={"by": "ann"}),
        event(number=1, id=first.id, tags=["k:v"]),
        event(number=1, id=first.id, valid_at=LONG_AGO + timedelta(1)),
        event(number=1, id=first.id, recorded_at=LONG_AGO + timedelta(1)),
    ):
        with pytest.raises(DuplicateEvent, match=r"^event 1: .* with other content"):
            store.import_events([other], keep_recorded_at=True)
    for elsewhere in (
        event("b-1", number=1, id=first.id),
        event(number=1, id=first.id, version=1),
    ):
        with pytest.raises(DuplicateEvent) as refusal:
            store.import_events([elsewhere])
        assert refusal.value.duplicates[0].same_content
        assert refusal.value.duplicates[0].id == first.id

    assert store.import_events([first], keep_recorded_at=True).skipped == 1
    assert store.stats().events == 1
    assert store.stats().last_position == 1


def test_what_is_there_must_stand_at_the_beginning_and_in_order(store: EventStore) -> None:
    """Part of the ids present, part not: only what an earlier run can have left is skipped."""
    a, b, c = event("a-1"), event("b-1", version=0), event("c-1")
    store.import_events([b])

    # Detected by its version, which is not the next one, and by the unique ids.
    for there in (b, replace(b, version=None)):
        with pytest.raises(DuplicateEvent, match=r"^event 2: "):
            store.import_events([a, there, c])
    result = store.import_events([b, c])
    assert (result.imported, result.skipped) == (1, 1)
    with pytest.raises(DuplicateEvent, match=r"^event 2: "):
        store.import_events([c, b])

    assert [e.id for e in store.read_all()] == [b.id, c.id]


def test_the_id_of_an_archived_event_is_refused_wherever_it_stands(store: EventStore) -> None:
    known = event("old-1", 1)
    store.import_events([known])
    store.close_stream("old-1", expected=0)
    store.archive_stream("old-1")

    for events in ([event(), event(), known], [known, event()]):
        with pytest.raises(DuplicateEvent, match=f"event {events.index(known) + 1}") as refusal:
            store.import_events([replace(given, stream="a-1") for given in events])
        assert [(found.id, found.stream) for found in refusal.value.duplicates] == [
            (known.id, "old-1")
        ]
    assert store.import_events([known]).skipped == 1
    assert [found.stream for found in store.read_all()] == ["old-1"]


def test_an_id_that_stands_twice_in_the_input_is_refused(store: EventStore) -> None:
    twice = event("a-1")

    with pytest.raises(InvalidInput, match=r"^event 3: .*twice"):
        store.import_events([twice, event("b-1"), twice])

    assert store.stats().events == 0
    assert store.stats().last_position == 0


@pytest.mark.usefixtures("small_chunks")
def test_an_id_that_stands_twice_in_two_chunks_is_refused(store: EventStore) -> None:
    first = event("a-1")

    with pytest.raises(DuplicateEvent, match=r"^event 13: "):
        store.import_events([first, *(event("b-1") for _ in range(11)), first])

    assert store.stats().events == 10


@pytest.mark.usefixtures("small_chunks")
def test_a_source_that_fails_leaves_the_chunks_before(store: EventStore) -> None:
    def failing() -> Iterator[ImportEvent]:
        yield from (event(number=n) for n in range(25))
        raise RuntimeError("the other store is gone")

    with pytest.raises(RuntimeError, match="the other store is gone"):
        store.import_events(failing())

    assert store.stats().events in (10, 20)


def test_an_asynchronous_iterable_is_imported(connect: Connect) -> None:
    async def events() -> AsyncIterator[ImportEvent]:
        for number in range(25):
            yield event(number=number)

    store = connect()
    if connect.variant == "sync":
        with pytest.raises(InvalidInput, match="an iterable of lines or events"):
            store.import_events(events())
    else:
        assert store.import_events(events()).imported == 25


def test_an_import_takes_the_rights_of_the_owner(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    from indelible.postgres.migrations import create_roles

    role = f"{schema}_login"
    create_roles(connection, schema)
    connection.execute(f"CREATE ROLE {role} LOGIN IN ROLE {schema}_writer")
    try:
        url = psycopg.conninfo.make_conninfo(connect._url, user=role)
        with pytest.raises(PermissionDenied, match="owner"):
            connect(url).import_events([event()])
    finally:
        connect.close()
        connection.execute(f"DROP OWNED BY {role}, {schema}_writer, {schema}_reader")
        connection.execute(f"DROP ROLE {role}, {schema}_writer, {schema}_reader")


_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
_floats = st.floats(-1e9, 1e9).map(lambda number: number + 0.0)  # without -0.0, which is rejected
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _floats | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
_events = st.builds(
    NewEvent,
    type=st.sampled_from(["A", "Größe", "a b"]),
    data=_json,
    metadata=st.dictionaries(_text, _json, max_size=2),
    tags=st.lists(st.sampled_from(["k:v", "k:w", "ü:1"]), max_size=2),
    valid_at=st.none() | _moments,
)


@given(
    st.lists(st.tuples(st.sampled_from(["a-1", "b-1", "ö"]), _events), max_size=12), st.booleans()
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_exported_is_imported_the_same(
    sync_store: EventStore, second_store: EventStore, given: list, keep: bool
) -> None:
    after = sync_store.head()
    for stream, new in given:
        sync_store.append(stream, new, expected=ANY)
    here = list(sync_store.read_all(after=after))
    before = second_store.head()

    lines = [json.dumps(event_json(e), default=str) for e in here]
    assert second_store.import_events(lines, keep_recorded_at=keep).imported == len(given)
    assert second_store.import_events(lines, keep_recorded_at=keep).skipped == len(given)

    there = list(second_store.read_all(after=before))

    def told(e: RecordedEvent) -> tuple:
        return (e.stream, e.version, e.id, e.type, e.data, e.metadata, e.tags, e.valid_at)

    assert [told(e) for e in there] == [told(e) for e in here]
    if keep:
        assert [e.recorded_at for e in there] == [e.recorded_at for e in here]


def test_imported_tags_are_found_and_conditions_see_them(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    store = connect()
    store.append("a-1", NewEvent("Happened", {}, tags=["k:1"]), expected=ANY)
    lines = [
        f'{{"stream":"s-{n}","type":"T","data":{n},"id":"{uuid4()}","tags":["k:{n}","all:1"]}}'
        for n in range(700)  # more tags than an append locks one by one
    ]
    assert store.import_events(lines).imported == 700
    assert [event.data for event in store.read_all(Query(tags="k:699"))] == [699]
    assert len(store.read_matching(Query(tags="all:1"))) == 700
    with pytest.raises(AppendConditionFailed):
        store.append("b-1", NewEvent("T", {}), condition=AppendCondition(Query(tags="k:5"), 0))
    indexed = connection.execute(f"SELECT count(*) FROM {schema}.event_tags").fetchone()
    assert indexed == (1_401,)


def test_a_closed_stream_takes_no_import(connect: Connect) -> None:
    store = connect()
    store.append("a-1", NewEvent("Happened", {}), expected=ANY)
    store.close_stream("a-1", expected=ANY)
    line = f'{{"stream":"a-1","type":"T","data":1,"id":"{uuid4()}"}}'
    with pytest.raises(StreamClosed, match="line 1"):
        store.import_events([line])
    assert len(list(store.read("a-1"))) == 1
