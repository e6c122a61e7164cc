"""Reads of streams and of the log, from everywhere, both ways, with filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

from indelible import EventStore
from indelible import NewEvent as NativeEvent
from indelible.events import ANY
from indelible.kurrentdb.proto import streams_pb2
from tests.support.kurrentdb_calls import (
    NOTHING,
    Calls,
    append_options,
    at,
    kinds,
    log_options,
    proposed,
    stream_options,
)

BACKWARDS = streams_pb2.ReadRequest.BACKWARDS
END = {"end": NOTHING}
NEW = streams_pb2.ReadRequest.Control(compatibility=1)


def fill(store: EventStore, stream: str, count: int, event_type: str = "Made") -> list[int]:
    """Append events natively; return their positions."""
    made = [NativeEvent(event_type, {"n": number}) for number in range(count)]
    store.append(stream, made, expected=ANY)
    return [event.position for event in store.read(stream)]


def revisions(answers: Any) -> list[int]:
    return [
        answer.event.event.stream_revision
        for answer in answers
        if answer.WhichOneof("content") == "event"
    ]


def positions(answers: Any) -> list[int]:
    return [answer.event.commit_position for answer in answers]


@pytest.mark.parametrize(
    ("start", "fields", "expected"),
    [
        ({"first": NOTHING}, {}, [0, 1, 2, 3, 4]),
        ({"first": NOTHING}, {"count": 2}, [0, 1]),
        ({"revision": 3}, {}, [3, 4]),
        ({"revision": 9}, {}, []),
        ({"revision": 2**64 - 1}, {}, []),
        (END, {}, []),
        (END, {"read_direction": BACKWARDS}, [4, 3, 2, 1, 0]),
        (END, {"read_direction": BACKWARDS, "count": 1}, [4]),
        ({"revision": 2}, {"read_direction": BACKWARDS}, [2, 1, 0]),
        ({"revision": 9}, {"read_direction": BACKWARDS, "count": 2}, [4, 3]),
        ({"revision": 2**64 - 1}, {"read_direction": BACKWARDS, "count": 1}, [4]),
        ({"first": NOTHING}, {"read_direction": BACKWARDS}, [0]),
        ({"first": NOTHING}, {"count": 0}, []),
    ],
    ids=str,
)
def test_a_stream_is_read_from_everywhere_both_ways(
    calls: Calls, store: EventStore, start: Any, fields: Any, expected: list[int]
) -> None:
    fill(store, "order-1", 5)

    answers = list(calls.read(stream_options("order-1", start=start, **fields)))

    assert revisions(answers) == expected
    assert kinds(answers) == ["event"] * len(expected)


def test_a_newer_client_is_told_where_a_stream_begins_and_ends(
    calls: Calls, store: EventStore
) -> None:
    fill(store, "order-1", 5)

    whole = list(calls.read(stream_options("order-1", control_option=NEW)))
    beyond = list(calls.read(stream_options("order-1", start={"revision": 9}, control_option=NEW)))

    assert kinds(whole) == ["event"] * 5 + ["last_stream_position"]
    assert whole[-1].last_stream_position == 4
    assert kinds(beyond) == ["first_stream_position", "last_stream_position"]
    assert beyond[0].first_stream_position == 5


def test_a_missing_stream_is_an_answer_and_no_error(calls: Calls) -> None:
    (answer,) = calls.read(stream_options("nowhere-1"))

    assert answer.stream_not_found.stream_identifier.stream_name == b"nowhere-1"


def test_an_event_has_the_facts_of_the_store(calls: Calls, store: EventStore) -> None:
    fill(store, "order-1", 1)
    (stored,) = store.read("order-1")

    (text,) = calls.read(stream_options("order-1"))
    (numbers,) = calls.read(
        stream_options("order-1", uuid_option=streams_pb2.ReadRequest.UuidForm(structured=NOTHING))
    )

    found = text.event.event
    assert found.id.text == str(stored.id)
    halves = numbers.event.event.id.structured
    high, low = halves.most_significant_bits % 2**64, halves.least_significant_bits % 2**64
    assert UUID(int=high << 64 | low) == stored.id
    assert found.stream_identifier.stream_name == b"order-1"
    assert (found.commit_position, found.prepare_position) == (stored.position,) * 2
    assert text.event.commit_position == stored.position
    assert found.metadata["type"] == "Made"
    assert int(found.metadata["created"]) == int(stored.recorded_at.timestamp() * 1e6) * 10


def test_a_long_stream_is_read_whole(calls: Calls, store: EventStore) -> None:
    fill(store, "order-1", 10_000)

    assert revisions(calls.read(stream_options("order-1", count=2**63))) == list(range(10_000))


def test_the_log_is_read_from_everywhere_both_ways(calls: Calls, store: EventStore) -> None:
    made = fill(store, "order-1", 5)
    whole = positions(calls.read(log_options()))
    assert whole[-5:] == made
    assert len(whole) == 9  # the events of the system come first

    def read(start: Any = None, **fields: Any) -> list[int]:
        start = {"first": NOTHING} if start is None else start
        return positions(calls.read(log_options(start=start, **fields)))

    assert read(at(made[2])) == made[2:]
    assert read(at(made[2]), count=2) == made[2:4]
    assert read(at(0)) == whole
    assert read(END) == []
    assert read(at(2**64 - 1)) == []
    assert read(END, read_direction=BACKWARDS) == whole[::-1]
    assert read(END, read_direction=BACKWARDS, count=1) == made[-1:]
    assert read(at(made[2]), read_direction=BACKWARDS) == whole[:-3][::-1]
    assert read(at(made[2]), read_direction=BACKWARDS, count=1) == [made[1]]
    assert read(at(2**64 - 1), read_direction=BACKWARDS, count=1) == made[-1:]
    assert read(at(0), read_direction=BACKWARDS) == []
    assert read({"first": NOTHING}, read_direction=BACKWARDS) == []
    assert read(count=0) == []


def test_a_position_beyond_the_log_is_refused(calls: Calls, store: EventStore) -> None:
    made = fill(store, "order-1", 1)

    for fields in ({}, {"read_direction": BACKWARDS}):
        with pytest.raises(grpc.RpcError) as raised:
            list(calls.read(log_options(start=at(made[-1] + 1), **fields)))
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert raised.value.details() == "Trying to read from an invalid position."


def test_an_append_is_found_at_once_while_another_transaction_is_open(
    calls: Calls, store: EventStore, url: str
) -> None:
    with store.transaction() as open_transaction:
        open_transaction.append("slow-1", NativeEvent("Made", {}), expected=ANY)
        success = calls.append(append_options("order-1", any=NOTHING), proposed()).success
        other = success.position.commit_position
        pending = calls.read(log_options(start=at(other)))
        open_transaction.append("slow-1", NativeEvent("Made", {}), expected=ANY)
    assert other in positions(pending)


def filtered(subject: str, **expression: Any) -> Any:
    return streams_pb2.ReadRequest.Filter(
        max=32,
        checkpoint_interval_multiplier=1,
        **{subject: streams_pb2.ReadRequest.Expression(**expression)},
    )


_FILTERS: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "types by prefix": (
        filtered("event_type", prefix=["Ma"]),
        lambda event: event.type.startswith("Ma"),
    ),
    "types by pattern": (
        filtered("event_type", regex="^(Made|Sent)$"),
        lambda event: event.type in ("Made", "Sent"),
    ),
    "types by look-ahead": (
        filtered("event_type", regex=r"^(?!(\$.+$))"),
        lambda event: event.type[0] != "$",
    ),
    "types by a named group": (
        filtered("event_type", regex="^(?<kind>Sent)"),
        lambda event: event.type == "Sent",
    ),
    "no type": (filtered("event_type", regex="nothing"), lambda event: False),
    "streams by prefix": (
        filtered("stream_identifier", prefix=["order-", "$$"]),
        lambda event: event.stream.startswith(("order-", "$$")),
    ),
    "streams by pattern": (
        filtered("stream_identifier", regex="-[12]$"),
        lambda event: event.stream[-2:] in ("-1", "-2"),
    ),
    "no stream": (filtered("stream_identifier", prefix=["nothing"]), lambda event: False),
    "all": (filtered("event_type"), lambda event: True),
}


@pytest.mark.parametrize("name", _FILTERS)
def test_a_filter_selects_events_both_ways(calls: Calls, store: EventStore, name: str) -> None:
    selected, matches = _FILTERS[name]
    for number in range(3):
        for event_type in ("Made", "Sent", "Mailed"):
            fill(store, f"order-{number}", 1, event_type)
            fill(store, f"cart-{number}", 1, event_type)
    expected = [event.position for event in store.read_all() if matches(event)]

    assert positions(calls.read(log_options(filter=selected))) == expected
    assert positions(calls.read(log_options(filter=selected, count=2))) == expected[:2]
    backwards = log_options(start=END, filter=selected, read_direction=BACKWARDS)
    assert positions(calls.read(backwards)) == expected[::-1]
    backwards.count = 1
    assert positions(calls.read(backwards)) == expected[::-1][:1]


_WRONG_FILTERS = {
    "no pattern": filtered("event_type", regex="("),
    "too long": filtered("event_type", regex="a" * 20_000),
    "no subject": streams_pb2.ReadRequest.Filter(count=NOTHING, checkpoint_interval_multiplier=1),
    "no window": streams_pb2.ReadRequest.Filter(
        event_type=streams_pb2.ReadRequest.Expression(), checkpoint_interval_multiplier=1
    ),
    "no multiplier": streams_pb2.ReadRequest.Filter(
        event_type=streams_pb2.ReadRequest.Expression(), count=NOTHING
    ),
}


@pytest.mark.parametrize("name", _WRONG_FILTERS)
def test_a_wrong_filter_is_refused(calls: Calls, name: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        list(calls.read(log_options(filter=_WRONG_FILTERS[name])))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_python_client_reads_what_it_has_written(client: KurrentDBClient) -> None:
    at_first = client.append_to_stream(
        "order-1",
        current_version=StreamState.NO_STREAM,
        events=[NewEvent("OrderPlaced", b'{"n": 1}')],
    )
    client.append_to_stream(
        "order-1", current_version=0, events=[NewEvent("OrderPaid", b'{"n": 2}')]
    )

    found = [(event.type, event.data) for event in client.read_all(commit_position=at_first)]

    assert found == [("OrderPlaced", b'{"n":1}'), ("OrderPaid", b'{"n":2}')]
    assert client.get_current_version("order-1") == 1
    assert client.get_current_version("order-2") is StreamState.NO_STREAM
    assert client.get_commit_position() == at_first + 1
    assert client.get_commit_position(filter_include=["None"]) == 0


def test_an_erased_event_is_empty_and_a_closed_stream_is_read(
    calls: Calls, store: EventStore
) -> None:
    fill(store, "order-1", 2)
    store.close_stream("order-1", expected=1)
    store.erase_stream("order-1", reason="asked for")

    answers = list(calls.read(stream_options("order-1")))

    assert [answer.event.event.data for answer in answers] == [b"", b""]


def test_native_events_with_all_that_the_protocol_lacks_are_read(
    calls: Calls, store: EventStore
) -> None:
    store.append(
        "order-1",
        NativeEvent("Made", {"a": 1}, metadata={"by": "ann"}, tags=["order:1"]),
        expected=ANY,
        channel="shop",
    )

    (answer,) = calls.read(stream_options("order-1"))
    success = calls.append(append_options("order-1", revision=0), proposed()).success

    assert answer.event.event.data == b'{"a":1}'
    assert answer.event.event.custom_metadata == b'{"by":"ann"}'
    assert success.current_revision == 1
    found = store.stream("order-1")
    assert found is not None
    assert found.channel == "shop"
