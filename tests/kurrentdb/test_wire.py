"""What is on the wire: what is served, malformed messages, names, errors."""

from __future__ import annotations

import random
from typing import Any

import grpc
import pytest

from indelible import EventStore
from indelible.errors import InvalidInput
from indelible.kurrentdb import KurrentSettings
from indelible.kurrentdb.proto import streams_pb2
from tests.support.kurrentdb_calls import (
    NOTHING,
    STREAMS,
    Calls,
    append_options,
    batch,
    calls_of,
    event,
    kinds,
    log_options,
    proposed,
    stream_options,
)


def test_the_server_says_what_it_serves(calls: Calls) -> None:
    features = calls.features()

    assert features.event_store_server_version == "24.10.0"
    found = {
        (method.service_name, method.method_name): list(method.features)
        for method in features.methods
    }
    streams = "event_store.client.streams.streams"
    assert found == {
        (streams, "append"): [],
        (streams, "batchappend"): ["deadline_duration"],
        (streams, "read"): ["position", "events"],
        ("event_store.client.gossip.gossip", "read"): [],
        ("event_store.client.server_features.serverfeatures", "getsupportedmethods"): [],
    }


def test_the_gossip_names_one_leader_at_the_address_of_the_server(
    calls: Calls, address: str
) -> None:
    (member,) = calls.gossip().members

    assert (member.state, member.is_alive) == (8, True)
    assert member.http_end_point.address == "localhost"
    assert f":{member.http_end_point.port}?" in address
    assert calls.gossip().members[0].instance_id == member.instance_id


def test_the_gossip_names_the_address_that_is_advertised(serve: Any) -> None:
    with calls_of(serve(advertise="db.example.com:7000")) as calls:
        end_point = calls.gossip().members[0].http_end_point

    assert (end_point.address, end_point.port) == ("db.example.com", 7000)


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        (f"{STREAMS}/Delete", "indelible streams close"),
        ("/event_store.client.persistent_subscriptions.PersistentSubscriptions/Create", "group"),
        ("/event_store.client.persistent_subscriptions.PersistentSubscriptions/Read", "group"),
        ("/event_store.client.projections.Projections/Create", "in Python"),
        ("/event_store.client.users.Users/Details", "--insecure"),
        ("/kurrentdb.protocol.v2.streams.StreamsService/AppendRecords", "BatchAppend"),
    ],
)
def test_what_is_not_served_is_refused_with_a_sentence(
    calls: Calls, path: str, advice: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        calls.unary(path)

    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert advice in raised.value.details()


@pytest.mark.parametrize(
    "name", [b"", b"\xff", b"a\x00b", b"a\nb", b"x" * 256], ids=lambda name: repr(name[:8])
)
def test_a_name_that_no_stream_can_have_is_refused(calls: Calls, name: bytes) -> None:
    with pytest.raises(grpc.RpcError) as appended:
        calls.append(append_options(name, any=NOTHING), proposed())
    with pytest.raises(grpc.RpcError) as read:
        list(calls.read(stream_options(name)))

    assert appended.value.code() == read.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["-", "-1", "order", "Straße-1", "日本-1", "a b", "%", "x" * 255])
def test_any_other_name_is_fine(calls: Calls, store: EventStore, name: str) -> None:
    answer = calls.append(append_options(name, any=NOTHING), proposed())
    assert answer.success.current_revision == 0
    assert kinds(calls.read(stream_options(name))) == ["event"]
    store.close_stream(name, expected=0)
    with pytest.raises(grpc.RpcError) as raised:
        calls.append(append_options(name, any=NOTHING), proposed())
    trailers = dict(raised.value.trailing_metadata())
    assert trailers["exception"] == "stream-deleted"
    assert trailers["stream-name"].isascii()


_MALFORMED: dict[str, list[Any]] = {
    "nothing": [],
    "an event first": [proposed()],
    "no revision": [append_options("s-1")],
    "no possible revision": [append_options("s-1", revision=2**63)],
    "options twice": [append_options("s-1", any=NOTHING), append_options("s-1", any=NOTHING)],
    "no id": [append_options("s-1", any=NOTHING), proposed(id="no id")],
    "an event of noise": [append_options("s-1", any=NOTHING), b"\xff\xff\xff"],
    "noise": [b"\xff\xff\xff"],
    "cut off": [b"\x0a\x7f"],
}


@pytest.mark.parametrize("name", _MALFORMED)
def test_a_malformed_append_is_refused_and_the_next_one_is_fine(calls: Calls, name: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        calls.append(*_MALFORMED[name])

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (
        calls.append(append_options("s-1", any=NOTHING), proposed()).success.current_revision == 0
    )


@pytest.mark.parametrize(
    "request_", [batch("s-1", event()), batch("", event())], ids=["no revision", "no options"]
)
def test_a_malformed_batch_is_one_answer_of_the_call(calls: Calls, request_: Any) -> None:
    from google.protobuf.empty_pb2 import Empty

    refused, fine = list(calls.batches([request_, batch("s-2", event(), any=Empty())]))

    assert (refused.error.code, refused.error.message) == (3, "BadRequest")
    assert fine.success.current_revision == 0


@pytest.mark.parametrize(
    "options",
    [
        stream_options("s-1", uuid_option=None),
        log_options(uuid_option=None),
        log_options(subscription=NOTHING, read_direction=1),
        streams_pb2.ReadRequest.Options(count=1),
        streams_pb2.ReadRequest.Options(),
    ],
    ids=["stream without form", "log without form", "backwards", "no source", "nothing"],
)
def test_a_malformed_read_is_refused(calls: Calls, options: Any) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        list(calls.read(options))

    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_random_bytes_end_their_call_only(calls: Calls) -> None:
    seeded = random.Random(24)
    methods = [f"{STREAMS}/{name}" for name in ("Append", "BatchAppend", "Read")]
    for number in range(150):
        path = methods[number % 3]
        call = calls.channel.stream_stream(path, None, None)
        messages = [seeded.randbytes(seeded.randrange(60)) for _ in range(seeded.randrange(1, 3))]
        with pytest.raises(grpc.RpcError) as raised:
            list(call(iter(messages), timeout=20))
            raise _Fine
        assert raised.value.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.OK,
        ), (path, messages, raised.value)
    assert calls.features().methods


class _Fine(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK


def test_an_unknown_method_is_refused(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        calls.unary("/nobody.Knows/It")

    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("host", ["0.0.0.0", "db.example.com", "10.0.0.1"])
def test_without_tls_the_server_is_for_this_machine_only(host: str) -> None:
    with pytest.raises(InvalidInput, match="this machine only"):
        KurrentSettings(host=host)


@pytest.mark.parametrize("advertise", ["db", "db:0", "db:70000", ":1", "a b:1"])
def test_an_address_that_is_none_cannot_be_advertised(advertise: str) -> None:
    with pytest.raises(InvalidInput, match="host and a port"):
        KurrentSettings(advertise=advertise)


def test_an_empty_store_begins_with_events_of_the_system_once(
    serve: Any, store: EventStore
) -> None:
    serve()
    serve()

    found = [(event.stream, event.type) for event in store.read_all()]

    assert len(found) == len(set(found)) == 4
    assert all(stream.startswith("$") and kind.startswith("$") for stream, kind in found)
