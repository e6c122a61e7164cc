"""What a call ends with when it cannot be answered: a status, and facts in trailers.

Clients read the trailers. Some read the text too, so its words are part of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from indelible.errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnreachable,
    IndelibleError,
    InvalidInput,
    PermissionDenied,
    StoreClosed,
    StreamClosed,
    TransactionConflict,
)


class Status(IntEnum):
    """The status codes of gRPC that the server uses."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Failure(Exception):
    """The end of a call that cannot be answered.

    Args:
        status: the status of gRPC.
        text: what is wrong.
        kind: the trailer `exception`, by which clients tell failures apart; None for none.
        facts: more trailers.
    """

    def __init__(
        self,
        status: Status,
        text: str,
        kind: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind
        self.facts: dict[str, str] = {} if kind is None else {"exception": kind}
        self.facts |= {name: str(value) for name, value in (facts or {}).items()}


def bad_argument(text: str) -> Failure:
    """Return the failure of a request that is wrong."""
    return Failure(Status.INVALID_ARGUMENT, text)


def stream_deleted(stream: str) -> Failure:
    """Return the failure of a call on a stream that was deleted for good."""
    return Failure(
        Status.FAILED_PRECONDITION,
        f"Event stream '{stream}' is deleted.",
        "stream-deleted",
        {"stream-name": stream},
    )


def missing_metadata() -> Failure:
    """Return the failure of an event without its type, or without its content type."""
    return Failure(
        Status.INVALID_ARGUMENT,
        "Required Metadata Property is missing: type and content-type",
        "missing-required-metadata-property",
        {"required-metadata-properties": "type,content-type"},
    )


def event_too_large(event_id: object, size: int, limit: int) -> Failure:
    """Return the failure of an event that is too large."""
    return Failure(
        Status.INVALID_ARGUMENT,
        f"Maximum Append Event Size Of {limit} Exceeded",
        "maximum-append-event-size-exceeded",
        {
            "maximum-append-event-size": limit,
            "event-id": event_id,
            "proposed-append-event-size": size,
        },
    )


def append_too_large(limit: int) -> Failure:
    """Return the failure of an append that is too large."""
    return Failure(
        Status.INVALID_ARGUMENT,
        f"Maximum Append Size of {limit} Exceeded.",
        "maximum-append-size-exceeded",
        {"maximum-append-size": limit},
    )


def invalid_position() -> Failure:
    """Return the failure of a read from beyond the end of the log."""
    return bad_argument("Trying to read from an invalid position.")


def unavailable() -> Failure:
    """Return the failure of a call while the server stops, or has no database."""
    return Failure(Status.UNAVAILABLE, "Server Is Not Ready")


def failure_of(error: IndelibleError) -> Failure:
    """Return the failure for an error of the store.

    A client takes UNAVAILABLE, UNKNOWN and INTERNAL for a broken connection. An error that concerns
    one request only is none of these.
    """
    match error:
        case InvalidInput():
            return bad_argument(str(error))
        case StreamClosed():
            return stream_deleted(error.stream)
        case DatabaseUnreachable() | ConnectionLost() | StoreClosed():
            return unavailable()
        case PermissionDenied():
            return Failure(Status.PERMISSION_DENIED, "Access Denied", "access-denied")
        case TransactionConflict() | DatabaseError():
            return Failure(Status.ABORTED, str(error))
        case _:
            return Failure(Status.FAILED_PRECONDITION, str(error))
