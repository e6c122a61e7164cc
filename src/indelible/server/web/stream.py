"""One stream: its events on a track of two times, and one of them in full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from starlette.responses import Response

from indelible import Query
from indelible.access import Verb
from indelible.events import RecordedEvent
from indelible.server.problems import Problem
from indelible.server.routing import EVENT_STREAM, Call
from indelible.streams.info import StreamChange, StreamInfo
from indelible.streams.look_up import events_at, stream_times
from indelible.streams.read_options import StreamReadOptions
from indelible.streams.read_stream import stream_reading, version_bounds
from indelible.streams.recorded_time import RecordedTimeRange

from . import panes, rendering
from .addresses import address
from .diff import Change, differences
from .json_tree import Tree, parse, tree
from .live import Message, follow
from .moments import as_of_position, moment_of
from .page import not_here, page, see
from .rights import may_manage_stream, readable_stream
from .time_track import Moments, Track, holds, is_known, track

ROWS = 51
WHOLE = 2_000
"""A stream of so many events is read whole, without data: its times and types."""
WINDOW = 10_000
"""Of a longer stream, a filter looks at so many versions at once."""
TICKS = 400
_BEFORE = 1_000
"""How many versions back the event of the same type is looked for."""


class StreamQuery(msgspec.Struct, kw_only=True):
    """The parameters of the screen: all that it shows."""

    name: str
    at: Annotated[int, msgspec.Meta(ge=0)] | None = None
    as_of: str | None = None
    valid_at: str | None = None
    type: str | None = None
    q: str | None = None
    order: Literal["down", "up"] = "down"
    from_: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(default=None, name="from")
    pane: Literal["event", "state", "change", "compare"] = "event"
    fold: str | None = None
    with_: Annotated[int, msgspec.Meta(ge=0)] | None = msgspec.field(default=None, name="with")
    later: Literal["show", "hide"] = "hide"
    scale: Literal["even", "time"] = "even"

    def link(self, **changes: Any) -> str:
        """Return the address of this screen with some parameters changed; None removes one."""
        given = {
            name: value
            for name, value in {**self._given(), **changes}.items()
            if value is not None and _DEFAULTS.get(name) != value
        }
        return address("/stream", **given)

    def _given(self) -> dict[str, Any]:
        return {each.encode_name: getattr(self, each.name) for each in msgspec.structs.fields(self)}


_DEFAULTS = {"order": "down", "pane": "event", "later": "hide", "scale": "even"}


@dataclass(frozen=True, slots=True)
class Times:
    """The two moments of the screen.

    Attributes:
        as_of: the position up to which events are known; None for all.
        as_of_moment: its moment; None if it is not known.
        may_grow: whether more events of that moment may still come.
        valid_at: the moment at which facts hold; None for any.
    """

    as_of: int | None
    as_of_moment: datetime | None
    may_grow: bool
    valid_at: datetime | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the list: an event, or a change of the stream."""

    event: Moments | None = None
    is_known: bool = True
    holds: bool = True
    change: StreamChange | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What the list shows."""

    rows: Sequence[Row]
    later: int
    matching: int
    total: int
    previous: int | None
    next: int | None
    looked_from: int
    looked_to: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Detail:
    """An event in full.

    Attributes:
        event: the event.
        lean: see `Moments`.
        data: its data; None if it was erased.
        metadata: its metadata.
        text: the event as JSON, to copy.
        before: the version of the event of the same type before it; None for none nearby.
        changes: what differs from that one.
    """

    event: RecordedEvent
    lean: str
    data: Tree | None
    metadata: Tree | None
    text: str
    before: int | None = None
    changes: Sequence[Change] = field(default_factory=list)


@page("GET", "/stream", query=StreamQuery)
async def show_stream(call: Call[StreamQuery, None]) -> Response:
    """Show one stream.

    At most 2,000 events are read, without their data; of a longer stream 10,000 if a filter
    or a valid time needs them, else one page.
    """
    query = call.query
    try:
        info = await readable_stream(call, query.name)
    except Problem:
        return await _never_written(call)
    times = await _times(call)
    known_to = info.version
    if times.as_of is not None and info.version >= WHOLE:
        known_to = await _version_at(call, times.as_of)
    low, high = _window(query, info.version, known_to, has_valid_time=times.valid_at is not None)
    run = call.store._engine.run
    times_of = await run(stream_times(query.name, from_version=low, to_version=high))
    found = [Moments(*each) for each in times_of]
    changes = await call.store.stream_changes(query.name)
    matched = await _matched(call, low, high) if query.q else None
    view = _view(query, info, times, found, changes, matched, (low, high))
    detail = await _detail(call, info, view, times)
    shown = found
    if info.version >= WHOLE:
        step = (info.version + TICKS) // TICKS
        ticks = await run(
            stream_times(query.name, from_version=0, to_version=info.version, step=step)
        )
        shown = [Moments(*each) for each in ticks]
    drawn = track(shown, datetime.now(UTC), query.scale) if shown else None
    panel = await panes.read(call, query, info, times, detail)
    return rendering.render(
        call.request,
        "stream.html",
        title=f"{query.name} · stream",
        nav="streams",
        query=query,
        info=info,
        times=times,
        view=view,
        track=drawn,
        counts=_counts(info, times, found, known_to),
        detail=detail,
        panel=panel,
        types=sorted({each.type for each in found}),
        may_manage=may_manage_stream(call, info),
        commands=_commands(call, query),
        position_of_x=_thumbs(drawn, times),
        is_long=info.version >= WHOLE,
    )


class EventQuery(msgspec.Struct, kw_only=True):
    """An event by its id or its position."""

    id: UUID | None = None
    position: Annotated[int, msgspec.Meta(ge=0)] | None = None


@page("GET", "/event", query=EventQuery)
async def show_event(call: Call[EventQuery, None]) -> Response:
    """Show an event in its stream. One or two look-ups in an index."""
    query = call.query
    found: RecordedEvent | None = None
    if query.id is not None:
        found = await call.store.event(query.id)
    elif query.position is not None:
        run = call.store._engine.run
        codec = call.store._append_settings.codec
        found = next(iter(await run(events_at(codec, [query.position]))), None)
    if found is None or not call.principal.may(Verb.READ, found.stream, found.channel):
        what = f"id {query.id}" if query.id else f"position {query.position}"
        raise not_here(f"No event with {what}.")
    return see("/stream", name=found.stream, at=found.version)


class StreamLive(msgspec.Struct, kw_only=True):
    """A stream to follow."""

    name: str
    after: Annotated[int, msgspec.Meta(ge=0)] = 0


@page("GET", "/live/stream", query=StreamLive, media_types=(EVENT_STREAM,))
async def follow_stream(call: Call[StreamLive, None]) -> Response:
    """Tell about new events of a stream, without their data."""
    await readable_stream(call, call.query.name)
    after = max(call.query.after, int(call.header("last-event-id") or 0))
    subscription = call.store.subscribe(Query(stream=call.query.name), after=after)
    await subscription.__aenter__()

    async def messages() -> AsyncIterator[Message]:
        try:
            async for batch in subscription.batches():
                if batch.events:
                    last = batch.events[-1]
                    yield Message(
                        "events",
                        {"count": len(batch.events), "version": last.version, "type": last.type},
                        str(last.position),
                    )
        finally:
            subscription.stop()

    return follow(call, messages())


pages = [show_stream, show_event, follow_stream]


async def _never_written(call: Call[StreamQuery, None]) -> Response:
    name = call.query.name
    neighbours = []
    if call.principal.may_everywhere(Verb.READ):
        async for each in call.store.streams(prefix=name[:3] or None):
            neighbours.append(each.stream)
            if len(neighbours) == 3:
                break
    return rendering.render(
        call.request,
        "stream_missing.html",
        title=f"{name} · stream",
        nav="streams",
        status=404,
        name=name,
        neighbours=neighbours,
    )


async def _times(call: Call[StreamQuery, None]) -> Times:
    query = call.query
    bound = await as_of_position(call, query.as_of)
    valid_at = None
    if query.valid_at is not None:
        valid_at = (
            datetime.now(UTC) if query.valid_at == "now" else moment_of("valid_at", query.valid_at)
        )
    return Times(bound.position, bound.moment, bound.may_grow, valid_at)


async def _version_at(call: Call[StreamQuery, None], position: int) -> int:
    options = StreamReadOptions(recorded_time=RecordedTimeRange(position))
    _, highest = await call.store._engine.run(version_bounds(call.query.name, options))
    return max(highest, 0)


def _window(
    query: StreamQuery, version: int, known_to: int, *, has_valid_time: bool
) -> tuple[int, int]:
    """Return the versions that the list is made from."""
    if version < WHOLE:
        return 0, version
    count = WINDOW if query.type or query.q or has_valid_time else ROWS
    if query.order == "up" and not has_valid_time:
        begin = query.from_ or 0
        return begin, min(begin + count - 1, version)
    end = min(known_to if query.from_ is None or has_valid_time else query.from_, version)
    return max(end - count + 1, 0), end


async def _matched(call: Call[StreamQuery, None], low: int, high: int) -> set[int]:
    """Return the versions whose data, metadata or type contain a text: at most 10,000 are read."""
    wanted = (call.query.q or "").casefold()
    found: set[int] = set()
    reading = call.store.read(
        call.query.name, from_version=max(low, high - WINDOW + 1), to_version=high
    )
    async for event in reading:
        data = "" if event.is_erased else bytes(event.data).decode()
        text = f"{event.type}\n{data}\n{_metadata_text(event)}"
        if wanted in text.casefold():
            found.add(event.version)
    return found


def _metadata_text(event: RecordedEvent) -> str:
    given: Any = event.metadata
    return bytes(given).decode() if isinstance(given, msgspec.Raw) else ""


def _view(
    query: StreamQuery,
    info: StreamInfo,
    times: Times,
    found: Sequence[Moments],
    changes: Sequence[StreamChange],
    matched: set[int] | None,
    looked: tuple[int, int],
) -> View:
    known = [each for each in found if is_known(each, times.as_of)]
    later = len(found) - len(known)
    listed = list(found) if query.later == "show" else known
    if query.type:
        listed = [each for each in listed if each.type == query.type]
    if matched is not None:
        listed = [each for each in listed if each.version in matched]
    if times.valid_at is not None:
        listed.sort(key=lambda each: (each.valid_at, each.position))
    if query.order == "down":
        listed.reverse()
    is_paged_here = info.version < WHOLE or times.valid_at is not None
    begin = 0
    if is_paged_here and query.from_ is not None:
        begin = next((index for index, each in enumerate(listed) if each.version == query.from_), 0)
    shown = listed[begin : begin + ROWS - 1]
    rows = [Row(each, is_known(each, times.as_of), holds(each, times.valid_at)) for each in shown]
    if times.valid_at is None and not query.q and not query.type:
        rows = _with_changes(rows, changes, is_down=query.order == "down", is_first=begin == 0)
    following: int | None = None
    before: int | None = None
    if begin + ROWS - 1 < len(listed):
        following = listed[begin + ROWS - 1].version
    elif not is_paged_here and query.order == "down" and looked[0] > 0:
        following = looked[0] - 1
    elif not is_paged_here and query.order == "up" and looked[1] < info.version:
        following = looked[1] + 1
    if is_paged_here and begin > 0:
        before = listed[max(begin - ROWS + 1, 0)].version
    elif not is_paged_here and query.from_ is not None:
        step = ROWS - 1
        before = query.from_ + step if query.order == "down" else query.from_ - step
        if not 0 <= before <= info.version:
            before = None
    return View(
        rows,
        later,
        len(listed),
        info.version + 1,
        before,
        following,
        looked[0],
        looked[1],
        is_whole=looked == (0, info.version),
    )


def _with_changes(
    rows: list[Row], changes: Sequence[StreamChange], *, is_down: bool, is_first: bool
) -> list[Row]:
    """Put the changes of the stream between its events, at their time."""
    made = list(rows)
    for change in changes:
        if is_down:
            place = next(
                (
                    index
                    for index, row in enumerate(made)
                    if row.event is not None and row.event.recorded_at <= change.changed_at
                ),
                len(made),
            )
            if place == 0 and not is_first:
                continue
        else:
            place = next(
                (
                    index
                    for index, row in enumerate(made)
                    if row.event is not None and row.event.recorded_at > change.changed_at
                ),
                len(made),
            )
        made.insert(place, Row(change=change))
    return made


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of how many events are shown; `among`: of the newest so many only."""

    shown: int
    total: int
    among: int | None = None


