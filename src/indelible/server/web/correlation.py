"""The events of a correlation: a graph with a lane for each stream, or a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.admin.correlation import (
    MOST,
    NEAR,
    CorrelatedEvent,
    Correlation,
    correlated,
    links,
)
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.server.routing import Call

from . import formats, rendering
from .json_tree import parse
from .page import page
from .rights import readable

_GRAPH = 60
"""The largest number of events that are drawn unasked."""
_EFFECTS = 5
_DEEPEST = 12
_LANE, _STEP, _NAMES, _TOP = 56, 140, 232, 36
INDEX_COMMAND = "indelible store index-correlation"


@dataclass(frozen=True, slots=True)
class Links:
    """What the pane of an event links to.

    Attributes:
        cause: the event that caused it; None if it is not known here.
        cause_id: the id in its metadata.
        effects: the first events that it caused.
        more_effects: how many more there are.
        correlation: its correlation; None without one.
        events, streams: how many events of the correlation were found, in how many streams.
        is_part: whether there may be more of them.
    """

    cause: CorrelatedEvent | None
    cause_id: str | None
    effects: Sequence[CorrelatedEvent]
    more_effects: int
    correlation: str | None
    events: int
    streams: int
    is_part: bool


@dataclass(frozen=True, slots=True)
class Row:
    """An event in the list, and in the graph.

    Attributes:
        event: the event.
        depth: how far it is indented.
        cause: the event among them that caused it; None for none.
        after: the time since the first, for people.
        x, y: its place in the graph.
    """

    event: CorrelatedEvent
    depth: int
    cause: CorrelatedEvent | None
    after: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A stream in the graph."""

    stream: str
    y: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from a cause to an effect, as an SVG path."""

    path: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The events as a drawing."""

    width: int
    height: int
    lanes: Sequence[Lane]
    edges: Sequence[Edge]
    rows: Sequence[Row]


