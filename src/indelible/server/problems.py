"""Errors as problem details (RFC 9457), with the facts as members."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec
from starlette.responses import Response

from indelible import errors

from . import wire

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = 1
_log = logging.getLogger("indelible.server")


class Problem(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status.
        kind: the last part of its type, such as `wrong-expected-version`.
        detail: what failed, why, and what to do.
        **facts: further members.
    """

    def __init__(self, status: int, kind: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.facts = facts
        self.headers: dict[str, str] = {}

    def body(self) -> bytes:
        """Return the problem as JSON."""
        return msgspec.json.encode(
            {
                "type": f"urn:indelible:{self.kind}",
                "title": self.kind.replace("-", " "),
                "status": self.status,
                "detail": self.detail,
                **self.facts,
            }
        )


def forbidden(detail: str) -> Problem:
    """Return the problem of a principal that lacks a right."""
    return Problem(403, "forbidden", detail)


_STATUS: tuple[tuple[type[errors.IndelibleError], int, str], ...] = (
    (errors.EventTooLarge, 413, "event-too-large"),
    (errors.ChannelMismatch, 409, "channel-mismatch"),
    (errors.StreamClosed, 409, "stream-closed"),
    (errors.StreamNotClosed, 409, "stream-not-closed"),
    (errors.GroupExists, 409, "group-exists"),
    (errors.LeaseLost, 409, "lease-lost"),
    (errors.ProjectionNotReady, 409, "projection-not-ready"),
    (errors.StreamNotFound, 404, "stream-not-found"),
    (errors.GroupNotFound, 404, "group-not-found"),
    (errors.ProjectionNotFound, 404, "projection-not-found"),
    (errors.EpochMismatch, 410, "log-was-restored"),
    (errors.InvalidInput, 422, "invalid-input"),
)
_TRANSIENT = (
    errors.DatabaseUnreachable,
    errors.ServerBusy,
    errors.TransactionConflict,
    errors.StoreClosed,
)


def problem_of(error: Exception) -> Problem:
    """Return the problem that tells about an error, without what the database said."""
    match error:
        case Problem():
            return error
        case errors.WrongExpectedVersion():
            return _wrong_version(error)
        case errors.AppendConditionFailed():
            events = [wire.event_answer(event) for event in error.events]
            return Problem(409, "append-condition-failed", str(error), events=events)
        case errors.DuplicateEvent():
            return _duplicates(error)
        case errors.PermissionDenied():
            _log.error("the server's database role lacks a right: %s", error)
            return Problem(
                403, "server-lacks-right", "the server may not do this: its database role lacks it"
            )
        case errors.WaitTimeout():
            return Problem(
                409,
                "wait-timeout",
                str(error),
                position=str(error.position),
                checkpoint=str(error.checkpoint),
            )
        case errors.ConnectionLost():
            return _unavailable(
                "connection-lost",
                "the connection to the database was lost, and it is not known whether the events"
                " were stored: send the request again with the same event ids, which stores no"
                " event twice",
            )
        case _ if isinstance(error, _TRANSIENT):
            return _unavailable(
                "unavailable", "the database cannot be used now: send the request again"
            )
    for kind, status, name in _STATUS:
        if isinstance(error, kind):
            return Problem(status, name, str(error), **_facts(error))
    _log.exception("a request failed", exc_info=error)
    return Problem(
        500, "internal-error", "the request failed for a reason that the server's log has"
    )


def _facts(error: errors.IndelibleError) -> dict[str, Any]:
    """Return the attributes of an error; integers as text, as everywhere."""
    return {
        name: str(value) if isinstance(value, int) else value
        for name, value in vars(error).items()
        if not name.startswith("_") and name != "location"
    }


def respond(error: Exception) -> Response:
    """Answer a request whose handler raised an error."""
    problem = problem_of(error)
    return Response(problem.body(), problem.status, problem.headers, MEDIA_TYPE)


def _unavailable(kind: str, detail: str) -> Problem:
    problem = Problem(503, kind, detail)
    problem.headers["Retry-After"] = str(_RETRY_SECONDS)
    return problem


def _wrong_version(error: errors.WrongExpectedVersion) -> Problem:
    conflicts = [
        {
            "stream": conflict.stream,
            "expected": version_text(conflict.expected),
            "actual": str(conflict.actual),
            "last_event_id": conflict.last_event_id,
            "last_recorded_at": conflict.last_recorded_at,
        }
        for conflict in error.conflicts
    ]
    first: Mapping[str, Any] = conflicts[0]
    return Problem(
        409,
        "wrong-expected-version",
        str(error),
        expected=first["expected"],
        actual=first["actual"],
        conflicts=conflicts,
    )


def version_text(version: int | Enum) -> str:
    """Return an expected version as the API writes it."""
    if isinstance(version, Enum):
        return version.name.lower().replace("_", "-")
    return str(version)


def _duplicates(error: errors.DuplicateEvent) -> Problem:
    duplicates = [
        {
            "id": duplicate.id,
            "stream": duplicate.stream,
            "version": str(duplicate.version),
            "same_content": duplicate.same_content,
        }
        for duplicate in error.duplicates
    ]
    return Problem(409, "duplicate-event", str(error), duplicates=duplicates)
