"""The overview: how much there is, what happens now, and what needs attention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.admin.activity import Busiest, busiest, positions_over
from indelible.consumer_groups import GroupInfo
from indelible.projections.types import ProjectionStatus
from indelible.server.groups import may
from indelible.server.routing import EVENT_STREAM, Call

from . import formats, rendering
from .addresses import address
from .groups import Shown, shown
from .live import Message, follow
from .page import page
from .sampler import Sample, Sampler

_RANGES = {
    "1h": (timedelta(hours=1), 60, "%H:%M"),
    "24h": (timedelta(hours=24), 96, "%H:%M"),
    "7d": (timedelta(days=7), 84, "%d %b"),
    "30d": (timedelta(days=30), 90, "%d %b"),
}
_BEHIND = 1_000
"""A reader is behind if it lags by more events than this."""
_SECONDS = 2.0


class OverviewQuery(msgspec.Struct, kw_only=True):
    """Of how long the chart is."""

    range: Literal["1h", "24h", "7d", "30d"] = "24h"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the chart: how many events a part of the time has."""

    begin: datetime
    end: datetime
    events: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs an operator."""

    kind: str
    name: str
    text: str
    address: str


@page("GET", "/", query=OverviewQuery)
async def show_overview(call: Call[OverviewQuery, None]) -> Response:
    """Show the whole store, if the reader may read all of it.

    The chart takes a few look-ups per bar; the busiest streams are those of 10,000 events. All
    other figures were counted before; see `Sampler`.
    """
    if not call.principal.may_everywhere(Verb.READ):
        return rendering.render(
            call.request, "overview_part.html", title="Overview", nav="overview"
        )
    sample = await sampler_of(call).look()
    head = await call.store.head()
    run = call.store._engine.run
    bars = await _bars(call)
    busy: Busiest = await run(busiest())
    return rendering.render(
        call.request,
        "overview.html",
        title="Overview",
        nav="overview",
        query=call.query,
        ranges=list(_RANGES),
        head=head,
        sample=sample,
        figures=_figures(sample, head),
        bars=bars,
        most=max([bar.events for bar in bars], default=0),
        busiest=busy,
        groups=groups_of(call, sample),
        projections=projections_of(call, sample),
        attention=attention(call, sample),
        base=str(call.request.base_url).rstrip("/"),
    )


@page("GET", "/live/overview", media_types=(EVENT_STREAM,))
async def follow_overview(call: Call[Any, None]) -> Response:
    """Tell the figures again and again, while somebody looks."""
    is_whole = call.principal.may_everywhere(Verb.READ)

    async def messages() -> AsyncIterator[Message]:
        while is_whole:
            sample = await sampler_of(call).look()
            yield Message("figures", _figures(sample, sample.head or 0))
            await asyncio.sleep(_SECONDS)

    return follow(call, messages())


pages = [show_overview, follow_overview]


def sampler_of(call: Call[Any, Any]) -> Sampler:
    """Return the sampler of this process."""
    found: Sampler = call.request.app.state.sampler
    return found


def groups_of(call: Call[Any, Any], sample: Sample) -> Sequence[Shown]:
    """Return the groups that were counted, and that the reader may see."""
    return [shown(info) for info in sample.groups if may(call, info.settings.query)]


def projections_of(call: Call[Any, Any], sample: Sample) -> Sequence[ProjectionStatus]:
    """Return the builds that were counted, and that the reader may see."""
    return [
        status
        for status in sample.projections
        if may(call, status.build.query, Verb.READ, Verb.MANAGE)
    ]


def attention(call: Call[Any, Any], sample: Sample) -> list[Attention]:
    """Return what needs an operator, the worst first."""
    found = []
    for status in projections_of(call, sample):
        build = status.build
        to = address("/projection", name=build.name)
        if status.stopped:
            text = f"{formats.plural(status.stopped, 'partition')} stopped"
            found.append(Attention("stopped", f"{build.name} v{build.version}", text, to))
        if status.parked:
            text = f"{formats.plural(status.parked, 'event')} left out"
            found.append(Attention("attention", f"{build.name} v{build.version}", text, to))
    for each in groups_of(call, sample):
        info = each.info
        if info.parked:
            to = address("/group", name=info.name)
            text = f"{formats.number(info.parked)} parked"
            found.append(Attention("attention", info.name, text, to))
        elif _is_behind(info) and not info.workers:
            to = address("/group", name=info.name, tab="workers")
            text = f"no worker, lag {each.lag}"
            found.append(Attention("stopped", info.name, text, to))
    return sorted(found, key=lambda each: each.kind != "stopped")


def _is_behind(info: GroupInfo) -> bool:
    return info.lag_events > _BEHIND


def _figures(sample: Sample, head: int) -> dict[str, str]:
    """Return the figures as text, by the names that the page has for them."""
    stats = sample.stats
    behind = sum(_is_behind(info) for info in sample.groups)
    counted = "not counted yet"
    if sample.stats_at is not None:
        age = datetime.now(UTC) - sample.stats_at
        counted = f"counted {formats.duration(age)} ago"
    return {
        "head": formats.number(max(head, sample.head or 0)),
        "events": formats.number(stats.events) if stats else "…",
        "streams": formats.number(stats.streams) if stats else "…",
        "rate": f"{sample.rate:,.0f} /s" if sample.rate >= 10 else f"{sample.rate:,.1f} /s",
        "behind": f"{behind} of {formats.plural(len(sample.groups), 'group')}",
        "parked": formats.number(sum(info.parked for info in sample.groups)),
        "size": formats.size(stats.bytes) if stats else "…",
        "counted": f"{counted}, {sample.failed}" if sample.failed else counted,
    }


async def _bars(call: Call[OverviewQuery, None]) -> list[Bar]:
    span, count, _ = _RANGES[call.query.range]
    now = datetime.now(UTC)
    edges = [now - span + span * index / count for index in range(count + 1)]
    positions = await call.store._engine.run(positions_over(edges))
    return [
        Bar(begin, end, max(last - first, 0))
        for (begin, end), (first, last) in zip(pairwise(edges), pairwise(positions), strict=True)
    ]
