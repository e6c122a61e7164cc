"""Each way to append has the same outcome: alone, in a list, in a transaction, in a batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    EventStore,
    NewEvent,
    StreamAppend,
)
from indelible.core.operation import AppendStatement, Operation, Rows, Statement
from indelible.errors import IndelibleError
from indelible.events import ExpectedVersion
from indelible.postgres.commit_queue import Batch, PendingAppend

STREAMS = ["a-1", "b", "ä-ñ'\"\\🙂"]
VALID = datetime(1999, 1, 1, tzinfo=UTC)

Step = tuple[str, list[dict[str, Any]], int | ExpectedVersion, str | None]
Way = Callable[[EventStore, StreamAppend], AppendResult]


def alone(store: EventStore, append: StreamAppend) -> AppendResult:
    return store.append(
        append.stream, append.events, expected=append.expected, channel=append.channel
    )


def in_a_list(store: EventStore, append: StreamAppend) -> AppendResult:
    (result,) = store.append_many([append])
    return result


def in_a_transaction(store: EventStore, append: StreamAppend) -> AppendResult:
    with store.transaction() as transaction:
        return transaction.append(
            append.stream, append.events, expected=append.expected, channel=append.channel
        )


def on_a_lent_connection(store: EventStore, append: StreamAppend) -> AppendResult:
    with store.transaction() as transaction:
        assert not transaction.connection.closed
        return transaction.append(
            append.stream, append.events, expected=append.expected, channel=append.channel
        )


def in_a_batch(store: EventStore, append: StreamAppend) -> AppendResult:
    def share(statement: Statement) -> Operation[Rows]:
        if not isinstance(statement, AppendStatement):
            return (yield statement)
        other = {
            "stream": f"other-{uuid4()}",
            "channel": None,
            "expected": -2,
            "events": f'[{{"id":"{uuid4()}","type":"Happened","data":1}}]',
        }
        entries = [
            PendingAppend(AppendStatement("streams.append", other, ordering_key="other")),
            PendingAppend(statement),
        ]
        rows = yield Batch(entries).statement()
        return [tuple(row) for number, *row in rows if number == 2]

    engine = store._engine
    kept = engine._run_statement
    engine._run_statement = engine.with_hook(share)._run_statement
    try:
        return alone(store, append)
    finally:
        engine._run_statement = kept


WAYS: list[Way] = [alone, in_a_list, in_a_transaction, on_a_lent_connection, in_a_batch]

EVENTS = st.fixed_dictionaries(
    {
        "id": st.sampled_from([0, 1, 2, None, None, None]),
        "data": st.sampled_from([1, None, {"a": 1.5}, "ü🙂", [1, {"b": None}], 2**63, 1e300]),
        "tags": st.sampled_from([(), (), ("k:v",), ("b:1", "a:1")]),
        "metadata": st.sampled_from([{}, {}, {"x": 1}]),
        "valid_at": st.sampled_from([None, None, VALID]),
    }
)
STEPS = st.tuples(
    st.sampled_from(STREAMS),
    st.lists(EVENTS, min_size=1, max_size=3).filter(lambda events: has_each_id_once(events)),
    st.sampled_from([ANY, ANY, NO_STREAM, STREAM_EXISTS, 0, 1, 2, 5]),
    st.sampled_from([None, None, "channel", "a"]),
)


def has_each_id_once(events: list[dict[str, Any]]) -> bool:
    ids = [event["id"] for event in events if event["id"] is not None]
    return len(ids) == len(set(ids))


def run_of(store: EventStore, way: Way, steps: list[Step]) -> tuple[list[Any], list[Any]]:
    """The outcomes and what is stored, without what differs from run to run."""
    run = uuid4().hex
    ids = [uuid4() for _ in range(3)]

    def clean(text: str) -> str:
        for number, event_id in enumerate(ids):
            text = text.replace(str(event_id), f"id {number}")
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "id", text.replace(run, ""))
        return re.sub(r"20\d\d-\S+ ?\S+", "time", text)

    def id_of(number: int | None) -> UUID:
        return uuid4() if number is None else ids[number]

    outcomes: list[Any] = []
    for stream, events, expected, channel in steps:
        new = [NewEvent("Happened", **{**event, "id": id_of(event["id"])}) for event in events]
        append = StreamAppend(stream + run, new, expected=expected, channel=channel)
        try:
            result = way(store, append)
        except IndelibleError as error:
            outcomes.append((type(error), clean(str(error))))
        else:
            last = max(store.read(stream + run), key=lambda event: event.version)
            if not result.idempotent:
                assert (result.position, result.recorded_at) == (last.position, last.recorded_at)
            outcomes.append((clean(result.stream), result.version, result.idempotent))
    stored = [
        (
            event.version,
            event.data,
            event.metadata,
            event.tags,
            event.channel.replace(run, ""),
            event.valid_at == VALID,
            event.id in ids and ids.index(event.id),
        )
        for stream in STREAMS
        for event in store.read(stream + run)
    ]
    return outcomes, stored


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=1, max_size=6))
def test_all_ways_have_the_same_outcomes(sync_store: EventStore, steps: list[Step]) -> None:
    first, *others = [run_of(sync_store, way, steps) for way in WAYS]
    for way, other in zip(WAYS[1:], others, strict=True):
        assert other == first, way