def _counts(info: StreamInfo, times: Times, found: Sequence[Moments], known_to: int) -> Counts:
    total = info.version + 1
    if times.valid_at is None and total > WHOLE:
        return Counts(total if times.as_of is None else known_to + 1, total)
    shown = sum(is_known(each, times.as_of) and holds(each, times.valid_at) for each in found)
    return Counts(shown, total, len(found) if len(found) < total else None)


async def _detail(
    call: Call[StreamQuery, None], info: StreamInfo, view: View, times: Times
) -> Detail | None:
    """Return the event in focus, and what differs from the one of its type before."""
    query = call.query
    at = query.at
    if at is None:
        known = [row for row in view.rows if row.event and row.is_known]
        first = next((row for row in known if row.holds), next(iter(known), None))
        at = first.event.version if first is not None and first.event else None
    if at is None or at > info.version:
        return None
    events = await _read(call, at, at, None)
    if not events:
        return None
    event = events[0]
    lean = Moments(
        event.version, event.position, event.recorded_at, event.valid_at, event.type
    ).lean
    data = None if event.is_erased else tree(bytes(event.data))
    raw: Any = event.metadata
    metadata = tree(bytes(raw)) if isinstance(raw, msgspec.Raw) else None
    text = rendering.event_json(event)
    if at == 0 or event.is_erased:
        return Detail(event, lean, data, metadata, text)
    before = await _read(call, max(at - _BEFORE, 0), at - 1, event.type)
    if not before or before[0].is_erased:
        return Detail(event, lean, data, metadata, text)
    try:
        changes = differences(parse(bytes(before[0].data)), parse(bytes(event.data)))
    except RecursionError:
        changes = []
    return Detail(event, lean, data, metadata, text, before[0].version, changes)


