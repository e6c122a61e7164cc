"""Bad input raises a clear error of the right class, and stores nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import (
    ANY,
    NO_STREAM,
    EventStore,
    IndelibleError,
    InvalidInput,
    NewEvent,
    StreamAppend,
)
from indelible.bulk_import import ImportEvent
from indelible.errors import EncodingFailed, EventTooLarge, UnregisteredEventClass
from tests.conftest import Connect

NAIVE = datetime(2024, 1, 1)


@dataclass
class Noted:
    text: Any


def happened(**options: Any) -> NewEvent:
    return NewEvent("Happened", {"n": 1}, **options)


def is_empty(store: EventStore) -> bool:
    stats = store.stats()
    return (stats.streams, stats.events, stats.last_position) == (0, 0, 0)


def refuse(
    store: EventStore, events: Any, match: str, error: type[InvalidInput] = InvalidInput
) -> None:
    """Both ways to append refuse the events, and nothing was stored."""
    with pytest.raises(error, match=match):
        store.append("a-1", events, expected=ANY)
    with pytest.raises(error, match=match):
        store.append_many([StreamAppend("b-1", happened(), ANY), StreamAppend("a-1", events, ANY)])
    assert is_empty(store)


BAD_NAMES: list[tuple[Any, str]] = [
    ("", "1 to 255"),
    ("x" * 256, "1 to 255"),
    ("😀" * 256, "1 to 255"),
    ("x" * 100_000, "1 to 255"),
    ("a\x00b", "NUL"),
    ("\x00", "NUL"),
    ("a\nb", "control"),
    ("a\tb", "control"),
    ("\x7f", "control"),
    ("a\ud800", r"\\ud800"),
    (None, "text"),
    (7, "text"),
    (b"a-1", "text"),
    (["a-1"], "text"),
    (uuid4(), "text"),
]


def test_bad_names_of_streams(store: EventStore) -> None:
    for name, match in BAD_NAMES:
        for call in (
            # None means no stream; but each part of a list needs a stream name.
            lambda name=name: store.append([] if name is None else name, happened(), expected=ANY),
            lambda name=name: store.append_many([StreamAppend(name, happened(), ANY)]),
            lambda name=name: store.append_many([StreamAppend(name, [], ANY)]),
            lambda name=name: store.read(name),
            lambda name=name: store.stream(name),
        ):
            with pytest.raises(InvalidInput, match=match) as error:
                call()
            assert "stream" in str(error.value)
            assert len(str(error.value)) < 300
    assert is_empty(store)


def test_bad_names_of_channels(store: EventStore) -> None:
    for name, match in BAD_NAMES:
        if name is None:
            continue
        for call in (
            lambda name=name: store.append("a-1", happened(), expected=ANY, channel=name),
            lambda name=name: store.append_many([StreamAppend("a-1", happened(), ANY, name)]),
            lambda name=name: store.streams(channel=name),
        ):
            with pytest.raises(InvalidInput, match=match) as error:
                call()
            assert "channel" in str(error.value)
    assert is_empty(store)


def test_bad_names_of_types(store: EventStore) -> None:
    for name, match in BAD_NAMES:
        refuse(store, [happened(), NewEvent(name, {})], rf"event type.*{match}")


def test_names_of_the_store_itself(store: EventStore) -> None:
    line = '{"stream":"%s","type":"%s","data":{}}'
    for call in (
        lambda: store.append("$a-1", happened(), expected=ANY),
        lambda: store.append_many([StreamAppend("$a-1", happened(), ANY)]),
        lambda: store.append("a-1", NewEvent("$Happened", {}), expected=ANY),
        lambda: store.append(None, NewEvent("$Happened", {})),
        lambda: store.import_events([line % ("$a-1", "Happened")], source="file"),
        lambda: store.import_events([line % ("a-1", "$Happened")], source="file"),
        lambda: store.import_events([ImportEvent("$a-1", {}, "Happened")], source="file"),
        lambda: store.import_events([ImportEvent("a-1", {}, "$Happened")], source="file"),
    ):
        with pytest.raises(InvalidInput, match=r"must not begin with '\$'.*reserved"):
            call()
    assert is_empty(store)

    store.append("a-$1", NewEvent("Happened$", {}), expected=NO_STREAM)
    assert list(store.read("$a-1")) == []


def test_bad_tags(store: EventStore) -> None:
    for name, match in BAD_NAMES:
        refuse(store, [happened(), happened(tags=["a:1", name])], match)
    for tags in ("a:1", b"a:1", 7, {"a": 1, 7: 2}, [["a:1"]]):
        wrong: Any = tags
        refuse(store, happened(tags=wrong), "tag")


def test_bad_prefixes(store: EventStore) -> None:
    for prefix in ("\x00", "\ud800", 7, b"a"):
        wrong: Any = prefix
        with pytest.raises(InvalidInput, match="prefix"):
            store.streams(prefix=wrong)


def test_a_stream_with_nothing_before_its_dash_needs_a_channel(store: EventStore) -> None:
    with pytest.raises(InvalidInput, match="channel"):
        store.append("-1", happened(), expected=NO_STREAM)
    with pytest.raises(InvalidInput, match="channel"):
        store.append_many([StreamAppend("-1", happened(), NO_STREAM)])
    assert is_empty(store)

    store.append("-1", happened(), expected=NO_STREAM, channel="x")

    store.append("-1", happened(), expected=0, channel="x")


def test_bad_expected_versions(store: EventStore) -> None:
    wrong: list[Any] = [
        -2, -3, -4, -(2**63), 2**63, 2**64, 1.0, 0.5, math.nan, Decimal(1), "1", "any",
        True, False, None, [], "NO_STREAM",
    ]  # fmt: skip
    for expected in wrong:
        with pytest.raises(InvalidInput, match=r"expected (must be|is required)"):
            store.append("a-1", happened(), expected=expected)
        for events in (happened(), []):
            with pytest.raises(InvalidInput, match=r"expected (must be|is required)"):
                store.append_many([StreamAppend("a-1", events, expected)])
    assert is_empty(store)


def test_no_events_are_nothing_to_append(store: EventStore) -> None:
    for nothing in ([], ()):
        with pytest.raises(InvalidInput, match="append_many"):
            store.append("a-1", nothing, expected=ANY)
    assert is_empty(store)


def test_what_is_no_event(store: EventStore) -> None:
    wrong: list[Any] = [
        None,
        7,
        "Happened",
        b"",
        {"type": "Happened"},
        {1},
        iter([happened()]),
        Noted,
    ]
    for event in wrong:
        refuse(store, event, "is not an event class: pass an instance", UnregisteredEventClass)
        refuse(
            store, [happened(), event], "event 2: .* is not an event class", UnregisteredEventClass
        )
    refuse(
        store,
        [[happened()], happened()],
        "event 1: list is not an event class",
        UnregisteredEventClass,
    )
    refuse(store, Noted(1), r"events=\[…, Noted\]", UnregisteredEventClass)


def test_bad_ids(store: EventStore) -> None:
    for id_ in ("7f3c", str(uuid4()), 7, None, uuid4().bytes):
        wrong: Any = id_
        refuse(store, happened(id=wrong), "UUID")


def test_an_id_twice_in_one_call(store: EventStore) -> None:
    event = happened()

    refuse(store, [event, happened(), event], str(event.id))
    refuse(store, [event, NewEvent("Other", {}, id=event.id)], str(event.id))


def test_bad_metadata(store: EventStore) -> None:
    for metadata in ("by ann", 7, ["by"], b"{}", object()):
        wrong: Any = metadata
        refuse(store, happened(metadata=wrong), "metadata")
        with pytest.raises(InvalidInput, match="metadata"):
            store.append("a-1", happened(), expected=ANY, metadata=wrong)
    for value in (math.nan, "\x00", NAIVE, object(), "\ud800"):
        refuse(store, happened(metadata={"x": value}), r"metadata\.x ")
        with pytest.raises(InvalidInput, match=r"metadata\.x "):
            store.append("a-1", happened(), expected=ANY, metadata={"x": value})
    assert is_empty(store)


def test_bad_valid_times(store: EventStore) -> None:
    for moment in (NAIVE, date(2024, 1, 1), "2024-01-01T00:00:00Z", 0, 1.5):
        wrong: Any = moment
        refuse(store, happened(valid_at=wrong), "valid_at")


def test_a_valid_time_that_could_not_be_read_again_is_refused(store: EventStore) -> None:
    """A moment before the year 1 or after 9999 in UTC: stored once, it would block all reading."""
    for moment in (
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    ):
        refuse(store, happened(valid_at=moment), "valid_at")


def test_valid_times_at_the_ends_of_time_are_kept(store: EventStore) -> None:
    moments = [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-14))),
        datetime(1900, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32))),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
    ]

    store.append("a-1", [happened(valid_at=moment) for moment in moments], expected=ANY)

    assert [event.valid_at for event in store.read("a-1")] == moments


def test_an_event_over_the_size_limit(store: EventStore) -> None:
    limit = 1024 * 1024
    for event in (
        NewEvent("Big", "x" * (limit - 1)),
        NewEvent("Big", "ä" * (limit // 2)),
        NewEvent("Big", "x" * (limit - 8), metadata={"by": "ann"}),
        NewEvent("Big", None, metadata={"x": "y" * limit}),
    ):
        refuse(store, [happened(), event], "max_event_bytes", EventTooLarge)
    with pytest.raises(EventTooLarge) as error:
        store.append("a-1", NewEvent("Big", "x" * limit), expected=ANY)
    assert (error.value.event_type, error.value.size) == ("Big", limit + 2)
    assert error.value.limit == limit
    assert "1,048,576" in str(error.value)


def test_the_size_limit_may_be_set(connect: Connect) -> None:
    store = connect(max_event_bytes=100)

    with pytest.raises(EventTooLarge, match="100"):
        store.append("a-1", NewEvent("Big", "x" * 99), expected=ANY)

    store.append("a-1", NewEvent("Big", "x" * 98), expected=ANY)


def test_many_events_below_the_limit_may_be_over_it_together(connect: Connect) -> None:
    store = connect(max_event_bytes=1_000)

    store.append("a-1", [NewEvent("Big", "x" * 900) for _ in range(5)], expected=ANY)

    assert len(list(store.read("a-1"))) == 5


def test_events_of_classes_are_held_to_the_limit_one_by_one(connect: Connect) -> None:
    store = connect(events=Noted, max_event_bytes=1_000)
    notes = [Noted("x" * 900) for _ in range(5)]

    store.append("a-1", notes, expected=NO_STREAM)
    store.append_many([StreamAppend("b-1", notes, expected=NO_STREAM)])
    for appended in ([*notes, Noted("x" * 1_000)], [Noted("x" * 1_000)]):
        with pytest.raises(EventTooLarge, match="Noted") as error:
            store.append("a-1", appended, expected=ANY)
        assert error.value.size == len('{"text":""}') + 1_000
        with pytest.raises(EventTooLarge, match="Noted"):
            store.append_many([StreamAppend("b-1", appended, expected=ANY)])

    assert len(list(store.read("a-1"))) == len(list(store.read("b-1"))) == 5


def test_one_of_many_that_cannot_be_stored_is_named(connect: Connect) -> None:
    store = connect(events=Noted)
    for value in (math.nan, "\x00", NAIVE, object()):
        notes = [Noted("x"), Noted(value), Noted("y")]
        with pytest.raises(EncodingFailed, match=r"^event 2: event 'Noted' .* data\.text"):
            store.append("a-1", notes, expected=ANY)
        with pytest.raises(EncodingFailed, match=r"^event 3: event 'Other' .* data "):
            store.append("a-1", [*notes[::2], NewEvent("Other", value)], expected=ANY)
        with pytest.raises(EncodingFailed, match=r"^part 2: event 2: event 'Noted'"):
            store.append_many(
                [StreamAppend("a-1", notes[0], expected=ANY), StreamAppend("a-2", notes, ANY)]
            )
        with pytest.raises(EncodingFailed, match=r"^event 'Noted'"):
            store.append("a-1", notes[1], expected=ANY)
        with pytest.raises(EncodingFailed, match=r"^event 2: event 'Other'"):
            store.append(None, [notes[0], NewEvent("Other", value)])
    with pytest.raises(InvalidInput, match=r"^part 2: event 2: .*UUID"):
        wrong: Any = 7
        store.append_many(
            [
                StreamAppend("a-1", Noted("x"), ANY),
                StreamAppend("a-2", [Noted("x"), NewEvent("Other", 1, id=wrong)], ANY),
            ]
        )
    assert is_empty(store)


def test_the_first_append_after_an_error_is_as_if_nothing_was(store: EventStore) -> None:
    with pytest.raises(InvalidInput):
        store.append("a-1", NewEvent("Happened", math.nan), expected=NO_STREAM)

    result = store.append("a-1", happened(), expected=NO_STREAM)

    assert (result.version, result.position) == (0, 1)


def test_bad_arguments_of_connect(connect: Connect) -> None:
    wrong: list[dict[str, Any]] = [
        {"schema": ""},
        {"schema": "x" * 49},
        {"schema": "Upper"},
        {"schema": "a-b"},
        {"schema": "a;b"},
        {"schema": 'a"b'},
        {"schema": "1a"},
        {"schema": "pg_x"},
        {"schema": "information_schema"},
        {"schema": "a\n"},
        {"schema": 7},
        {"channel": ""},
        {"channel": "x" * 256},
        {"channel": 7},
        {"events": 7},
        {"unknown": "ignore"},
        {"max_event_bytes": 0},
        {"max_event_bytes": -1},
        {"max_event_bytes": "1"},
        {"max_event_bytes": 0.5},
        {"max_event_bytes": math.nan},
        {"max_event_bytes": math.inf},
        {"max_event_bytes": None},
        {"pool_size": 0},
        {"pool_size": 1.5},
        {"pool_size": "4"},
        {"pool_size": True},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": "30"},
        {"timeout": None},
    ]
    for options in wrong:
        (name,) = options
        with pytest.raises(InvalidInput, match=name) as error:
            connect(**options)
        assert len(str(error.value)) < 300


def test_a_timeout_may_be_for_ever_or_is_refused(connect: Connect) -> None:
    try:
        store = connect(timeout=math.inf)
    except IndelibleError as error:
        assert "timeout" in str(error)  # noqa: PT017 - either is right
    else:
        assert store.head() == 0


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255).filter(
    lambda name: not name.startswith(("-", "$"))
)


def test_any_text_without_control_characters_is_a_name(sync_store: EventStore) -> None:
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(NAMES, NAMES, NAMES)
    def check(stream: str, type_: str, tag: str) -> None:
        event = NewEvent(type_, tag, tags=[tag])
        result = sync_store.append(stream, event, expected=ANY)

        (stored,) = sync_store.read(stream, from_version=result.version)
        assert (stored.stream, stored.type, stored.tags) == (stream, type_, (tag,))
        info = sync_store.stream(stream)
        assert info is not None
        assert info.channel == stream.partition("-")[0]

    check()
