"""The metadata of streams, and what it hides."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, StreamState

from indelible import EventStore
from indelible import NewEvent as NativeEvent
from indelible.events import ANY
from indelible.kurrentdb.proto import streams_pb2
from tests.support.kurrentdb_calls import (
    NOTHING,
    Calls,
    append_options,
    kinds,
    log_options,
    proposed,
    stream_options,
)
from tests.support.waiting import wait_until

BACKWARDS = streams_pb2.ReadRequest.BACKWARDS
NEW = streams_pb2.ReadRequest.Control(compatibility=1)


def revisions(answers: Any) -> list[int]:
    return [
        answer.event.event.stream_revision
        for answer in answers
        if answer.WhichOneof("content") == "event"
    ]


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({"$tb": 3}, [3, 4]),
        ({"$maxCount": 2}, [3, 4]),
        ({"$maxCount": 9}, [0, 1, 2, 3, 4]),
        ({"$maxCount": 3, "$tb": 4}, [4]),
        ({"$maxCount": 1, "$tb": 2}, [4]),
        ({"$maxAge": 3_600}, [0, 1, 2, 3, 4]),
        ({"$tb": 5}, []),
        ({"$tb": 100}, []),
        ({"$tb": -1, "$maxCount": 0, "$maxAge": "old"}, [0, 1, 2, 3, 4]),
        ({"$tb": True, "$maxCount": 2.5}, [0, 1, 2, 3, 4]),
    ],
    ids=str,
)
def test_metadata_hides_events_of_a_stream_but_not_of_the_log(
    calls: Calls,
    client: KurrentDBClient,
    store: EventStore,
    metadata: dict[str, Any],
    kept: list[int],
) -> None:
    store.append("order-1", NativeEvent("Made", {}), expected=ANY)
    for _ in range(4):
        store.append("order-1", NativeEvent("Made", {}), expected=ANY)
    client.set_stream_metadata("order-1", metadata=metadata, current_version=StreamState.NO_STREAM)

    assert revisions(calls.read(stream_options("order-1"))) == kept
    assert revisions(calls.read(stream_options("order-1", count=1))) == kept[:1]
    backwards = stream_options("order-1", start={"end": NOTHING}, read_direction=BACKWARDS)
    assert revisions(calls.read(backwards)) == kept[::-1]
    whole = kinds(calls.read(stream_options("order-1", control_option=NEW)))
    assert whole[-1] == "last_stream_position"
    assert ("first_stream_position" in whole) == (not kept)
    following = calls.read(stream_options("order-1", subscription=NOTHING))
    seen = []
    for answer in following:
        if answer.WhichOneof("content") == "caught_up":
            break
        seen.append(answer)
    following.cancel()
    assert revisions(seen) == kept
    assert len(list(calls.read(log_options()))) == 4 + 5 + 1


def test_an_old_event_is_hidden_by_its_age(
    calls: Calls, client: KurrentDBClient, store: EventStore
) -> None:
    store.append("order-1", NativeEvent("Made", {}), expected=ANY)
    client.set_stream_metadata(
        "order-1", metadata={"$maxAge": 1}, current_version=StreamState.NO_STREAM
    )

    wait_until(lambda: revisions(calls.read(stream_options("order-1"))) == [])
    store.append("order-1", NativeEvent("Made", {}), expected=ANY)
    assert revisions(calls.read(stream_options("order-1"))) == [1]


def test_a_stream_is_not_deleted_by_its_metadata(calls: Calls, store: EventStore) -> None:
    calls.append(append_options("order-1", any=NOTHING), proposed())
    deleted = proposed(data=b'{"$tb":9223372036854775807}')

    with pytest.raises(grpc.RpcError, match="cannot be deleted by its metadata yet") as raised:
        calls.append(append_options("$$order-1", any=NOTHING), deleted)

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert store.stream("$$order-1") is None
    assert kinds(calls.read(stream_options("order-1"))) == ["event"]
