"""Operations, run with the rows that a database would return: no database, no mocks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from indelible import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConnectionLost,
    DuplicateEvent,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    StreamNotFound,
    WrongExpectedVersion,
)
from indelible.core.operation import (
    AppendStatement,
    Operation,
    Rows,
    Statement,
    run,
    run_async,
)
from indelible.errors import (
    ChannelMismatch,
    DecodingFailed,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
)
from indelible.postgres import migrations as schema_plans
from indelible.postgres.settings import Settings
from indelible.serialization.codec import Codec
from indelible.streams import append as append_plans
from indelible.streams.append_input import AppendSettings
from indelible.streams.info import StreamsReading
from indelible.streams.read_log import LogReading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import StreamReading
from indelible.streams.rows import stored_form

NOW = datetime(2024, 1, 1, tzinfo=UTC)
WRITING = AppendSettings(codec=Codec(), channel=None, max_event_bytes=1_000)


@dataclass
class Happened:
    number: int = 0


class Played:
    """Runs a plan; each statement gets the next of the replies, an error being thrown."""

    def __init__(self, plan: Operation[Any], *replies: Any) -> None:
        self.calls: list[Statement] = []
        self._replies = list(replies)
        self.result = run(plan, self._execute)
        assert not self._replies, "the plan did not ask for these"

    def _execute(self, call: Statement) -> Any:
        self.calls.append(call)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def append(*replies: Any, writing: AppendSettings = WRITING, **options: Any) -> Played:
    given: dict[str, Any] = {
        "stream": "a-1",
        "events": NewEvent("Happened", {"n": 1}),
        "expected": NO_STREAM,
        "channel": None,
        "metadata": None,
        **options,
    }
    stream, events = given.pop("stream"), given.pop("events")
    return Played(append_plans.append(writing, stream, events, **given), *replies)


APPENDED = [("appended", 4, 17, NOW, None)]


# Running --------------------------------------------------------------------------------------


def sum_of_two() -> Operation[int]:
    ((first,),) = yield Statement("one")
    try:
        ((second,),) = yield Statement("two")
    except ZeroDivisionError:
        second = -1
    return int(first + second)


def test_an_operation_runs_to_its_end_in_both_variants() -> None:
    def execute(call: Statement) -> Any:
        return [({"one": 1, "two": 2}[call.name],)]

    async def execute_async(call: Statement) -> Any:
        return execute(call)

    assert run(sum_of_two(), execute) == 3
    assert asyncio.run(run_async(sum_of_two(), execute_async)) == 3


def test_an_error_of_a_statement_is_thrown_into_the_plan() -> None:
    def execute(call: Statement) -> Any:
        if call.name == "two":
            raise ZeroDivisionError
        return [(1,)]

    async def execute_async(call: Statement) -> Any:
        return execute(call)

    assert run(sum_of_two(), execute) == 0
    assert asyncio.run(run_async(sum_of_two(), execute_async)) == 0


def test_an_error_that_the_plan_does_not_take_leaves_it() -> None:
    def execute(_: Statement) -> Any:
        raise KeyError("one")

    async def execute_async(call: Statement) -> Any:
        return execute(call)

    with pytest.raises(KeyError):
        run(sum_of_two(), execute)
    with pytest.raises(KeyError):
        asyncio.run(run_async(sum_of_two(), execute_async))


def test_a_plan_without_statements_returns_at_once() -> None:
    assert Played(append_plans.append_many(WRITING, [])).result == []


# Append ---------------------------------------------------------------------------------------


def test_an_append_is_one_statement() -> None:
    event = NewEvent(
        "Happened", {"n": 1}, metadata={"by": "ann"}, tags=["b:1", "a:1"], valid_at=NOW
    )

    played = append(APPENDED, events=event, expected=3, channel="else")

    (call,) = played.calls
    assert isinstance(call, AppendStatement)
    assert call.name == "streams.append"
    events = json.loads(str(call.parameters["events"]))
    assert {**call.parameters, "events": events} == {
        "stream": "a-1",
        "channel": "else",
        "expected": 3,
        "events": [
            {
                "id": event.id.hex,
                "type": "Happened",
                "data": {"n": 1},
                "metadata": {"by": "ann"},
                "tags": ["a:1", "b:1"],
                "valid_at": "2024-01-01T00:00:00+00:00",
            }
        ],
    }


def test_what_an_event_does_not_have_is_not_sent() -> None:
    (call,) = append(APPENDED).calls

    (event,) = json.loads(str(call.parameters["events"]))
    assert sorted(event) == ["data", "id", "type"]
    assert call.parameters["channel"] is None


@pytest.mark.parametrize(
    ("expected", "sent"),
    [(NO_STREAM, -1), (ANY, -2), (STREAM_EXISTS, -4), (-1, -1), (0, 0), (2**63 - 1, 2**63 - 1)],
    ids=str,
)
def test_an_expectation_is_sent_as_a_number(expected: Any, sent: int) -> None:
    assert append(APPENDED, expected=expected).calls[0].parameters["expected"] == sent


def test_the_channel_of_the_store_stands_in_for_one_of_the_call() -> None:
    writing = AppendSettings(codec=Codec(), channel="billing", max_event_bytes=1_000)

    assert append(APPENDED, writing=writing).calls[0].parameters["channel"] == "billing"
    assert append(APPENDED, writing=writing, channel="x").calls[0].parameters["channel"] == "x"


@pytest.mark.parametrize(("outcome", "again"), [("appended", False), ("idempotent", True)])
def test_the_row_is_the_result(outcome: str, *, again: bool) -> None:
    result = append([(outcome, 4, 17, NOW, None)]).result

    assert (result.stream, result.version, result.position) == ("a-1", 4, 17)
    assert (result.recorded_at, result.idempotent) == (NOW, again)


def test_a_wrong_version_carries_all_that_is_known() -> None:
    id_ = uuid4()
    facts = json.dumps({"id": str(id_), "recorded_at": "2024-01-01T00:00:00.000001+00:00"})

    with pytest.raises(WrongExpectedVersion) as refusal:
        append([("wrong_version", 4, None, None, facts.encode())], expected=7)

    error = refusal.value
    assert (error.stream, error.expected, error.actual) == ("a-1", 7, 4)
    assert error.last_event_id == id_
    assert error.last_recorded_at == NOW.replace(microsecond=1)


def test_a_wrong_version_of_a_stream_never_written() -> None:
    with pytest.raises(WrongExpectedVersion) as refusal:
        append([("wrong_version", -1, None, None, None)], expected=STREAM_EXISTS)

    assert (refusal.value.expected, refusal.value.actual) == (STREAM_EXISTS, -1)


def test_another_channel_is_a_mismatch() -> None:
    with pytest.raises(ChannelMismatch) as refusal:
        append([("channel_mismatch", None, None, None, b'{"channel":"x"}')], channel="y")

    assert (refusal.value.channel, refusal.value.actual) == ("y", "x")


def test_known_ids_are_duplicates() -> None:
    id_ = uuid4()
    facts = json.dumps([{"id": str(id_), "stream": "b-1", "version": 3, "same_content": False}])

    with pytest.raises(DuplicateEvent) as refusal:
        append([("duplicate", None, None, None, facts.encode())])

    (duplicate,) = refusal.value.duplicates
    assert (duplicate.id, duplicate.stream, duplicate.version) == (id_, "b-1", 3)
    assert duplicate.same_content is False


def test_a_lost_connection_gives_the_ids_to_look_for() -> None:
    events = [NewEvent("Happened", 1), NewEvent("Happened", 2)]

    with pytest.raises(ConnectionLost, match="gone") as lost:
        append(ConnectionLost("gone"), events=events)

    assert lost.value.event_ids == tuple(event.id for event in events)


def test_nothing_is_sent_for_a_bad_argument() -> None:
    for options in ({"stream": ""}, {"expected": -2}, {"events": []}, {"channel": ""}):
        with pytest.raises(InvalidInput):
            append(**options)


def test_the_parts_of_append_many_are_one_statement() -> None:
    one, two = NewEvent("Happened", 1), NewEvent("Happened", 2)

    played = Played(
        append_plans.append_many(
            WRITING,
            [
                StreamAppend("b-1", [one], 3),
                StreamAppend("a-1", two, ANY, channel="x"),
                StreamAppend("c-1", [], NO_STREAM),
            ],
        ),
        [
            (1, "appended", 4, 17, NOW, None),
            (2, "appended", 0, 18, NOW, None),
            (3, "checked", -1, None, NOW, None),
        ],
    )

    (call,) = played.calls
    assert isinstance(call, AppendStatement)
    assert call.name == "streams.append_many"
    parts = json.loads(str(call.parameters["appends"]))
    assert [(p["stream"], p["channel"], p["expected"]) for p in parts] == [
        ("b-1", None, 3),
        ("a-1", "x", -2),
        ("c-1", None, -1),
    ]
    assert [[event["id"] for event in p["events"]] for p in parts] == [
        [one.id.hex],
        [two.id.hex],
        [],
    ]
    assert [(r.stream, r.version, r.position) for r in played.result] == [
        ("b-1", 4, 17),
        ("a-1", 0, 18),
        ("c-1", -1, 0),
    ]


def test_what_no_retry_can_mend_is_said_first() -> None:
    parts = [StreamAppend(f"{name}-1", NewEvent("Happened", 1), 0, "z") for name in "abc"]
    duplicate = {"id": str(uuid4()), "stream": "b-1", "version": 3, "same_content": True}
    rows: list[Any] = [
        (1, "wrong_version", -1, None, NOW, None),
        (2, "duplicate", 0, None, NOW, json.dumps([duplicate]).encode()),
        (3, "channel_mismatch", 0, None, NOW, b'{"channel":"x"}'),
    ]

    with pytest.raises(ChannelMismatch, match="'c-1'"):
        Played(append_plans.append_many(WRITING, parts), rows)
    with pytest.raises(DuplicateEvent):
        Played(append_plans.append_many(WRITING, parts), rows[:2])
    with pytest.raises(WrongExpectedVersion):
        Played(append_plans.append_many(WRITING, parts), rows[:1])


# Read -----------------------------------------------------------------------------------------


def row(position: int, version: int = 0, data: bytes = b"{}", stream: str = "a-1") -> Any:
    """A stored event, in the form in which the database sends it."""
    event = RecordedEvent(
        position, stream, version, UUID(int=position), "Happened", None, {}, (), "a", NOW, NOW
    )
    return stored_form(event, data, b"{}")


def stream_reading(**options: Any) -> StreamReading:
    return StreamReading(Codec(), "a-1", StreamReadOptions(**options))


EPOCH = uuid4()


def head_at(position: int) -> Rows:
    """What a look at the head brings, in a log without an event there."""
    return [(position, EPOCH, None)]


def log_reading(query: Query | None = None, **options: Any) -> LogReading:
    return LogReading(Codec(), query, LogReadOptions(**options))


def test_the_next_page_of_a_stream_begins_where_the_last_ended() -> None:
    reading = stream_reading()

    first = Played(reading.next_page(), [row(n + 1, n) for n in range(101)])
    second = Played(reading.next_page(), [row(n + 1, n) for n in range(100, 150)])
    third = Played(reading.next_page())

    assert first.calls[0].name == "streams.read_stream"
    assert first.calls[0].parameters["limit"] == 101  # one more shows that more follow
    assert first.calls[0].parameters["to_version"] == 100  # the planner may sort no more
    assert second.calls[0].parameters["from_version"] == 100
    assert [len(played.result) for played in (first, second, third)] == [100, 50, 0]


def test_a_stream_is_read_backwards_from_its_end() -> None:
    reading = stream_reading(backwards=True, from_version=3)

    first = Played(reading.next_page(), [row(n, n) for n in range(199, 98, -1)])
    second = Played(reading.next_page(), [row(n, n) for n in range(99, 2, -1)])

    assert first.calls[0].name == "streams.read_stream.descending"
    assert second.calls[0].parameters["to_version"] == 99
    assert second.calls[0].parameters["from_version"] == 3
    assert Played(reading.next_page()).result == []


def test_a_limit_bounds_what_is_asked_for() -> None:
    reading = stream_reading(limit=130)

    Played(reading.next_page(), [row(n + 1, n) for n in range(101)])
    second = Played(reading.next_page(), [row(n + 1, n) for n in range(100, 130)])

    assert second.calls[0].parameters["limit"] == 30
    assert Played(reading.next_page()).result == []


def test_a_limit_of_0_asks_for_nothing() -> None:
    assert Played(stream_reading(limit=0).next_page()).result == []


def test_a_stream_that_must_exist_is_looked_for_only_where_nothing_was_found() -> None:
    Played(stream_reading(must_exist=True).next_page(), [row(1)])

    with pytest.raises(StreamNotFound):
        Played(stream_reading(must_exist=True).next_page(), [], [])
    found = Played(stream_reading(must_exist=True).next_page(), [], [("a-1", "a", 0, 1, NOW, NOW)])
    assert found.result == []


def test_large_events_make_small_pages() -> None:
    reading = stream_reading()
    data = b'"' + b"x" * 500_000 + b'"'

    Played(reading.next_page(), [row(n + 1, n, data) for n in range(101)])
    second = Played(reading.next_page(), [row(n + 101, n + 100, data) for n in range(8)])

    assert second.calls[0].parameters["limit"] == 8 + 1


def test_a_page_that_cannot_be_decoded_is_read_again() -> None:
    reading = StreamReading(Codec([Happened]), "a-1", StreamReadOptions())
    rows = [row(1, 0), row(2, 1, b'{"number": "none"}')]

    for _ in range(2):
        with pytest.raises(DecodingFailed, match="event 1 of stream 'a-1'"):
            Played(reading.next_page(), list(rows))
    good = Played(reading.next_page(), [row(1, 0), row(2, 1)])

    assert good.calls[0].parameters["from_version"] == 0
    assert len(good.result) == 2


def test_the_log_asks_for_the_head_first_and_once() -> None:
    reading = log_reading(after=2)

    first = Played(reading.next_page(), head_at(150), [row(n) for n in range(3, 104)])
    second = Played(reading.next_page(), [row(n) for n in range(103, 151)])

    assert [call.name for call in first.calls] == ["streams.head_state", "streams.read_log"]
    assert first.calls[1].parameters == {
        "epoch": EPOCH, "anchor": None, "anchor_id": None, "after": 2, "upto": 150, "limit": 101
    }  # fmt: skip
    assert [call.name for call in second.calls] == ["streams.read_log"]
    assert second.calls[0].parameters["after"] == 102
    assert reading.known_head == 150
    assert Played(reading.next_page()).result == []
    assert Played(reading.start()).result == 150


def test_a_log_at_its_head_is_not_read() -> None:
    for after in (7, 9):
        played = Played(log_reading(after=after).next_page(), head_at(7))
        assert [call.name for call in played.calls] == ["streams.head_state"]


def test_the_log_is_read_backwards_from_the_head_down_to_after() -> None:
    reading = log_reading(after=10, backwards=True)

    first = Played(reading.next_page(), head_at(150), [row(n) for n in range(150, 49, -1)])
    second = Played(reading.next_page(), [row(n) for n in range(50, 10, -1)])

    assert first.calls[1].name == "streams.read_log.descending"
    assert (second.calls[0].parameters["after"], second.calls[0].parameters["upto"]) == (10, 50)
    assert Played(reading.next_page()).result == []


@pytest.mark.parametrize(
    ("query", "statement"),
    [
        (None, "streams.read_log"),
        (Query(), "streams.read_log"),
        (Query(types="A") | Query(), "streams.read_log"),
        (Query(types="A"), "streams.read_log_filtered"),
        (Query(types="A") | Query(types="B"), "streams.read_log_any"),
    ],
    ids=["none", "everything", "either", "one", "two"],
)
def test_each_kind_of_query_has_its_statement(query: Query | None, statement: str) -> None:
    for backwards, ending in ((False, ""), (True, ".descending")):
        played = Played(log_reading(query, backwards=backwards).next_page(), head_at(9), [row(9)])
        assert played.calls[1].name == statement + ending


def test_a_filtered_log_is_searched_window_by_window_without_a_hole() -> None:
    for backwards in (False, True):
        head = 10_000_000
        reading = log_reading(Query(types="Rare"), after=5, backwards=backwards)
        windows: list[tuple[int, int]] = []

        def execute(call: Statement, head: int = head, windows: Any = windows) -> Any:
            if call.name == "streams.head_state":
                return head_at(head)
            if call.name == "streams.matching_windows":
                return [(0, [])]
            if call.name == "streams.write_log_windows":
                return [(0,)]
            windows.append((call.parameters["after"], call.parameters["upto"]))
            return []

        assert run(reading.next_page(), execute) == []

        if backwards:
            windows.reverse()
        assert windows[0][0] == 5
        assert windows[-1][1] == head
        assert all(low < high for low, high in windows)
        assert [low for low, _ in windows[1:]] == [high for _, high in windows[:-1]]


def test_a_full_page_in_a_window_goes_on_inside_it() -> None:
    reading = log_reading(Query(types="A"))

    first = Played(reading.next_page(), head_at(100_000), [row(n) for n in range(1, 102)])
    second = Played(reading.next_page(), [row(n) for n in range(101, 103)])
    third = Played(reading.next_page(), [(0, [])], [(0,)], [row(90_000)])

    assert second.calls[0].parameters["after"] == 100
    assert second.calls[0].parameters["upto"] > first.calls[1].parameters["upto"] - 1
    assert third.calls[2].parameters["after"] == second.calls[0].parameters["upto"]


def test_streams_go_on_after_the_last_name() -> None:
    reading = StreamsReading(channel=None, prefix="a")
    page: list[Any] = [(f"a-{n:04}", "a", 0, n, NOW, NOW) for n in range(1_000)]

    Played(reading.next_page(), page)
    second = Played(reading.next_page(), [])

    assert second.calls[0].parameters["after"] == "a-0999"
    assert Played(reading.next_page()).result == []


def test_a_schema_is_compared_with_what_the_library_knows() -> None:
    newest = schema_plans.newest_version()

    functions = schema_plans.FUNCTION_SET
    for newer in (functions, functions + 1):
        Played(
            schema_plans.check(Settings("postgresql://localhost/x", "x")),
            [(newest, newer, None, None, None)],
        )
    for found, number, error in (
        (None, None, SchemaMissing),
        (newest - 1, functions, SchemaOutdated),
        (newest, functions - 1, SchemaOutdated),
        (newest, None, SchemaOutdated),
        (newest + 1, functions, SchemaTooNew),
    ):
        with pytest.raises(error, match="'x'"):
            Played(
                schema_plans.check(Settings("postgresql://localhost/x", "x")),
                [(found, number, None, None, None)],
            )
