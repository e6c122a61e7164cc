"""Operations: find the events of a correlation, and what caused an event.

The correlation of an event, and the event that caused it, are fields of its metadata:
`correlation_id` and `causation_id`, or `$correlationId` and `$causationId`. An index on the first
is optional, because it makes appends of events that have the field slower. Without it, events are
found by a tag of the same value, or near a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from indelible.core.operation import Operation, Statement
from indelible.query import Query
from indelible.streams.query_parameters import items_json

NEAR = 100_000
"""How many positions before and behind an event are looked at without an index."""
NEXT = 10_000
"""How many of them if it is only asked what an event has led to."""
MOST = 200


@dataclass(frozen=True, slots=True)
class CorrelatedEvent:
    """An event of a correlation, without its data.

    Attributes:
        position, stream, version, id, type, recorded_at: as of a `RecordedEvent`.
        correlation: its correlation; None without one.
        causation: the id of the event or command that caused it; None without one.
    """

    position: int
    stream: str
    version: int
    id: UUID
    type: str
    recorded_at: datetime
    correlation: str | None
    causation: str | None


@dataclass(frozen=True, slots=True)
class Correlation:
    """The events of a correlation.

    Attributes:
        events: the events, in order of position.
        found_by: index: all of them; tag: those with a tag of the same value; near: those near a
            position; none: there was nothing to go by.
        tag: the tag.
        after, upto: the positions that were looked at: after the first, up to the second.
        is_cut: whether there are more than the limit.
    """

    events: tuple[CorrelatedEvent, ...]
    found_by: Literal["index", "tag", "near", "none"]
    tag: str | None
    after: int
    upto: int
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Links:
    """What caused an event, what it led to, and its correlation.

    Attributes:
        cause: the event that caused it; None if it is not known, or may not be read.
        effects: the events that it caused, as far as was looked.
        correlation: the events of its correlation, as far as was looked; None without one.
        upto: the position up to which effects were looked for; None for all of the correlation.
    """

    cause: CorrelatedEvent | None
    effects: tuple[CorrelatedEvent, ...]
    correlation: Correlation | None
    upto: int | None


def correlated(
    value: str,
    *,
    upto: int,
    near: int | None = None,
    tags: Sequence[str] = (),
    query: Query | None = None,
    limit: int = MOST,
) -> Operation[Correlation]:
    """Find the events of a correlation.

    It is a range of the index, if there is one. Without it, it is a range of the index of tags, if
    one of the given tags has the value; else the 200,000 positions around a position.

    Args:
        value: the correlation.
        upto: the head: no event behind it is returned.
        near: the position around which to look without an index; None for nowhere.
        tags: the tags of an event of the correlation.
        query: only events that match it; None for all.
        limit: the largest number of events.
    """
    common = {"value": value, "upto": upto, "items": items_json(query), "limit": limit + 1}
    if (yield from has_index()):
        rows = yield Statement("admin.correlated", common, prepared=False)
        return _correlation(rows, limit, "index", None, 0, upto)
    tag = next((tag for tag in tags if tag.partition(":")[2] == value or tag == value), None)
    if tag is not None:
        rows = yield Statement("admin.correlated_tagged", {**common, "tag": tag}, prepared=False)
        return _correlation(rows, limit, "tag", tag, 0, upto)
    if near is None:
        return Correlation((), "none", None, 0, 0, is_cut=False)
    after, end = max(near - NEAR, 0), min(near + NEAR, upto)
    rows = yield Statement(
        "admin.correlated_near",
        {**common, "after": after, "upto": end, "cause": None},
        prepared=False,
    )
    return _correlation(rows, limit, "near", None, after, end)


def links(
    event_id: UUID,
    *,
    position: int,
    correlation: str | None,
    causation: str | None,
    upto: int,
    query: Query | None = None,
) -> Operation[Links]:
    """Find what caused an event, and what it led to.

    The cause is found by its id. Effects are those of the correlation if it has an index; else the
    20,000 positions around the event are looked at.

    Args:
        event_id: the event.
        position: its position.
        correlation: its correlation; None without one.
        causation: the id of its cause; None without one.
        upto: the head: no event behind it is returned.
        query: only events that match it; None for all.
    """
    items = items_json(query)
    cause_id = _id_of(causation)
    cause = None
    if cause_id is not None and cause_id != event_id:
        found = yield from events_by_id([cause_id], upto=upto, query=query)
        cause = next(iter(found), None)
    if correlation is not None and (yield from has_index()):
        rows = yield Statement(
            "admin.correlated",
            {"value": correlation, "upto": upto, "items": items, "limit": MOST + 1},
            prepared=False,
        )
        together = _correlation(rows, MOST, "index", None, 0, upto)
        return Links(cause, _effects(together.events, event_id), together, None)
    after, end = max(position - NEXT, 0), min(position + NEXT, upto)
    rows = yield Statement(
        "admin.correlated_near",
        {
            "value": correlation,
            "cause": str(event_id),
            "after": after,
            "upto": end,
            "items": items,
            "limit": MOST + 1,
        },
        prepared=False,
    )
    near = _correlation(rows, MOST, "near", None, after, end)
    together = Correlation(
        tuple(each for each in near.events if each.correlation == correlation),
        "near",
        None,
        after,
        end,
        near.is_cut,
    )
    return Links(
        cause, _effects(near.events, event_id), None if correlation is None else together, end
    )


def events_by_id(
    ids: Sequence[UUID], *, upto: int, query: Query | None = None
) -> Operation[list[CorrelatedEvent]]:
    """Return events by their ids, without their data, in order of position.

    Args:
        ids: the ids.
        upto: the head: no event behind it is returned.
        query: only events that match it; None for all.
    """
    if not ids:
        return []
    rows = yield Statement(
        "admin.correlated_events", {"ids": list(ids), "upto": upto, "items": items_json(query)}
    )
    return [_event(row) for row in rows]


def has_index() -> Operation[bool]:
    """Return whether there is an index on the correlation of events."""
    ((found,),) = yield Statement("admin.correlation_index")
    return bool(found)


def _correlation(
    rows: Sequence[tuple[Any, ...]],
    limit: int,
    found_by: Literal["index", "tag", "near"],
    tag: str | None,
    after: int,
    upto: int,
) -> Correlation:
    events = tuple(_event(row) for row in rows[:limit])
    return Correlation(events, found_by, tag, after, upto, is_cut=len(rows) > limit)


def _effects(events: Sequence[CorrelatedEvent], event_id: UUID) -> tuple[CorrelatedEvent, ...]:
    return tuple(each for each in events if _id_of(each.causation) == event_id)


def _event(row: tuple[Any, ...]) -> CorrelatedEvent:
    return CorrelatedEvent(*row)


def _id_of(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:  # the id of a command may be any text
        return None
