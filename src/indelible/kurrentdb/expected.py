"""Expected revisions: their numbers, and what a refused append means to a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from indelible import AsyncEventStore, DuplicateEvent, WrongExpectedVersion
from indelible.errors import Duplicate, StreamClosed
from indelible.events import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion

from .failures import Failure, bad_argument, stream_deleted
from .wire import END

Expected = int | ExpectedVersion


@dataclass(frozen=True, slots=True)
class Written:
    """The last event of an append that succeeded, now or before.

    Attributes:
        revision: its revision; -1 for a stream that does not exist.
        position: its position; None if the append had no events.
    """

    revision: int
    position: int | None


@dataclass(frozen=True, slots=True)
class WrongRevision:
    """An append that was refused, because its stream is at another revision.

    Attributes:
        expected: the revision that it expected.
        actual: the revision of the stream; -1 if it does not exist.
    """

    expected: Expected
    actual: int


def expected_of(choice: str | None, revision: int) -> Expected:
    """Return the expected version of a request.

    Args:
        choice: which field of the request is set.
        revision: the revision, if that is the field.

    Raises:
        Failure: none is set, or the revision is out of range.
    """
    match choice:
        case "revision" | "stream_position":
            if revision >= END:
                raise bad_argument(f"{revision} is no revision that a stream can have")
            return revision
        case "no_stream":
            return NO_STREAM
        case "any":
            return ANY
        case "stream_exists":
            return STREAM_EXISTS
    raise bad_argument("the request has no expected revision")


async def outcome_of(
    store: AsyncEventStore,
    stream: str,
    expected: Expected,
    ids: Sequence[UUID],
    error: WrongExpectedVersion | DuplicateEvent | StreamClosed,
) -> Written | WrongRevision | Failure:
    """Return what a refused append means: a retry that succeeded before, or why it was refused.

    The store compares ids, content and versions of a retry. Clients of KurrentDB expect that
    content is never compared, and that `ANY` finds the ids anywhere in the stream.
    """
    match error:
        case StreamClosed():
            return stream_deleted(stream)
        case WrongExpectedVersion():
            return WrongRevision(expected, error.actual)
    known = {found.id: found for found in error.duplicates}
    if isinstance(expected, int) or expected is NO_STREAM:
        first = (expected if isinstance(expected, int) else -1) + 1
        places = [(stream, version) for version in range(first, first + len(ids))]
        if [_place(known.get(event_id)) for event_id in ids] == places:
            return await _written(store, ids[-1])
        actual = await revision_of(store, stream)
        if actual != first - 1:
            return WrongRevision(expected, actual)
    elif _is_in(known.get(ids[0]), stream):
        if all(_is_in(known.get(event_id), stream) for event_id in ids):
            return await _written(store, ids[-1])
        return WrongRevision(expected, await revision_of(store, stream))
    elif expected is STREAM_EXISTS and (await revision_of(store, stream)) == -1:
        return WrongRevision(expected, -1)
    taken = error.duplicates[0]
    return bad_argument(
        f"event id {taken.id} is taken by an event of stream {taken.stream!r}: the ids of a store"
        " are unique, so give each new event a new id"
    )


async def revision_of(store: AsyncEventStore, stream: str) -> int:
    """Return the revision of a stream; -1 if it does not exist."""
    found = await store.stream(stream)
    return -1 if found is None else found.version


def _place(found: Duplicate | None) -> tuple[str, int] | None:
    return None if found is None else (found.stream, found.version)


def _is_in(found: Duplicate | None, stream: str) -> bool:
    return found is not None and found.stream == stream


async def _written(store: AsyncEventStore, event_id: UUID) -> Written:
    event = await store.event(event_id)
    assert event is not None  # noqa: S101 - events are never deleted
    return Written(event.version, event.position)
