"""The list of streams, in order of name, and those that changed last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from indelible import Query
from indelible.access import Principal, Verb
from indelible.query import QueryItem
from indelible.server.routing import Call
from indelible.streams.info import StreamInfo
from indelible.streams.stream_list import (
    NAMES_AT_ONCE,
    StreamsPage,
    StreamState,
    known_names,
    recent_streams,
    state_of,
    streams_page,
)

from . import rendering
from .addresses import address
from .page import page

ROWS = 50
"""Streams of a page."""
_NEIGHBOURS = 3


class StreamsQuery(msgspec.Struct, kw_only=True):
    """The parameters of the page."""

    prefix: str | None = None
    channel: str | None = None
    state: Literal["open", "closed", "archived", "erased"] | None = None
    after: str | None = None
    before: str | None = None
    tab: Literal["names", "recent"] = "names"


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream of the list."""

    stream: StreamInfo
    state: StreamState


@dataclass(frozen=True, slots=True)
class StreamList:
    """A page of the list.

    Attributes:
        rows: the streams.
        previous, next: the addresses of the pages beside it; None for none.
        further: the address where the list continues, if the page ends because it had looked at
            many names.
        looked_at: how many names a page looks at.
        neighbours: if no stream begins with the prefix: some whose names are near.
    """

    rows: list[StreamRow]
    previous: str | None
    next: str | None
    further: str | None
    looked_at: int
    neighbours: list[str]


@page("GET", "/streams", query=StreamsQuery)
async def show_streams(call: Call[StreamsQuery, None]) -> Response:
    """Show streams.

    A page costs look-ups of 51 names. With a channel or a state, it looks at 10,000 names at most.
    The tab with those that changed last looks at the newest 500 events.
    """
    query = call.query
    given = {
        name: value
        for name, value in msgspec.structs.asdict(query).items()
        if value not in (None, "names")
    }
    if query.tab == "recent":
        shown = await _recent(call)
    else:
        shown = await _by_name(call, given)
    channels: list[str] = []
    if query.tab == "names" and call.principal.may_everywhere(Verb.READ):
        head = await call.store.head()
        _, channels = await call.store._engine.run(known_names(head))
    else:
        channels = sorted({row.stream.channel for row in shown.rows})
    filters = {name: given[name] for name in ("prefix", "channel", "state") if name in given}
    return rendering.render(
        call.request,
        "streams.html",
        title="Streams",
        nav="streams",
        list=shown,
        given=filters,
        query=query,
        channels=channels,
        is_first="after" not in given and "before" not in given,
    )


async def streams_with(
    call: Call[Any, Any], *, prefix: str | None = None, limit: int, **place: Any
) -> StreamsPage:
    """Return streams that a reader may see; see `streams_page`."""
    parts = _parts(call.principal, QueryItem(stream_prefix=prefix or None))
    if not parts:
        return StreamsPage((), None, is_cut=False)
    return await call.store._engine.run(streams_page(parts, limit=limit, **place))


async def neighbours_of(call: Call[Any, Any], name: str) -> list[str]:
    """Return the names of streams that are near a name in order of name."""
    later = (await streams_with(call, after=name, limit=_NEIGHBOURS)).streams
    earlier = (await streams_with(call, before=name, limit=_NEIGHBOURS)).streams
    kept = earlier[-max(_NEIGHBOURS - len(later), 1) :]
    return [each.stream for each in (*kept, *later)][:_NEIGHBOURS]


def _parts(principal: Principal, wanted: QueryItem) -> tuple[QueryItem, ...]:
    query = Query(channel=wanted.channel, stream_prefix=wanted.stream_prefix)
    narrowed = principal.narrow(Verb.READ, query)
    return () if narrowed is None else narrowed.items


async def _by_name(call: Call[StreamsQuery, None], given: dict[str, Any]) -> StreamList:
    query = call.query
    parts = _parts(call.principal, QueryItem(channel=query.channel, stream_prefix=query.prefix))
    found = StreamsPage((), None, is_cut=False)
    if parts:
        found = await call.store._engine.run(
            streams_page(
                parts,
                after=None if query.before else query.after,
                before=query.before,
                state=query.state,
                limit=ROWS + 1,
            )
        )
    backwards = query.before is not None
    has_more = len(found.streams) > ROWS
    kept = found.streams[-ROWS:] if backwards else found.streams[:ROWS]
    filters = {name: each for name, each in given.items() if name not in ("after", "before")}
    earlier = later = further = None
    if kept and (has_more if backwards else query.after):
        earlier = address("/streams", **filters, before=kept[0].stream)
    elif query.after:
        earlier = address("/streams", **filters, before=query.after)
    if kept and (backwards or has_more):
        later = address("/streams", **filters, after=kept[-1].stream)
    if found.is_cut:
        where = "before" if backwards else "after"
        further = address("/streams", **filters, **{where: found.continues_at})
    neighbours = []
    if not kept and query.prefix and not found.is_cut and not (query.after or query.before):
        neighbours = await neighbours_of(call, query.prefix)
    rows = [StreamRow(each, state_of(each)) for each in kept]
    return StreamList(rows, earlier, later, further, NAMES_AT_ONCE, neighbours)


async def _recent(call: Call[StreamsQuery, None]) -> StreamList:
    narrowed = call.principal.narrow(Verb.READ, Query())
    found = []
    if narrowed is not None:
        found = await call.store._engine.run(recent_streams(narrowed))
    rows = [StreamRow(each, state_of(each)) for each in found]
    return StreamList(rows, None, None, None, 0, [])


pages = (show_streams,)
