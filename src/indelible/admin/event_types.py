"""Operations: list the event types of a store, and check that the current code can read them.

There is no index on event types, because it would make every append slower and larger. Instead the
counts of the windows of the log are added up, and the events behind the last window are counted. A
check needs random events, and counts the whole log, in ranges of positions, so that no statement
takes long.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from indelible.core.operation import EventStatement, Operation, Rows, Statement
from indelible.core.validation import validate_integer
from indelible.errors import DecodingFailed, InvalidInput, UnknownEventType, UpcastingFailed
from indelible.serialization.codec import Codec
from indelible.streams.head import head
from indelible.streams.log_windows import write_all_log_windows
from indelible.streams.rows import decode_rows, event_location, recorded_at_of

_WINDOW = 200_000
_PAGE = 1_000


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
    ends = {position for one in found.values() for position in (one.first, one.last)}
    times = {}
    for row in (yield from _rows(sorted(ends))):
        times[row[0]] = recorded_at_of(row)
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
        failures = []
        for row in (yield from _rows(positions)):
            try:
                decode_rows(codec, [row])
            except (UnknownEventType, DecodingFailed, UpcastingFailed) as error:
                # The location is reported separately, so that equal failures are reported once.
                reason = str(error).removeprefix(f"{event_location(*row[:3])}: ")
                failures.append(UnreadableEvent(row[1], row[2], row[0], reason))
        checks.append(TypeCheck(name, one.events, len(positions), tuple(failures)))
    return checks


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


def _rows(positions: list[int]) -> Operation[Rows]:
    rows: Rows = []
    for begin in range(0, len(positions), _PAGE):
        rows += yield EventStatement(
            "streams.read_positions", {"positions": positions[begin : begin + _PAGE]}
        )
    return rows
