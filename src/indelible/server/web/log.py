"""The log: the newest events first, with filters, and new events as they come."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from indelible import AsyncEventStore, Query
from indelible.access import Verb
from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.server import parameters
from indelible.server.routing import EVENT_STREAM, Call
from indelible.streams.stream_list import known_names
from indelible.subscriptions.log_follower import Batch
from indelible.subscriptions.subscription_async import AsyncSubscription

from . import rendering
from .addresses import address
from .event_rows import EventRow, rows_of
from .filters import EventFilter, Found, chips_of, search
from .live import Message, follow
from .page import page, see

ROWS = 50
"""Rows of a page of the log."""
_SHOWN = 20
"""The largest number of rows in a message."""
_PAUSE = 0.1
"""The least number of seconds between two messages."""
_BUSY_PAUSE = 1.0
"""The same after a message that could not show all events."""
_BEHIND = 20_000
"""How many positions a slow browser may be behind. Then it gets the newest events."""
_SILENCE = 5.0
"""Seconds after which a browser is told the position, if no event matches."""

Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class LogQuery(EventFilter, kw_only=True):
    """The parameters of the page."""

    before: Position | None = None
    after: Position | None = None
    to: str | None = None
    live: Literal["on", "off"] = "on"


class LiveQuery(EventFilter, kw_only=True):
    """The parameters of what a page follows."""

    after: str | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """What the page shows.

    Attributes:
        rows: the events, the newest first.
        found: where they were looked for.
        newer, older, further: the addresses of other pages: with newer and older events, and for
            looking further; None for those that there are not.
        live: the address of new events; None if the page does not follow them.
        why_not_live: why it does not.
    """

    rows: list[EventRow]
    found: Found
    newer: str | None
    older: str | None
    further: str | None
    live: str | None
    why_not_live: str


@page("GET", "/log", query=LogQuery)
async def show_log(call: Call[LogQuery, None]) -> Response:
    """Show the log.

    One search reads at most 51 events in at most 5 statements, each of a window of positions; one
    statement looks up names for the filters.
    """
    query = call.query
    given = query.given()
    if query.to is not None:
        return see("/log", **given, before=await _position_of(call, query.to.strip()) + 1)
    if query.before is not None and query.after is not None:
        raise InvalidInput("before and after exclude each other: pass one of them")
    value = query.value_filter()
    wanted = query.query(call.principal)
    if wanted is None:
        found = Found([], 0, 0, 0, has_more=False, is_at_end=True)
    else:
        found = await search(
            call, wanted, value, before=query.before, after=query.after, limit=ROWS
        )
    rows = rows_of(reversed(found.events))
    return rendering.render(
        call.request,
        "log.html",
        title="Log",
        nav="log",
        log=_log_page(query, given, rows, found, may_follow=wanted is not None),
        given=given,
        kept={name: each for name, each in given.items() if name in ("type", "tag")},
        chips=chips_of("/log", given),
        is_forward=query.after is not None,
        is_newest=query.before is None and query.after is None,
        names=await _names(call, rows, found.head),
    )


@page("GET", "/live/log", query=LiveQuery, media_types=(EVENT_STREAM,))
async def follow_log(call: Call[LiveQuery, None]) -> Response:
    """Follow the log with the filters of a page."""
    wanted = call.query.query(call.principal)
    start = call.header("last-event-id") or call.query.after
    after = "head" if start is None else parameters.place("after", start)
    given = call.query.given()
    messages = _nothing() if wanted is None else _news(call.store, wanted, after, given)
    return follow(call, messages)


def _log_page(
    query: LogQuery,
    given: dict[str, Any],
    rows: list[EventRow],
    found: Found,
    *,
    may_follow: bool,
) -> LogPage:
    def to(**place: Any) -> str:
        return address("/log", **given, **place)

    newer = older = further = None
    if query.after is not None:
        older = to(before=found.after + 1)
        if found.has_more:
            newer = to(after=found.upto)
        elif found.is_at_end:
            newer = to()
        else:
            further = to(after=found.upto)
    else:
        if query.before is not None:
            newer = to(after=query.before - 1)
        if found.has_more:
            older = to(before=found.after + 1)
        elif not found.is_at_end:
            further = to(before=found.after + 1)
    is_newest = query.before is None and query.after is None
    why_not = "" if is_newest else "Older events. New ones are not shown here."
    if is_newest and "field" in given:
        why_not = "A page that looks for a value is not live. Reload it to look again."
    return LogPage(
        rows,
        found,
        newer,
        older,
        further,
        None if why_not or not may_follow else address("/live/log", **given, after=found.head),
        why_not,
    )


async def _position_of(call: Call[Any, Any], text: str) -> int:
    """Return the position that a reader wants to go to: it is written so, or as a moment."""
    digits = re.sub(r"[\s,.'_]", "", text)
    if digits.isdecimal() and digits.isascii() and len(digits) <= 18 and "-" not in text:
        return int(digits)
    return await call.store.position_at(_moment(text))


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.replace(" ", "T", 1) if "T" not in text else text)
    except ValueError:
        raise InvalidInput(
            "to must be a position (1842117), or a time of UTC (2026-03-03 14:02), not"
            f" {text[:60]!r}"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


async def _names(call: Call[Any, Any], rows: list[EventRow], head: int) -> dict[str, list[str]]:
    """Return the types and channels that a filter can name, as far as the reader may know them."""
    if call.principal.may_everywhere(Verb.READ):
        types, channels = await call.store._engine.run(known_names(head))
    else:
        types = sorted({row.type for row in rows})
        channels = sorted({row.channel for row in rows})
    return {"types": types, "channels": channels}


async def _nothing() -> AsyncIterator[Message]:
    await asyncio.Event().wait()
    yield Message("place", {})


async def _news(
    store: AsyncEventStore, query: Query, start: Any, given: Mapping[str, Any]
) -> AsyncIterator[Message]:
    """Return new events in messages.

    The next message is asked for when the browser has taken the last one. If it is far behind then,
    it continues with the newest events, so that nothing waits for it in memory.
    """
    while True:
        head = await store.head()
        position = getattr(start, "position", start)
        if isinstance(position, int) and head - position > _BEHIND:
            start = head - _SHOWN
            yield Message("rows", {"html": _html([], given, skipped=start - position), "count": 0})
        async with (
            store.subscribe(query, after=start) as subscription,
            aclosing(_messages(subscription, store.head, given)) as messages,
        ):
            async for message in messages:
                yield message
            start = subscription.position


async def _messages(
    subscription: AsyncSubscription[Any],
    head: Callable[[], Awaitable[int]],
    given: Mapping[str, Any],
) -> AsyncGenerator[Message]:
    """Return at most ten messages a second, each with at most twenty rows and the count of all.

    It ends when the reader is far behind the head.
    """
    batches = subscription.batches()
    following = asyncio.ensure_future(_next(batches))
    pause, told_at = _PAUSE, time.monotonic()
    place, position, is_caught_up = str(subscription.checkpoint), subscription.position, True
    try:
        while is_caught_up or await head() - position <= _BEHIND:
            newest: deque[RecordedEvent] = deque(maxlen=_SHOWN)
            count = 0
            await asyncio.wait({following}, timeout=_SILENCE)
            ends = time.monotonic() + pause
            while (left := ends - time.monotonic()) > 0:
                done, _ = await asyncio.wait({following}, timeout=left)
                if not done:
                    break
                batch = following.result()
                if batch is None:
                    return
                newest.extend(batch.events)
                count += len(batch.events)
                # Before the next batch is read: the place is behind the events of this one.
                place, position = str(subscription.checkpoint), subscription.position
                is_caught_up = batch.is_caught_up
                following = asyncio.ensure_future(_next(batches))
            pause = _BUSY_PAUSE if count > _SHOWN else _PAUSE
            if count:
                html = _html(
                    reversed(newest), given, count=count, shown=len(newest), position=position
                )
                yield Message("rows", {"html": html, "count": count}, place)
                told_at = time.monotonic()
            elif time.monotonic() - told_at > _SILENCE:
                yield Message("place", {}, place)
                told_at = time.monotonic()
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await following


async def _next(batches: AsyncIterator[Batch[Any]]) -> Batch[Any] | None:
    return await anext(batches, None)


def _html(events: Iterable[RecordedEvent], given: Mapping[str, Any], **facts: int) -> str:
    return rendering.fragment(
        "parts/log_rows.html",
        rows=rows_of(events),
        given=given,
        count=facts.get("count", 0),
        shown=facts.get("shown", 0),
        skipped=facts.get("skipped", 0),
        position=facts.get("position", 0),
    )


pages = (show_log, follow_log)
