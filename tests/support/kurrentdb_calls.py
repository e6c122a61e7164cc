"""The calls of the protocol, without a client: what is sent is what the test says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import grpc

from indelible.kurrentdb.proto import cluster_pb2, shared_pb2, streams_pb2

STREAMS = "/event_store.client.streams.Streams"
NOTHING = shared_pb2.Nothing()
JSON = {"type": "Made", "content-type": "application/json"}


class Calls:
    """The methods of a server, by their messages."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def unary(self, path: str, request: bytes = b"", answer: Any = None) -> Any:
        """Call a method with one message; return its answer."""
        call = self.channel.unary_unary(path, None, answer and answer.FromString)
        return call(request, timeout=20)

    def append(self, *requests: Any) -> streams_pb2.AppendAnswer:
        """Append once."""
        call = self.channel.stream_unary(
            f"{STREAMS}/Append", _bytes, streams_pb2.AppendAnswer.FromString
        )
        return call(iter(requests), timeout=20)

    def batches(self, requests: Iterable[Any], timeout: float = 20) -> Any:
        """Append any number of times in one call; iterate over the answers."""
        call = self.channel.stream_stream(
            f"{STREAMS}/BatchAppend", _bytes, streams_pb2.BatchAppendAnswer.FromString
        )
        return call(iter(requests), timeout=timeout)

    def read(self, options: streams_pb2.ReadRequest.Options, timeout: float = 20) -> Any:
        """Read; iterate over the answers."""
        call = self.channel.unary_stream(
            f"{STREAMS}/Read", _bytes, streams_pb2.ReadAnswer.FromString
        )
        return call(streams_pb2.ReadRequest(options=options), timeout=timeout)

    def features(self) -> cluster_pb2.SupportedMethods:
        """Ask what is served."""
        return self.unary(
            "/event_store.client.server_features.ServerFeatures/GetSupportedMethods",
            answer=cluster_pb2.SupportedMethods,
        )

    def gossip(self) -> cluster_pb2.ClusterInfo:
        """Ask who is there."""
        return self.unary("/event_store.client.gossip.Gossip/Read", answer=cluster_pb2.ClusterInfo)


@contextmanager
def calls_of(address: str) -> Iterator[Calls]:
    """Connect to a server."""
    target = address.removeprefix("kurrentdb://").partition("?")[0]
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options) as channel:
        yield Calls(channel)


def append_options(stream: str | bytes, **expected: Any) -> streams_pb2.AppendRequest:
    """Return the first message of an append."""
    return streams_pb2.AppendRequest(
        options=streams_pb2.AppendRequest.Options(stream_identifier=_stream(stream), **expected)
    )


def event(data: bytes = b"{}", **fields: Any) -> streams_pb2.ProposedMessage:
    """Return an event to append."""
    event_id: UUID = fields.pop("id", None) or uuid4()
    return streams_pb2.ProposedMessage(
        id=shared_pb2.Uuid(text=str(event_id)), data=data, **{"metadata": JSON, **fields}
    )


def proposed(data: bytes = b"{}", **fields: Any) -> streams_pb2.AppendRequest:
    """Return a further message of an append."""
    return streams_pb2.AppendRequest(proposed_message=event(data, **fields))


def batch(
    stream: str | bytes,
    *events: Any,
    is_final: bool = True,
    correlation: UUID | None = None,
    **options: Any,
) -> streams_pb2.BatchAppendRequest:
    """Return a message of a batch; without options if the stream is empty text."""
    return streams_pb2.BatchAppendRequest(
        correlation_id=shared_pb2.Uuid(text=str(correlation or uuid4())),
        options=streams_pb2.BatchAppendRequest.Options(stream_identifier=_stream(stream), **options)
        if stream
        else None,
        proposed_messages=events,
        is_final=is_final,
    )


def stream_options(stream: str | bytes, **fields: Any) -> streams_pb2.ReadRequest.Options:
    """Return the options of a read of a stream, from its beginning unless `start` says else."""
    start = fields.pop("start", {"first": NOTHING})
    return _options(
        stream=streams_pb2.ReadRequest.StreamStart(stream_identifier=_stream(stream), **start),
        **fields,
    )


def log_options(**fields: Any) -> streams_pb2.ReadRequest.Options:
    """Return the options of a read of the log."""
    start = fields.pop("start", {"first": NOTHING})
    return _options(all=streams_pb2.ReadRequest.LogStart(**start), **fields)


def at(position: int) -> dict[str, Any]:
    """Return a start at a position."""
    return {"position": shared_pb2.Position(commit_position=position, prepare_position=position)}


def kinds(answers: Iterable[Any]) -> list[str]:
    """Return what the answers of a read are."""
    return [answer.WhichOneof("content") for answer in answers]


def _options(**fields: Any) -> streams_pb2.ReadRequest.Options:
    if "subscription" not in fields:
        fields.setdefault("count", 1_000)
    fields.setdefault("uuid_option", streams_pb2.ReadRequest.UuidForm(text=NOTHING))
    if "filter" not in fields:
        fields["no_filter"] = NOTHING
    return streams_pb2.ReadRequest.Options(**fields)


def _stream(name: str | bytes) -> shared_pb2.StreamIdentifier:
    return shared_pb2.StreamIdentifier(
        stream_name=name if isinstance(name, bytes) else name.encode()
    )


def _bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
