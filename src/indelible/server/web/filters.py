"""The filters of a page of events: which of them it shows, and what a reader may see of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from indelible import Query
from indelible.access import Principal, Verb
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.server.problems import Problem
from indelible.server.routing import Call
from indelible.streams.log_search import LogSearch, ValueFilter
from indelible.streams.read_options import LogReadOptions
from indelible.streams.recorded_time import RecordedTimeRange

from .addresses import address

WINDOWS = 4
"""How many statements look for events in one request."""
SECONDS = 0.1
"""Seconds after which no further statement begins to look for events."""
_MOST = 1.4
"""Seconds after which the last statement ends: the page has two for all that it reads."""


class EventFilter(msgspec.Struct, kw_only=True):
    """The parameters that select events: an event must satisfy all of them."""

    types: list[str] = msgspec.field(default_factory=list, name="type")
    tags: list[str] = msgspec.field(default_factory=list, name="tag")
    channel: str | None = None
    prefix: str | None = None
    field: str | None = None
    value: str | None = None

    def query(self, principal: Principal) -> Query | None:
        """Return the query, narrowed to what a reader may see; None if that is nothing.

        Raises:
            InvalidInput: a filter is no valid text.
        """
        return principal.narrow(Verb.READ, Query(self.types, self.tags, self.channel, self.prefix))

    def value_filter(self) -> ValueFilter | None:
        """Return the filter by a value; None without one.

        Raises:
            InvalidInput: the field is no path.
        """
        if self.field is None:
            if self.value is not None:
                raise InvalidInput("value needs field: the name of the field that has the value")
            return None
        return ValueFilter.parse(self.field, self.value or "")

    def given(self) -> dict[str, Any]:
        """Return the filters that are set, for the addresses of other pages."""
        filters = {
            "type": self.types,
            "tag": self.tags,
            "channel": self.channel,
            "prefix": self.prefix,
            "field": self.field,
            "value": self.value,
        }
        return {name: value for name, value in filters.items() if value}


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set, and the address without it."""

    name: str
    text: str
    without: str


def chips_of(path: str, given: Mapping[str, Any]) -> list[Chip]:
    """Return the filters of a page; each can be removed."""
    chips = []
    for name in ("type", "tag"):
        for each in given.get(name, ()):
            rest = [other for other in given[name] if other != each]
            chips.append(Chip(name, each, address(path, **{**given, name: rest})))
    chips += [
        Chip(name, given[name], address(path, **{**given, name: None}))
        for name in ("channel", "prefix")
        if name in given
    ]
    if "field" in given:
        text = f"{given['field']} = {given.get('value', '')}"
        without = address(path, **{**given, "field": None, "value": None})
        chips.append(Chip("value", text, without))
    return chips


@dataclass(frozen=True, slots=True)
class Found:
    """What a bounded search found.

    Attributes:
        events: the events, in order of position.
        after, upto: what was looked at: after the first position, up to the second.
        head: the head.
        has_more: whether a further event was found, which is not among them.
        is_at_end: whether nothing more is to be looked at.
    """

    events: list[RecordedEvent]
    after: int
    upto: int
    head: int
    has_more: bool
    is_at_end: bool


async def search(
    call: Call[Any, Any],
    query: Query,
    value: ValueFilter | None,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int,
) -> Found:
    """Look for events: at most 5 statements, and no further one after a tenth of a second.

    Args:
        call: the request.
        query: which events, narrowed to what the reader may see.
        value: the value that they have in a field; None for any.
        before: events before this position, the newest; None for those up to the head.
        after: events after this position, the oldest.
        limit: the largest number of events.

    Raises:
        Problem: the first statement took too long.
    """
    options = LogReadOptions(
        after=after or 0,
        backwards=after is None,
        limit=limit + 1,
        recorded_time=RecordedTimeRange(None if before is None else max(before - 1, 0)),
    )
    reading = LogSearch(call.store._append_settings.codec, query, options, value)
    run = call.store._engine.run
    begun = time.monotonic()
    upto = await run(reading.start())
    state = reading.state
    low = after or 0
    events: list[RecordedEvent] = []
    for number in range(WINDOWS):
        if reading.is_at_end or time.monotonic() - begun > SECONDS:
            break
        try:
            async with asyncio.timeout(max(_MOST - (time.monotonic() - begun), 0.1)):
                events += await run(reading.next_window())
        except TimeoutError:
            if number == 0:
                raise Problem(
                    503,
                    "too-slow",
                    "The first positions took too long to look at. Set another filter, or try"
                    " again later.",
                ) from None
            break
    rest_after, rest_upto = reading.looked_at
    has_more = len(events) > limit
    del events[limit:]
    if after is None:
        events.reverse()
        low = events[0].position - 1 if has_more else rest_upto
    else:
        upto = events[-1].position if has_more else rest_after
    return Found(
        events,
        low,
        upto,
        upto if state is None else state.position,
        has_more,
        not has_more and rest_after >= rest_upto,
    )