class CorrelationQuery(msgspec.Struct, kw_only=True):
    """The parameters of the screen."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    event: UUID | None = None
    view: Literal["graph", "list"] | None = None


@page("GET", "/correlation", query=CorrelationQuery)
async def show_correlation(call: Call[CorrelationQuery, None]) -> Response:
    """Show the events of a correlation, at most 200.

    With the index they are one range of it. Without, they are those of a tag of the same value, or
    those in 200,000 positions around the event, or in the newest 100,000.
    """
    query = call.query
    allowed = readable(call)
    upto = await call.store.head()
    near = upto
    tags: tuple[str, ...] = ()
    if query.event is not None:
        focus = await call.store.event(query.event)
        if focus is not None and call.principal.may(Verb.READ, focus.stream, focus.channel):
            near, tags = focus.position, tuple(focus.tags)
    found: Correlation = await call.store._engine.run(
        correlated(query.id, upto=upto, near=near, tags=tags, query=allowed)
    )
    rows = _rows(found.events)
    first, last = (found.events[0], found.events[-1]) if found.events else (None, None)
    view = query.view or ("list" if len(rows) > _GRAPH else "auto")
    return rendering.render(
        call.request,
        "correlation.html",
        title=f"{query.id} · correlation",
        nav="log",
        query=query,
        found=found,
        near=near,
        reach=NEAR,
        most=MOST,
        rows=rows,
        graph=None if view == "list" else _graph(rows),
        streams=len({each.stream for each in found.events}),
        span=_duration(last.recorded_at - first.recorded_at) if first and last else "",
        is_whole=_is_whole(found, upto),
        view=view,
        can_draw=len(rows) <= MOST,
        index_command=_index_command(call),
    )


pages = [show_correlation]


async def event_links(call: Call[Any, Any], event: RecordedEvent) -> Links | None:
    """Return what caused an event, what it led to, and its correlation.

    At most four statements. Without the index, 20,000 positions around the event are looked at.

    Args:
        call: the request.
        event: the event, as it is stored.

    Returns:
        The links; None for an event whose metadata has neither field.
    """
    correlation, causation = fields_of(event)
    if correlation is None and causation is None:
        return None
    upto = await call.store.head()
    found = await call.store._engine.run(
        links(
            event.id,
            position=event.position,
            correlation=correlation,
            causation=causation,
            upto=upto,
            query=readable(call, Query()),
        )
    )
    together = found.correlation
    return Links(
        found.cause,
        causation,
        found.effects[:_EFFECTS],
        max(len(found.effects) - _EFFECTS, 0),
        correlation,
        0 if together is None else max(len(together.events), 1),
        0 if together is None else max(len({each.stream for each in together.events}), 1),
        is_part=together is not None and not _is_whole(together, upto),
    )


def _is_whole(found: Correlation, head: int) -> bool:
    """Whether all events of the correlation were found."""
    if found.is_cut or found.found_by == "tag":
        return False
    return found.found_by == "index" or (found.after == 0 and found.upto >= head)


def _duration(value: timedelta) -> str:
    milliseconds = value.total_seconds() * 1000
    return f"{milliseconds:.0f} ms" if abs(milliseconds) < 999.5 else formats.duration(value)


def fields_of(event: RecordedEvent) -> tuple[str | None, str | None]:
    """Return the correlation and the cause that the metadata of an event names."""
    raw: Any = event.metadata
    if not isinstance(raw, msgspec.Raw):
        return None, None
    try:
        metadata = parse(bytes(raw))
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(metadata, dict):
        return None, None
    return (
        _field(metadata, "correlation_id", "$correlationId"),
        _field(metadata, "causation_id", "$causationId"),
    )


def _field(metadata: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = metadata.get(name)
        if isinstance(value, str):
            return str(value) or None
    return None


def _rows(events: Sequence[CorrelatedEvent]) -> list[Row]:
    """Return the events as a tree, each behind its cause, in order of position."""
    by_id = {str(each.id): each for each in events}
    children: dict[UUID | None, list[CorrelatedEvent]] = {}
    causes: dict[UUID, CorrelatedEvent] = {}
    for each in events:
        cause = by_id.get((each.causation or "").lower())
        # A cause is recorded before its effects; anything else would be a circle.
        if cause is not None and cause.position < each.position:
            causes[each.id] = cause
        children.setdefault(causes[each.id].id if each.id in causes else None, []).append(each)
    lanes = {name: number for number, name in enumerate(dict.fromkeys(e.stream for e in events))}
    columns = {each.id: number for number, each in enumerate(events)}
    rows: list[Row] = []
    waiting = [(each, 0) for each in reversed(children.get(None, []))]
    while waiting:
        each, depth = waiting.pop()
        rows.append(
            Row(
                each,
                min(depth, _DEEPEST),
                causes.get(each.id),
                _duration(each.recorded_at - events[0].recorded_at),
                _NAMES + columns[each.id] * _STEP,
                _TOP + lanes[each.stream] * _LANE,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(children.get(each.id, []))]
    return rows


def _graph(rows: Sequence[Row]) -> Graph:
    places = {row.event.id: row for row in rows}
    lanes: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.x):
        lanes.setdefault(row.event.stream, []).append(row)
    return Graph(
        width=_NAMES + len(rows) * _STEP,
        height=_TOP + len(lanes) * _LANE + 8,
        lanes=[
            Lane(stream, members[0].y, members[0].x, members[-1].x)
            for stream, members in lanes.items()
        ],
        edges=[Edge(_edge(places[row.cause.id], row)) for row in rows if row.cause is not None],
        rows=sorted(rows, key=lambda row: row.x),
    )


def _edge(cause: Row, effect: Row) -> str:
    """A line from a cause to an effect that touches no other event.

    It goes up or down in the column of the cause, which has no other event, and then below the
    events of the effect's lane. Causes of different columns have lines of their own there.
    """
    if cause.y == effect.y and effect.x - cause.x == _STEP:
        return f"M{cause.x + 6} {cause.y}H{effect.x - 6}"
    track = effect.y + 10 + 3 * ((cause.x - _NAMES) // _STEP % 4)
    end = f"H{effect.x - 16}Q{effect.x - 9} {track} {effect.x - 5} {effect.y + 4}"
    if effect.y < cause.y:  # beside the name of the cause, which is above it
        side = cause.x - 10
        return (
            f"M{cause.x - 6} {cause.y}Q{side} {cause.y} {side} {cause.y - 6}V{track + 5}"
            f"Q{side} {track} {side + 6} {track}{end}"
        )
    return f"M{cause.x} {cause.y + 6}V{track - 5}Q{cause.x} {track} {cause.x + 6} {track}{end}"


def _index_command(call: Call[Any, Any]) -> str:
    schema = call.settings.schema
    return INDEX_COMMAND + (f" --schema {schema}" if schema and schema != "indelible" else "")
