"""The event types: how many events each has, whether they can be read, and their fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from indelible import Query
from indelible.access import Verb
from indelible.admin.event_types import (
    TypeCount,
    TypeCounts,
    count_types,
    counted_events,
    unreadable_events,
)
from indelible.errors import DecodingFailed, UnknownEventType
from indelible.events import RecordedEvent
from indelible.serialization.codec import Codec
from indelible.serialization.upcasting import UpcasterFailure
from indelible.server.routing import Call

from . import rendering
from .event_rows import EventRow, kind_of, rows_of, stored_json
from .filters import search
from .json_tree import Tree, parse, tree
from .page import not_here, page

SHOWN = 20
"""Events of a type that its page shows."""
SAMPLES = 100
"""Events of a type whose fields are looked at."""
_CHECKED = 100
_MOST_FIELDS = 200
_DEEPEST = 4
_LARGEST = 64 * 1024


class TypesQuery(msgspec.Struct, kw_only=True):
    """The parameters of the list."""

    q: str = ""
    sort: Literal["name", "events", "last"] = "name"


class TypeQuery(msgspec.Struct, kw_only=True):
    """The type to show."""

    type: str


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A type of the list.

    Attributes:
        count: its events.
        share: its part of the events of all types shown, from 0 to 1.
        fault: why its last event cannot be read; an empty text if it can, None if that is unknown.
        path: the types that its events are read as, one after the other.
    """

    count: TypeCount
    share: float
    fault: str | None
    path: Sequence[str]


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of a type: its name, the kinds of its values, and in how many samples it is."""

    name: str
    kinds: str
    samples: int


@dataclass(frozen=True, slots=True)
class Sample:
    """An event as it is stored, and as the application reads it today.

    Attributes:
        event: the event.
        stored: its data.
        read: the types and data that it is read as; None without an application.
        fault: why it cannot be read; an empty text if it can.
    """

    event: RecordedEvent
    stored: Tree
    read: list[tuple[str, Tree]] | None
    fault: str


@page("GET", "/types", query=TypesQuery)
async def show_types(call: Call[TypesQuery, None]) -> Response:
    """Show the types: at most 7 statements, each of which looks at a bounded part of the log.

    The counts of the windows of the log are added up. What they do not have yet is counted, up to
    200,000 positions. A reader who may not see everything gets the types of the newest 20,000.
    """
    query = call.query
    codec = application_codec(call)
    wanted = None if call.principal.may_everywhere(Verb.READ) else _readable(call)
    counts = TypeCounts((), 0, 0, 0, 0)
    if wanted is not None or call.principal.may_everywhere(Verb.READ):
        counts = await call.store._engine.run(count_types(wanted, contains=query.q))
    faults = await _faults(call, codec, counts)
    total = max((each.events for each in counts.types), default=0)
    rows = [
        TypeRow(
            each,
            each.events / total,
            faults.get(each.type),
            () if codec is None else path_of(codec, each.type),
        )
        for each in counts.types
    ]
    if query.sort == "events":
        rows.sort(key=lambda row: -row.count.events)
    elif query.sort == "last":
        rows.sort(key=lambda row: -row.count.last_position)
    return rendering.render(
        call.request,
        "types.html",
        title="Types",
        nav="types",
        rows=rows,
        counts=counts,
        query=query,
        has_app=codec is not None,
        is_narrow=wanted is not None,
    )


@page("GET", "/type", query=TypeQuery)
async def show_type(call: Call[TypeQuery, None]) -> Response:
    """Show a type: its newest 100 events, found in at most 5 statements, and its count."""
    name = call.query.type
    codec = application_codec(call)
    query = call.principal.narrow(Verb.READ, Query(types=name))
    missing = f"No event of type {name!r} is known. Names are compared as they are written."
    if query is None:
        raise not_here(missing)
    found = await search(call, query, None, limit=SAMPLES)
    if not found.events and found.is_at_end:
        raise not_here(missing)
    counted = None
    if call.principal.may_everywhere(Verb.READ):
        counted = await call.store._engine.run(counted_events(name))
    events = found.events[::-1]
    rows: list[EventRow] = rows_of(events[:SHOWN])
    whole = [event for event in events if not event.is_erased]
    return rendering.render(
        call.request,
        "type.html",
        title=name,
        nav="types",
        name=name,
        rows=rows,
        found=found,
        counted=counted,
        fields=list(fields_of([stored_json(event) for event in whole])),
        samples=len(whole),
        sample=_sample(codec, whole[0]) if whole else None,
        path=() if codec is None else path_of(codec, name),
        has_app=codec is not None,
    )


def application_codec(call: Call[Any, Any]) -> Codec | None:
    """Return the codec of the application that the server was given; None without one."""
    module = getattr(call.request.app.state, "module", None)
    return None if module is None else Codec(module.events)


def path_of(codec: Codec, name: str) -> list[str]:
    """Return a type and the types that its events are read as, one after the other."""
    path = [name]
    steps = codec.upcasting.steps
    while name in steps:
        targets = [each for step in steps[name] for each in step.targets if each != name]
        if steps[name][-1].targets == ():
            path.append("nothing")
        if not targets:
            break
        path.append(", ".join(targets))
        name = targets[0]
    return path


def fields_of(samples: Sequence[bytes]) -> Iterator[FieldRow]:
    """Return the fields of some data in order of their names, at most 200.

    Fields inside others have dots in their names; `[]` stands for the elements of a list.
    """
    kinds: dict[str, Counter[str]] = {}
    counts: Counter[str] = Counter()
    for data in samples:
        if len(data) > _LARGEST:
            continue
        try:
            value = parse(data)
        except RecursionError:
            continue
        seen = set()
        for name, kind in _fields(value, "", _DEEPEST):
            if name in kinds or len(kinds) < _MOST_FIELDS:
                kinds.setdefault(name, Counter())[kind] += 1
                seen.add(name)
        counts.update(seen)
    for name in sorted(kinds):
        yield FieldRow(name, ", ".join(kind for kind, _ in kinds[name].most_common()), counts[name])


def _fields(value: Any, around: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            name = f"{around}.{key}" if around else key
            yield name, kind_of(each)
            if depth:
                yield from _fields(each, name, depth - 1)
    elif isinstance(value, list):
        name = f"{around}[]"
        for each in value[:SAMPLES]:
            yield name, kind_of(each)
            if depth:
                yield from _fields(each, name, depth - 1)


def _readable(call: Call[Any, Any]) -> Query | None:
    return call.principal.narrow(Verb.READ, Query())


async def _faults(call: Call[Any, Any], codec: Codec | None, counts: TypeCounts) -> dict[str, str]:
    """Return why the last event of each type cannot be read; an empty text if it can."""
    if codec is None:
        return {}
    checked = {each.last_position: each.type for each in counts.types[:_CHECKED]}
    failures = await call.store._engine.run(unreadable_events(codec, sorted(checked)))
    return {
        **dict.fromkeys(checked.values(), ""),
        **{checked[each.position]: each.reason for each in failures},
    }


def _sample(codec: Codec | None, event: RecordedEvent) -> Sample:
    data = stored_json(event)
    if codec is None:
        return Sample(event, tree(data), None, "")
    read: list[tuple[str, Tree]] = []
    fault = ""
    try:
        steps = codec.upcasting.steps
        for kind, each in (
            codec.upcast(event.type, data) if event.type in steps else [(event.type, data)]
        ):
            codec.decode(kind, each or b"null")
            read.append((kind, tree(each or b"null")))
    except UpcasterFailure as failure:
        fault = f"{failure.upcaster}: {failure.reason}"
    except (UnknownEventType, DecodingFailed) as error:
        fault = str(error)
    return Sample(event, tree(data), read, fault)


pages = (show_types, show_type)
