"""Operations: list the event types of a store, and check that the current code can read them.

There is no index on event types, because it would make every append slower and larger. Instead the
counts of the windows of the log are added up, and the events behind the last window are counted. A
check needs random events, and counts the whole log, in ranges of positions, so that no statement
takes long.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from indelible.core.operation import EventStatement, Operation, Rows, Statement
from indelible.core.validation import validate_integer
from indelible.errors import DecodingFailed, InvalidInput, UnknownEventType, UpcastingFailed
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.streams.head import head
from indelible.streams.log_windows import write_all_log_windows, write_log_windows
from indelible.streams.query_parameters import items_json
from indelible.streams.rows import decode_rows, event_location, recorded_at_of

_WINDOW = 200_000
_PAGE = 1_000
_NEWEST = 20_000
_MOST_TYPES = 500


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """An event type of a store.

    Attributes:
        type: its name, as it is stored.
        events: how many events have this type, up to the head.
        first_position, first_recorded_at: position and recorded time of the first of them.
        last_position, last_recorded_at: position and recorded time of the last of them.
        is_registered: whether a class is registered for it.
        upcasters: the upcasters that start from it, in order, as text.
    """

    type: str
    events: int
    first_position: int
    first_recorded_at: datetime
    last_position: int
    last_recorded_at: datetime
    is_registered: bool
    upcasters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """A stored event that cannot be read.

    Attributes:
        stream, version, position: the place of the event.
        reason: why it cannot be read.
    """

    stream: str
    version: int
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class TypeCheck:
    """Whether the stored events of a type can be read.

    Attributes:
        type: its name, as it is stored.
        events: how many events have this type.
        checked: how many of them were read: the first, the last and some at random.
        failures: the events that could not be read.
    """

    type: str
    events: int
    checked: int
    failures: tuple[UnreadableEvent, ...]


@dataclass(slots=True)
class _Found:
    events: int
    first: int
    last: int
    samples: list[int]


def types(codec: Codec) -> Operation[list[TypeInfo]]:
    """List the event types; see `EventStore.types`."""
    found = yield from _count(samples=0)
    times = yield from _times(found)
    return [
        TypeInfo(
            name,
            one.events,
            one.first,
            times[one.first],
            one.last,
            times[one.last],
            is_registered=name in codec.classes,
            upcasters=tuple(map(str, codec.upcasting.steps.get(name, ()))),
        )
        for name, one in found.items()
    ]


@dataclass(frozen=True, slots=True)
class TypeCount:
    """An event type, counted in a part of the log.

    Attributes:
        type: its name, as it is stored.
        events: how many events of the part have this type.
        first_position, first_recorded_at: position and recorded time of the first of them.
        last_position, last_recorded_at: position and recorded time of the last of them.
    """

    type: str
    events: int
    first_position: int
    first_recorded_at: datetime
    last_position: int
    last_recorded_at: datetime


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """The event types of a part of the log.

    Attributes:
        types: the types, in order of name.
        kinds: how many types there are, also those that are left out of `types`.
        after, upto: the part: after the first position, up to the second.
        head: the head.
    """

    types: tuple[TypeCount, ...]
    kinds: int
    after: int
    upto: int
    head: int


def count_types(
    query: Query | None, *, name: str | None = None, contains: str = ""
) -> Operation[TypeCounts]:
    """Count the event types in a bounded time, as far as that is possible: at most 5 statements.

    The counts of the windows of the log are added up, and up to 200,000 further positions are
    counted. Each call writes some more windows. So if they are not written yet, each call counts
    more of the log. For a reader who may not see everything, the newest 20,000 positions are
    counted.

    Args:
        query: what a reader may see; None for everything.
        name: only this type; None for all.
        contains: only types whose names contain this text. Of more than 500, those with the most
            events are returned.
    """
    found: dict[str, _Found] = {}
    items = items_json(query)
    if items is None:
        yield from write_log_windows()
    settled = yield from head()
    after = counted = max(settled - _NEWEST, 0)
    if items is None:
        after = counted = 0
        for kind, events, first, last, written in (yield Statement("admin.event_types_of_windows")):
            found[kind] = _Found(events, first, last, [])
            counted = written
    upto = min(settled, counted + _WINDOW)
    part = {"after": counted, "upto": upto}
    if items is None:
        rows = yield Statement("admin.event_types", {**part, "samples": 0}, prepared=False)
    else:
        rows = yield Statement(
            "admin.event_types_matching", {**part, "items": items}, prepared=False
        )
    for kind, events, first, last, *_ in rows:
        one = found.setdefault(kind, _Found(0, first, last, []))
        one.events += events
        one.last = last
    wanted = [
        kind for kind in found if name in (None, kind) and contains.casefold() in kind.casefold()
    ]
    kept = sorted(sorted(wanted, key=lambda kind: -found[kind].events)[:_MOST_TYPES])
    times = yield from _times({kind: found[kind] for kind in kept})
    return TypeCounts(
        tuple(
            TypeCount(kind, one.events, one.first, times[one.first], one.last, times[one.last])
            for kind in kept
            for one in (found[kind],)
        ),
        len(wanted),
        after,
        upto,
        settled,
    )


def check_types(codec: Codec, *, samples: int) -> Operation[list[TypeCheck]]:
    """Check that all event types can be read; see `EventStore.check_types`."""
    if not codec.classes and not codec.upcasting.steps:
        raise InvalidInput(
            "no event classes are registered, so there is nothing to check: connect with events=[…]"
        )
    found = yield from _count(samples=validate_integer("samples", samples))
    checks = []
    for name, one in found.items():
        chosen = random.sample(one.samples, min(samples, len(one.samples)))
        positions = sorted({one.first, one.last, *chosen})
        failures = yield from unreadable_events(codec, positions)
        checks.append(TypeCheck(name, one.events, len(positions), tuple(failures)))
    return checks


def unreadable_events(codec: Codec, positions: list[int]) -> Operation[list[UnreadableEvent]]:
    """Return which of the events at some positions cannot be read."""
    failures = []
    for row in (yield from _rows(positions)):
        try:
            decode_rows(codec, [row])
        except (UnknownEventType, DecodingFailed, UpcastingFailed) as error:
            # The location is reported separately, so that equal failures are reported once.
            reason = str(error).removeprefix(f"{event_location(*row[:3])}: ")
            failures.append(UnreadableEvent(row[1], row[2], row[0], reason))
    return failures


def counted_events(name: str) -> Operation[tuple[int, int]]:
    """Return how many events of a type the windows of the log have, and up to where they are."""
    ((events, written),) = yield Statement("admin.event_type_of_windows", {"type": name})
    return events, written


def _count(*, samples: int) -> Operation[dict[str, _Found]]:
    """Count the types up to the head, in order of name."""
    found: dict[str, _Found] = {}
    counted = 0
    if not samples:
        yield from write_all_log_windows()
        for name, events, first, last, written in (yield Statement("admin.event_types_of_windows")):
            found[name] = _Found(events, first, last, [])
            counted = written
    settled = yield from head()
    for after in range(counted, settled, _WINDOW):
        rows = yield Statement(
            "admin.event_types",
            {"after": after, "upto": min(after + _WINDOW, settled), "samples": samples},
            prepared=False,
        )
        for name, events, first, last, chosen in rows:
            one = found.setdefault(name, _Found(0, first, last, []))
            one.events += events
            one.last = last
            one.samples += chosen or []
    return dict(sorted(found.items()))


def _times(found: Mapping[str, _Found]) -> Operation[dict[int, datetime]]:
    """Return when the first and the last event of each type were recorded, by position."""
    ends = {position for one in found.values() for position in (one.first, one.last)}
    return {row[0]: recorded_at_of(row) for row in (yield from _rows(sorted(ends)))}


def _rows(positions: list[int]) -> Operation[Rows]:
    rows: Rows = []
    for begin in range(0, len(positions), _PAGE):
        rows += yield EventStatement(
            "streams.read_positions", {"positions": positions[begin : begin + _PAGE]}
        )
    return rows
