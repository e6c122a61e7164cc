"""Values of the wire: ids, names, positions, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from .failures import bad_argument
from .proto.shared_pb2 import Nothing, Position, StreamIdentifier, Uuid

END = 2**63
"""Positions and revisions from here on mean the end."""
NAME_LENGTH = 255
_UNSEEN = re.compile(r"[\x00-\x1f\x7f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NOTHING = Nothing()


def uuid_of(message: Uuid) -> UUID:
    """Return an id.

    Raises:
        Failure: it is not there, or is no UUID.
    """
    if message.WhichOneof("value") == "structured":
        halves = message.structured
        high, low = halves.most_significant_bits, halves.least_significant_bits
        return UUID(int=(high % 2**64) << 64 | low % 2**64)
    try:
        return UUID(message.text)
    except ValueError as error:
        raise bad_argument(f"{message.text!r} is not a UUID") from error


def uuid_message(value: UUID, *, is_structured: bool = False) -> Uuid:
    """Return the message of an id."""
    if not is_structured:
        return Uuid(text=str(value))
    high, low = (int.from_bytes(part, signed=True) for part in (value.bytes[:8], value.bytes[8:]))
    return Uuid(structured=Uuid.Halves(most_significant_bits=high, least_significant_bits=low))


def stream_name(message: StreamIdentifier) -> str:
    """Return the name of a stream.

    Raises:
        Failure: the store cannot have a stream of this name.
    """
    try:
        name = message.stream_name.decode()
    except UnicodeDecodeError as error:
        raise bad_argument("the name of the stream is not UTF-8") from error
    if not name or len(name) > NAME_LENGTH:
        raise bad_argument(
            f"the name of a stream must have 1 to {NAME_LENGTH} characters; this one has"
            f" {len(name)}"
        )
    if _UNSEEN.search(name):
        raise bad_argument(f"the name of a stream must not contain control characters: {name!r}")
    return name


def identifier(name: str) -> StreamIdentifier:
    """Return the message of a stream's name."""
    return StreamIdentifier(stream_name=name.encode())


def position_message(position: int) -> Position:
    """Return the message of a position: its commit and its prepare are the same here."""
    return Position(commit_position=position, prepare_position=position)


def ticks(moment: datetime) -> str:
    """Return a time as text: units of 100 ns since 1970."""
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return str(seconds * 10_000_000 + since.microseconds * 10)


def now() -> Timestamp:
    """Return the time of now."""
    message = Timestamp()
    message.GetCurrentTime()
    return message