async def _read(
    call: Call[StreamQuery, None], low: int, high: int, event_type: str | None
) -> list[RecordedEvent]:
    """Read the last event of a stream between two versions, of a type if one is given."""
    options = StreamReadOptions(
        from_version=low,
        to_version=high,
        backwards=True,
        limit=1,
        type_names=None if event_type is None else [event_type],
    )
    reading = stream_reading(call.store._append_settings.codec, call.query.name, options)
    return await call.store._engine.run(reading.next_page())


@dataclass(frozen=True, slots=True)
class Thumbs:
    """Where the two thumbs stand."""

    recorded: int
    valid: int


def _thumbs(drawn: Track | None, times: Times) -> Thumbs | None:
    if drawn is None:
        return None
    recorded = valid = 1_000
    if times.as_of is not None:
        stops = [each for each in drawn.recorded if int(each.value) <= times.as_of]
        recorded = stops[-1].x if stops else 0
    if times.valid_at is not None:
        held = [each for each in drawn.valid if each.moment <= times.valid_at]
        valid = held[-1].x if held else 0
    return Thumbs(recorded, valid)


def _commands(call: Call[Any, Any], query: StreamQuery) -> list[tuple[str, str]]:
    """Return how to ask the same in Python, in a shell and over HTTP."""
    return panes.commands(
        query.name,
        query.as_of,
        query.valid_at,
        str(call.request.base_url).rstrip("/"),
        call.settings.schema,
    )
