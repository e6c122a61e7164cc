"""Subscriptions to streams and to the log: what is stored, then what comes."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import grpc
import pytest
from kurrentdbclient import CaughtUp, Checkpoint, KurrentDBClient, NewEvent, StreamState

from indelible import EventStore
from indelible import NewEvent as NativeEvent
from indelible.events import ANY
from indelible.kurrentdb.proto import streams_pb2
from tests.support.kurrentdb_calls import (
    NOTHING,
    Calls,
    append_options,
    at,
    calls_of,
    log_options,
    proposed,
    stream_options,
)
from tests.support.kurrentdb_server import kurrentdb_served


def fill(store: EventStore, stream: str, count: int, event_type: str = "Made") -> list[int]:
    made = [NativeEvent(event_type, {}) for _ in range(count)]
    store.append(stream, made, expected=ANY)
    return [event.position for event in store.read(stream)]


def take(answers: Any, *, until: str | None = None, count: int = 10**9) -> list[Any]:
    """Take answers up to one of a kind, or up to a number of events."""
    found: list[Any] = []
    events = 0
    for answer in answers:
        kind = answer.WhichOneof("content")
        found.append(answer)
        events += kind == "event"
        if kind == until or events == count:
            return found
    return found


def events(answers: list[Any]) -> list[tuple[str, int]]:
    return [
        (answer.event.event.stream_identifier.stream_name.decode(),
         answer.event.event.stream_revision)
        for answer in answers
        if answer.WhichOneof("content") == "event"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "stored"),
    [
        ({"first": NOTHING}, [0, 1, 2]),
        ({"revision": 0}, [1, 2]),
        ({"revision": 2}, []),
        ({"end": NOTHING}, []),
        ({"revision": 2**64 - 1}, []),
    ],
    ids=str,
)
def test_a_stream_is_followed_after_a_revision(
    calls: Calls, store: EventStore, start: Any, stored: list[int]
) -> None:
    fill(store, "order-1", 3)
    fill(store, "order-2", 3)

    answers = calls.read(stream_options("order-1", start=start, subscription=NOTHING))
    before = take(answers, until="caught_up")
    fill(store, "order-2", 1)
    fill(store, "order-1", 1)
    after = take(answers, count=1)
    answers.cancel()

    assert before[0].WhichOneof("content") == "confirmation"
    assert str(UUID(subscription := before[0].confirmation.subscription_id)) == subscription
    assert events(before) == [("order-1", revision) for revision in stored]
    assert before[-1].caught_up.HasField("timestamp")
    assert before[-1].caught_up.stream_revision == 2
    assert events(after) == [("order-1", 3)]
    assert len(after) == 1


def test_a_stream_that_does_not_exist_is_waited_for(calls: Calls, store: EventStore) -> None:
    answers = calls.read(stream_options("order-1", subscription=NOTHING))
    take(answers, until="caught_up")
    fill(store, "order-1", 1)

    assert events(take(answers, count=1)) == [("order-1", 0)]
    answers.cancel()


def test_a_revision_that_does_not_exist_yet_is_waited_for(calls: Calls, store: EventStore) -> None:
    fill(store, "order-1", 1)
    answers = calls.read(stream_options("order-1", start={"revision": 1}, subscription=NOTHING))
    take(answers, until="caught_up")
    fill(store, "order-1", 3)

    assert events(take(answers, count=2)) == [("order-1", 2), ("order-1", 3)]
    answers.cancel()


def test_the_log_is_followed_after_a_position(calls: Calls, store: EventStore) -> None:
    made = fill(store, "order-1", 3)

    answers = calls.read(log_options(start=at(made[0]), subscription=NOTHING))
    before = take(answers, until="caught_up")
    fill(store, "order-2", 1)
    after = take(answers, count=1)
    answers.cancel()

    assert events(before) == [("order-1", 1), ("order-1", 2)]
    assert before[-1].caught_up.position.commit_position == made[-1]
    assert events(after) == [("order-2", 0)]


def test_the_log_is_followed_from_its_end(calls: Calls, store: EventStore) -> None:
    fill(store, "order-1", 3)

    answers = calls.read(log_options(start={"end": NOTHING}, subscription=NOTHING))
    before = take(answers, until="caught_up")
    fill(store, "order-2", 1)

    assert events(before) == []
    assert events(take(answers, count=1)) == [("order-2", 0)]
    answers.cancel()


def test_a_position_beyond_the_log_is_refused(calls: Calls, store: EventStore) -> None:
    made = fill(store, "order-1", 1)

    with pytest.raises(grpc.RpcError) as raised:
        list(calls.read(log_options(start=at(made[-1] + 1), subscription=NOTHING)))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def selected(subject: str, **expression: Any) -> Any:
    return streams_pb2.ReadRequest.Filter(
        max=5,
        checkpoint_interval_multiplier=2,
        **{subject: streams_pb2.ReadRequest.Expression(**expression)},
    )


_FILTERS = {
    "types by prefix": selected("event_type", prefix=["Sent"]),
    "types by pattern": selected("event_type", regex="^Sent$"),
    "streams by prefix": selected("stream_identifier", prefix=["cart-"]),
}


@pytest.mark.parametrize("name", _FILTERS)
def test_checkpoints_say_how_far_a_filter_has_looked(
    calls: Calls, store: EventStore, name: str
) -> None:
    chosen = _FILTERS[name]
    fill(store, "order-1", 50)
    fill(store, "cart-1", 1, "Sent")
    made = fill(store, "order-1", 25)

    answers = calls.read(log_options(filter=chosen, subscription=NOTHING))
    before = take(answers, until="caught_up")
    fill(store, "cart-1", 1, "Sent")
    after = take(answers, count=1)
    answers.cancel()

    assert events(before) == [("cart-1", 0)]
    marks = [
        answer.checkpoint.commit_position
        for answer in before
        if answer.WhichOneof("content") == "checkpoint"
    ]
    assert marks == sorted(marks)
    assert marks[-1] == made[-1]  # at the end of the catch-up, and not beyond the last event
    if chosen.WhichOneof("subject") == "event_type":
        # Every ten events that it looks at.
        assert len(marks) == 80 // 10 + 1
        assert [later - earlier for earlier, later in itertools.pairwise(marks[:-1])] == [10] * 7
    assert before[-2].WhichOneof("content") == "checkpoint"
    assert events(after) == [("cart-1", 1)]


def test_the_client_gets_events_checkpoints_and_caught_up(client: KurrentDBClient) -> None:
    client.append_to_stream(
        "order-1", current_version=StreamState.ANY, events=[NewEvent("Made", b"{}")] * 1
    )
    subscription = client.subscribe_to_all(include_checkpoints=True, include_caught_up=True)

    found = list(itertools.islice(subscription, 3))
    subscription.stop()

    assert found[0].type == "Made"
    assert isinstance(found[1], Checkpoint)
    assert isinstance(found[2], CaughtUp)


def test_a_subscription_goes_on_after_a_restart_of_the_server(
    url: str, schema: str, store: EventStore
) -> None:
    with ExitStack() as clients:
        with kurrentdb_served(url, schema) as address:
            calls = clients.enter_context(calls_of(address))
            fill(store, "order-1", 2)
            answers = calls.read(log_options(subscription=NOTHING))
            seen = take(answers, until="caught_up")
            last = seen[-1].caught_up.position.commit_position
            port = int(address.rpartition(":")[2].partition("?")[0])
        with pytest.raises(grpc.RpcError) as raised:
            take(answers)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    fill(store, "order-2", 2)

    with kurrentdb_served(url, schema, port=port) as address, calls_of(address) as calls:
        answers = calls.read(log_options(start=at(last), subscription=NOTHING))
        assert events(take(answers, until="caught_up")) == [("order-2", 0), ("order-2", 1)]
        answers.cancel()


def test_119_subscriptions_on_one_connection_all_get_the_event(
    calls: Calls, store: EventStore
) -> None:
    fill(store, "order-1", 1)
    following = [
        calls.read(
            log_options(start={"end": NOTHING}, subscription=NOTHING)
            if number % 2
            else stream_options("order-1", subscription=NOTHING),
            timeout=60,
        )
        for number in range(119)
    ]
    for answers in following:
        take(answers, until="caught_up")

    calls.append(append_options("order-1", any=NOTHING), proposed())

    for answers in following:
        assert events(take(answers, count=1)) == [("order-1", 1)]
        answers.cancel()
    assert calls.features().methods


def test_a_subscription_ends_at_its_deadline(calls: Calls) -> None:
    started = time.monotonic()

    with pytest.raises(grpc.RpcError) as raised:
        list(calls.read(log_options(subscription=NOTHING), timeout=0.5))

    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 10


def test_a_slow_reader_holds_back_only_itself(calls: Calls, store: EventStore) -> None:
    slow = calls.read(log_options(subscription=NOTHING))
    next(slow)
    store.append(
        "order-1", [NativeEvent("Made", {"x": "x" * 100_000}) for _ in range(100)], expected=ANY
    )

    fast = take(calls.read(log_options(subscription=NOTHING)), until="caught_up")

    assert len(events(fast)) == 104
    slow.cancel()
