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
from indelible.server.groups import may
from indelible.server.projections import may as may_see
from indelible.server.routing import EVENT_STREAM, Call

from . import formats, projections, rendering
from .addresses import address
from .groups import Shown, shown, worst_first
from .health import of_store
from .live import Message, follow
from .page import page
from .sampler import Sample, Sampler

_RANGES = {
    "1h": (timedelta(hours=1), 60),
    "24h": (timedelta(hours=24), 96),
    "7d": (timedelta(days=7), 84),
    "30d": (timedelta(days=30), 90),
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
    """Show the whole store, if the reader may read all of it, in at most 5 statements.

    The chart takes a few look-ups per bar; the busiest streams are those of 10,000 events. All
    other figures were counted before; see `Sampler`. Who reads a part of the store sees what of
    these concerns that part alone.
    """
    sample = await sampler_of(call).look()
    if not call.principal.may_everywhere(Verb.READ):
        return rendering.render(
            call.request,
            "overview_part.html",
            title="Overview",
            nav="overview",
            sample=sample,
            groups=groups_of(call, sample),
            projections=projections_of(call, sample),
            attention=attention(call, sample),
        )
    head = await call.store.head()
    bars = await _bars(call, head)
    busy: Busiest = await call.store._engine.run(busiest(head))
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
        most=max([bar.events for bar in bars or ()], default=0),
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
            needs = [[each.kind, each.name, each.text] for each in attention(call, sample)]
            told = {"figures": _figures(sample, sample.head or 0), "attention": needs}
            yield Message("overview", told)
            await asyncio.sleep(_SECONDS)

    return follow(call, messages())


pages = [show_overview, follow_overview]


def sampler_of(call: Call[Any, Any]) -> Sampler:
    """Return the sampler of this process."""
    found: Sampler = call.request.app.state.sampler
    return found


def groups_of(call: Call[Any, Any], sample: Sample) -> Sequence[Shown]:
    """Return the groups that were counted, and that the reader may see, the worst first."""
    return worst_first(shown(info) for info in sample.groups if may(call, info.settings.query))


def projections_of(call: Call[Any, Any], sample: Sample) -> Sequence[projections.Shown]:
    """Return the builds that were counted, and that the reader may see, the worst first."""
    return projections.worst_first(
        projections.shown(status, sample.head or 0)
        for status in sample.projections
        if may_see(call, status.build.query)
    )


def attention(call: Call[Any, Any], sample: Sample) -> list[Attention]:
    """Return what needs an operator, the worst first."""
    found = []
    if sample.health is not None and call.principal.may_everywhere(Verb.READ):
        found += [
            Attention(check.kind, check.name, check.value, "/health")
            for check in of_store(sample.health)
            if check.kind != "ok"
        ]
    for each_build in projections_of(call, sample):
        status, build = each_build.status, each_build.build
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
        "rate": "…" if sample.rate is None else _rate(sample.rate),
        "behind": f"{behind} of {len(sample.groups)}",
        "parked": formats.number(sum(info.parked for info in sample.groups)),
        "size": formats.size(stats.bytes) if stats else "…",
        "counted": f"{counted}, {sample.failed}" if sample.failed else counted,
    }


def _rate(rate: float) -> str:
    return f"{rate:,.0f} /s" if rate >= 10 else f"{rate:,.1f} /s"


async def _bars(call: Call[OverviewQuery, None], head: int) -> list[Bar] | None:
    """Return the bars of the chart; None if the log is not indexed by time yet."""
    span, count = _RANGES[call.query.range]
    now = datetime.now(UTC)
    edges = [now - span + span * index / count for index in range(count + 1)]
    positions = await call.store._engine.run(positions_over(edges, head))
    if positions is None:
        return None
    return [
        Bar(begin, end, max(last - first, 0))
        for (begin, end), (first, last) in zip(pairwise(edges), pairwise(positions), strict=True)
    ]
