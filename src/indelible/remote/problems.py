"""Turn the problem details of a server into the errors of the library."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from indelible.errors import (
    AppendConditionFailed,
    ChannelMismatch,
    ConnectionLost,
    DatabaseError,
    DatabaseUnreachable,
    DecodingFailed,
    Duplicate,
    DuplicateEvent,
    EpochMismatch,
    EventTooLarge,
    GroupExists,
    GroupNotFound,
    IndelibleError,
    InvalidInput,
    LeaseLost,
    PermissionDenied,
    ProjectionNotFound,
    ProjectionNotReady,
    ServerBusy,
    StreamClosed,
    StreamNotClosed,
    StreamNotFound,
    TokenRefused,
    UnknownEventType,
    UpcastingFailed,
    VersionConflict,
    WaitTimeout,
    WrongExpectedVersion,
)
from indelible.serialization.codec import Codec
from indelible.streams.rows import decode_rows

from .requests import StoredEvent, expected_of

BUSY_STATUSES = frozenset({429, 502, 503, 504})
"""The server, or a proxy before it, cannot answer now: the request can be sent again."""


class _Conflict(msgspec.Struct):
    stream: str
    expected: str
    actual: int
    last_event_id: UUID | None = None
    last_recorded_at: datetime | None = None

    def conflict(self) -> VersionConflict:
        return VersionConflict(
            self.stream,
            expected_of(self.expected),
            self.actual,
            self.last_event_id,
            self.last_recorded_at,
        )


class _Problem(msgspec.Struct):
    """The problem details of RFC 9457, and the facts of all kinds."""

    type: str = ""
    detail: str = ""
    conflicts: list[_Conflict] = []
    events: list[StoredEvent] = []
    duplicates: list[Duplicate] = []
    stream: str = ""
    version: int = -1
    closed_at: datetime | None = None
    channel: str = ""
    actual: str = ""
    event_type: str = ""
    size: int = 0
    limit: int = 0
    position: int | None = None
    safe_through: int | None = None
    lost: list[UUID] = []
    checkpoint: str | None = None
    epoch: UUID | None = None
    group: str = ""
    groups: list[str] = []
    projection: str = ""
    projections: list[str] = []


def error_of(status: int, body: bytes, codec: Codec) -> IndelibleError:
    """Return the error that an answer tells about.

    Args:
        status: the HTTP status.
        body: the body of the answer.
        codec: decodes the events in it.
    """
    try:
        problem = msgspec.json.decode(body, type=_Problem, strict=False)
    except msgspec.MsgspecError:
        problem = _Problem()
    kind = problem.type.removeprefix("urn:indelible:")
    detail = problem.detail or f"the server answered with HTTP status {status}"
    return _known(kind, problem, detail, codec) or _of_status(status, kind, detail)


def _known(kind: str, problem: _Problem, detail: str, codec: Codec) -> IndelibleError | None:
    """Return the error of a kind that has facts."""
    match kind:
        case "wrong-expected-version" if problem.conflicts:
            return WrongExpectedVersion([each.conflict() for each in problem.conflicts])
        case "append-condition-failed":
            return AppendConditionFailed(_events(problem.events, codec))
        case "channel-mismatch":
            return ChannelMismatch(problem.stream, problem.channel, problem.actual)
        case "duplicate-event":
            return DuplicateEvent(problem.duplicates)
        case "stream-closed" if problem.closed_at is not None:
            return StreamClosed(problem.stream, problem.version, problem.closed_at)
        case "event-too-large":
            return EventTooLarge(problem.event_type, problem.size, problem.limit)
        case "log-was-restored":
            return EpochMismatch(
                problem.position,
                problem.safe_through,
                problem.lost,
                None if problem.checkpoint is None else UUID(problem.checkpoint),
                problem.epoch,
            )
        case "stream-not-found":
            return StreamNotFound(problem.stream)
        case "stream-not-closed":
            return StreamNotClosed(problem.stream)
        case "group-not-found":
            return GroupNotFound(problem.group, problem.groups)
        case "group-exists":
            return GroupExists(problem.group)
        case "lease-lost":
            return LeaseLost(detail)
        case "projection-not-found":
            return ProjectionNotFound(problem.projection, problem.projections)
        case "projection-not-ready":
            return ProjectionNotReady(problem.projection, problem.version)
        case "wait-timeout":
            return WaitTimeout("", problem.position or 0, int(problem.checkpoint or 0), 0)
        case "connection-lost":
            return ConnectionLost(detail)
    return None


def _of_status(status: int, kind: str, detail: str) -> IndelibleError:
    if status in BUSY_STATUSES or kind == "unavailable":
        return ServerBusy(detail)
    if status == 401:
        return TokenRefused(detail)
    if status == 403:
        return PermissionDenied(detail)
    if kind in ("invalid-input", "too-large", "malformed-json"):
        return InvalidInput(detail)
    if status in (404, 405, 421) or 300 <= status < 400:
        return DatabaseUnreachable(
            f"{detail}: check the URL, which is that of an Indelible server without /api/v1"
        )
    return DatabaseError(detail)


def _events(events: list[StoredEvent], codec: Codec) -> list[Any]:
    """Decode events; if they do not fit their classes, as plain data."""
    rows = [event.row() for event in events]
    try:
        return decode_rows(codec, rows)
    except (UnknownEventType, DecodingFailed, UpcastingFailed):
        return decode_rows(Codec(), rows)
