"""Appends: expected revisions, retries, batches, sizes, content."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import WrongCurrentVersionError

from indelible import EventStore
from indelible import NewEvent as NativeEvent
from indelible.events import ANY
from indelible.kurrentdb.proto import shared_pb2
from tests.support.kurrentdb_calls import (
    NOTHING,
    Calls,
    append_options,
    batch,
    calls_of,
    event,
    kinds,
    proposed,
    stream_options,
)

# How a stream is, and what each expected revision makes of an append to it.
STATES = ["missing", "written", "metadata only", "closed"]
EXPECTED: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    "no_stream": ({"no_stream": NOTHING}, {"missing": True, "metadata only": True}),
    "any": ({"any": NOTHING}, {"missing": True, "written": True, "metadata only": True}),
    "stream_exists": ({"stream_exists": NOTHING}, {"written": True, "metadata only": True}),
    "0": ({"revision": 0}, {}),
    "1": ({"revision": 1}, {"written": True}),
    "7": ({"revision": 7}, {}),
}


def make(store: EventStore, state: str) -> str:
    """Make a stream of a state; return its name."""
    if state in ("written", "closed"):
        store.append("order-1", [NativeEvent("Made", {}), NativeEvent("Made", {})], expected=ANY)
    if state == "closed":
        store.close_stream("order-1", expected=1)
    return "order-1"


def position_of(store: EventStore, stream: str) -> int:
    found = store.stream(stream)
    assert found is not None
    return found.position


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("expected", EXPECTED)
def test_an_append_succeeds_if_the_stream_is_at_the_expected_revision(
    calls: Calls, client: KurrentDBClient, store: EventStore, state: str, expected: str
) -> None:
    stream = make(store, state)
    if state == "metadata only":
        client.set_stream_metadata(stream, metadata={"a": 1}, current_version=StreamState.NO_STREAM)
    fields, succeeds = EXPECTED[expected]
    last = 1 if state == "written" else -1
    request = append_options(stream, **fields)

    if state == "closed":
        with pytest.raises(grpc.RpcError) as raised:
            calls.append(request, proposed())
        assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert raised.value.details() == "Event stream 'order-1' is deleted."
        assert dict(raised.value.trailing_metadata())["exception"] == "stream-deleted"
        assert dict(raised.value.trailing_metadata())["stream-name"] == "order-1"
    else:
        answer = calls.append(request, proposed(), proposed())
        if succeeds.get(state):
            assert answer.success.current_revision == last + 2
            assert answer.success.position.commit_position == position_of(store, stream)
        else:
            wrong = answer.wrong_expected_version
            if last < 0:
                assert wrong.HasField("current_no_stream")
                assert wrong.HasField("old_no_stream")
            else:
                assert (wrong.current_revision, wrong.old_current_revision) == (last, last)
            name = f"expected_{'revision' if expected.isdigit() else expected}"
            assert wrong.WhichOneof("expected") == name
            if expected == "no_stream":
                assert wrong.old_expected_revision == 2**64 - 1


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("expected", EXPECTED)
def test_a_batch_answers_as_an_append_does(
    calls: Calls, client: KurrentDBClient, store: EventStore, state: str, expected: str
) -> None:
    stream = make(store, state)
    if state == "metadata only":
        client.set_stream_metadata(stream, metadata={"a": 1}, current_version=StreamState.NO_STREAM)
    _, succeeds = EXPECTED[expected]
    last = 1 if state == "written" else -1
    options: dict[str, Any] = (
        {"stream_position": int(expected)} if expected.isdigit() else {expected: Empty()}
    )
    correlation = uuid4()

    (answer,) = calls.batches([batch(stream, event(), correlation=correlation, **options)])

    assert answer.correlation_id.text == str(correlation)
    assert answer.stream_identifier.stream_name == b"order-1"
    assert answer.WhichOneof("expected") == next(iter(options))
    if state == "closed":
        assert (answer.error.code, answer.error.message) == (5, "StreamDeleted")
        assert answer.error.details.type_url == (
            "type.googleapis.com/event_store.client.StreamDeleted"
        )
    elif succeeds.get(state):
        assert answer.success.current_revision == last + 1
        assert answer.success.position.commit_position == position_of(store, stream)
    else:
        assert (answer.error.code, answer.error.message) == (6, "WrongExpectedVersion")
        assert answer.error.details.type_url == (
            "type.googleapis.com/event_store.client.WrongExpectedVersion"
        )
        details = shared_pb2.WrongExpectedVersion.FromString(answer.error.details.value)
        if last < 0:
            assert details.HasField("current_no_stream")
        else:
            assert details.current_stream_revision == last


@pytest.mark.parametrize(
    "expected", [{"no_stream": NOTHING}, {"any": NOTHING}, {"stream_exists": NOTHING}]
)
def test_a_retry_is_the_first_result_also_after_later_events_and_with_other_content(
    calls: Calls, expected: dict[str, Any]
) -> None:
    ids = [uuid4(), uuid4()]
    if "stream_exists" in expected:
        calls.append(append_options("s-1", any=NOTHING), proposed())
    first = calls.append(
        append_options("s-1", **expected), *(proposed(b"{}", id=each) for each in ids)
    )
    calls.append(append_options("s-1", any=NOTHING), proposed())

    again = calls.append(
        append_options("s-1", **expected), *(proposed(b'{"n":2}', id=each) for each in ids)
    )

    assert again == first
    assert again.WhichOneof("outcome") == "success"


def test_a_retry_at_an_exact_revision_compares_the_ids_that_follow_it(calls: Calls) -> None:
    ids = [uuid4() for _ in range(4)]
    calls.append(append_options("s-1", no_stream=NOTHING), *(proposed(id=each) for each in ids))

    def again(revision: int, *given: UUID) -> Any:
        return calls.append(
            append_options("s-1", revision=revision), *(proposed(id=each) for each in given)
        )

    assert again(0, ids[1], ids[2]).success.current_revision == 2
    assert again(1, ids[2], ids[3]).success.current_revision == 3
    assert again(0, ids[2], ids[3]).wrong_expected_version.current_revision == 3
    assert again(1, ids[2], uuid4()).wrong_expected_version.current_revision == 3
    assert again(2, ids[3], uuid4()).wrong_expected_version.current_revision == 3


def test_a_retry_at_any_revision_needs_all_ids_in_this_stream(calls: Calls) -> None:
    ids = [uuid4(), uuid4()]
    calls.append(append_options("s-1", any=NOTHING), *(proposed(id=each) for each in ids))

    partly = calls.append(
        append_options("s-1", any=NOTHING), proposed(id=ids[0]), proposed(id=uuid4())
    )
    turned = calls.append(
        append_options("s-1", any=NOTHING), proposed(id=ids[1]), proposed(id=ids[0])
    )

    assert partly.wrong_expected_version.HasField("expected_any")
    assert turned.success.current_revision == 0


def test_an_id_of_another_stream_is_refused(calls: Calls) -> None:
    taken = uuid4()
    calls.append(append_options("s-1", any=NOTHING), proposed(id=taken))

    with pytest.raises(grpc.RpcError, match="taken") as raised:
        calls.append(append_options("s-2", any=NOTHING), proposed(id=taken))
    (answer,) = calls.batches([batch("s-2", event(id=taken), any=Empty())])

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (answer.error.code, answer.error.message) == (3, "BadRequest")
    assert answer.error.details.type_url == "type.googleapis.com/event_store.client.BadRequest"


def test_of_two_writers_at_once_one_succeeds(address: str) -> None:
    clients = [KurrentDBClient(address) for _ in range(2)]
    rounds, wins, refusals = 20, [], []

    def write(client: KurrentDBClient) -> None:
        for number in range(rounds):
            start.wait()
            try:
                client.append_to_stream(
                    "race-1", current_version=number - 1 if number else StreamState.NO_STREAM,
                    events=[NewEvent("Made", b"{}")],
                )  # fmt: skip
                wins.append(number)
            except WrongCurrentVersionError:
                refusals.append(number)
            start.wait()

    start = threading.Barrier(2, timeout=30)
    threads = [threading.Thread(target=write, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wins == refusals == list(range(rounds))
    for client in clients:
        client.close()


def test_an_append_without_events_checks_the_revision_only(calls: Calls) -> None:
    calls.append(append_options("s-1", any=NOTHING), proposed())

    good = calls.append(append_options("s-1", revision=0))
    bad = calls.append(append_options("s-1", revision=3))

    assert good.success.current_revision == 0
    assert good.success.HasField("no_position")
    assert bad.wrong_expected_version.current_revision == 0


def test_a_batch_takes_the_next_append_before_the_last_one_is_done(calls: Calls) -> None:
    names = {uuid4(): f"s-{number}" for number in range(200)}
    requests = [
        batch(name, event(), event(), correlation=key, no_stream=Empty())
        for key, name in names.items()
    ]

    answers = list(calls.batches(requests))

    assert {UUID(each.correlation_id.text) for each in answers} == set(names)
    assert all(each.success.current_revision == 1 for each in answers)


def test_the_parts_of_several_appends_may_be_mixed(calls: Calls) -> None:
    one, two = uuid4(), uuid4()

    answers = list(
        calls.batches(
            [
                batch("s-1", event(), correlation=one, is_final=False, any=Empty()),
                batch("s-2", event(), correlation=two, is_final=False, any=Empty()),
                batch("", event(), correlation=one, is_final=True),
                batch("", event(), event(), correlation=two, is_final=True),
            ]
        )
    )

    found = {each.correlation_id.text: each.success.current_revision for each in answers}
    assert found == {str(one): 1, str(two): 2}


@pytest.mark.parametrize(
    "deadline", [{"at": Timestamp(seconds=1_000)}, {"within": Duration(seconds=-1)}]
)
def test_a_batch_whose_deadline_has_passed_is_not_stored(
    calls: Calls, store: EventStore, deadline: dict[str, Any]
) -> None:
    late, fine = list(
        calls.batches(
            [batch("s-1", event(), any=Empty(), **deadline), batch("s-2", event(), any=Empty())]
        )
    )

    assert (late.error.code, late.error.message) == (4, "Timeout")
    assert fine.success.current_revision == 0
    assert store.stream("s-1") is None


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        (b"\xff\x00", b""),
        (b"not JSON", b""),
        (b"", b""),
        (b'{"a": "\\u0000"}', b""),
        (b"[1e400]", b""),
        (b"{}", b"\xff"),
        (b"{}", b"[1]"),
    ],
)
def test_content_that_the_store_cannot_hold_is_refused(
    calls: Calls, store: EventStore, data: bytes, metadata: bytes
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        calls.append(append_options("s-1", any=NOTHING), proposed(data, custom_metadata=metadata))
    refused, fine = list(
        calls.batches(
            [
                batch("s-1", event(data, custom_metadata=metadata), any=Empty()),
                batch("s-2", event(), any=Empty()),
            ]
        )
    )

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot keep event 'Made'" in raised.value.details()
    assert (refused.error.code, refused.error.message) == (3, "BadRequest")
    assert fine.success.current_revision == 0
    assert store.stream("s-1") is None


def test_json_comes_back_compact(calls: Calls) -> None:
    calls.append(
        append_options("s-1", any=NOTHING),
        proposed(b' {"b": [1.50, 12345678901234567890], "a": "\xc3\xa4"} ',
                 custom_metadata=b'{ "$correlationId": "x" }'),
    )  # fmt: skip

    (answer,) = calls.read(stream_options("s-1"))

    found = answer.event.event
    assert found.data == b'{"a":"\xc3\xa4","b":[1.50,12345678901234567890]}'
    assert found.custom_metadata == b'{"$correlationId":"x"}'
    assert set(found.metadata) == {"type", "created", "content-type"}
    assert found.metadata["content-type"] == "application/json"


@pytest.mark.parametrize("missing", ["type", "content-type"])
def test_an_event_needs_its_type_and_its_content_type(calls: Calls, missing: str) -> None:
    properties = {"type": "Made", "content-type": "application/json"}
    del properties[missing]

    with pytest.raises(grpc.RpcError) as raised:
        calls.append(append_options("s-1", any=NOTHING), proposed(metadata=properties))

    trailers = dict(raised.value.trailing_metadata())
    assert trailers["exception"] == "missing-required-metadata-property"
    assert trailers["required-metadata-properties"] == "type,content-type"


def test_too_large_is_refused_and_the_connection_goes_on(serve: Any, store: EventStore) -> None:
    with calls_of(serve()) as calls:
        large = b'"' + b"x" * (17 * 2**20) + b'"'
        taken = uuid4()
        with pytest.raises(grpc.RpcError) as raised:
            calls.append(append_options("s-1", any=NOTHING), proposed(large, id=taken))
        trailers = dict(raised.value.trailing_metadata())
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert trailers["exception"] == "maximum-append-event-size-exceeded"
        assert trailers["event-id"] == str(taken)
        assert trailers["maximum-append-event-size"] == str(16 * 2**20)
        assert int(trailers["proposed-append-event-size"]) == len(large) + 8

        (answer,) = calls.batches([batch("s-1", event(large), any=Empty())])
        assert (answer.error.code, answer.error.message) == (3, "MaximumAppendEventSizeExceeded")

        with pytest.raises(grpc.RpcError) as raised:
            calls.append(append_options("s-1", any=NOTHING), proposed(b"x" * 22 * 2**20))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

        fine = calls.append(append_options("s-1", any=NOTHING), proposed())
        assert fine.success.current_revision == 0

    with calls_of(serve(max_append_bytes=1_000)) as calls:
        many = [proposed(b'"' + b"x" * 400 + b'"') for _ in range(3)]
        with pytest.raises(grpc.RpcError) as raised:
            calls.append(append_options("s-1", any=NOTHING), *many)
        trailers = dict(raised.value.trailing_metadata())
        assert trailers["exception"] == "maximum-append-size-exceeded"
        assert trailers["maximum-append-size"] == "1000"


def test_an_event_of_15_mib_comes_back(calls: Calls) -> None:
    large = b'"' + b"x" * (15 * 2**20) + b'"'
    calls.append(append_options("s-1", any=NOTHING), proposed(large))

    (answer,) = calls.read(stream_options("s-1"))

    assert answer.event.event.data == large


def test_the_metadata_of_a_stream_is_a_stream_that_shows_its_last_event(
    client: KurrentDBClient, calls: Calls, store: EventStore
) -> None:
    assert client.get_stream_metadata("order-1") == ({}, StreamState.NO_STREAM)
    client.set_stream_metadata("order-1", metadata={"a": 1}, current_version=StreamState.NO_STREAM)
    client.set_stream_metadata("order-1", metadata={"a": 2}, current_version=0)

    assert client.get_stream_metadata("order-1") == ({"a": 2}, 1)
    assert kinds(calls.read(stream_options("$$order-1"))) == ["event"]
    found = store.stream("$$order-1")
    assert found is not None
    assert found.channel == "order"
    assert kinds(calls.read(stream_options("order-1"))) == ["stream_not_found"]


def test_the_library_refuses_names_of_the_system(store: EventStore, address: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        store.append("$$order-1", NativeEvent("Made", {}), expected=ANY)


def test_too_many_unfinished_appends_end_the_call(serve: Any) -> None:
    with calls_of(serve(max_appends=4)) as calls:
        unfinished = [batch("s-1", event(), is_final=False, any=Empty()) for _ in range(5)]
        with pytest.raises(grpc.RpcError) as raised:
            list(calls.batches(unfinished))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        many = [batch("s-1", event(), any=Empty()) for _ in range(40)]
        assert len(list(calls.batches(many))) == 40


def test_appends_of_one_call_to_one_stream_keep_their_order(calls: Calls) -> None:
    requests = [
        batch("s-1", event(), stream_position=number - 1)
        if number
        else batch("s-1", event(), no_stream=Empty())
        for number in range(200)
    ]

    answers = list(calls.batches(requests))

    assert [answer.success.current_revision for answer in answers] == list(range(200))
    assert all(answer.WhichOneof("outcome") == "success" for answer in answers)
