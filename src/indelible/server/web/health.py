"""The health of the store: checks with their values, their limits and what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.responses import Response

from indelible.access import Verb
from indelible.admin.health import StoreHealth, store_health
from indelible.errors import IndelibleError
from indelible.postgres.migrations import newest_version
from indelible.server.problems import problem_of
from indelible.server.routing import Call

from . import formats, rendering
from .addresses import address
from .page import not_here, page
from .sampler import Sample

SLOW = 0.25
HELD = 10.0
LAG = 10_000
APART = 1.0
_PATIENCE = 1.5
_ORDER = ("stopped", "attention", "ok", "idle")


class HealthQuery(msgspec.Struct, kw_only=True):
    """Nothing to choose."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what is checked.
        kind: how it is, for `kit.state`; idle if it is not known.
        word: how it is, in a word.
        value: what was found.
        limit: what it may be.
        remedy: what to do; an empty text if nothing.
        command: a command that does it or tells more; an empty text without one.
        links: names of what is concerned, with their addresses.
    """

    name: str
    kind: str
    word: str
    value: str
    limit: str
    remedy: str = ""
    command: str = ""
    links: Sequence[tuple[str, str]] = ()


@page("GET", "/health", query=HealthQuery)
async def show_health(call: Call[HealthQuery, None]) -> Response:
    """Show the checks, failures first, in 3 statements; the sampler has counted the readers."""
    if not call.principal.may_everywhere(Verb.READ):
        raise not_here("There is nothing here that your token may read.")
    found = await checks(call)
    return rendering.render(
        call.request,
        "health.html",
        title="Health",
        nav="health",
        checks=found,
        failing=sum(check.kind in ("stopped", "attention") for check in found),
        now=datetime.now(UTC),
    )


pages = [show_health]


async def checks(call: Call[Any, Any]) -> list[Check]:
    """Run the checks, and return them, the failures first."""
    looking = asyncio.ensure_future(call.request.app.state.sampler.look())
    begun, now = time.monotonic(), datetime.now(UTC)
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await call.store._engine.run(store_health())
    except TimeoutError:
        return [_away(f"no answer in {_PATIENCE} s")]
    except IndelibleError as error:
        return [_away(problem_of(error).detail)]
    seconds = time.monotonic() - begun
    sample: Sample = await looking
    results = [
        *of_store(found, seconds, found.clock - now - timedelta(seconds=seconds / 2)),
        *of_readers(sample),
    ]
    return sorted(results, key=lambda check: _ORDER.index(check.kind))


def of_store(
    found: StoreHealth, seconds: float = 0.0, apart: timedelta = timedelta()
) -> list[Check]:
    """Return the checks of the store and its database server.

    Args:
        found: what was found.
        seconds: how long the answer took, for three statements; 0 if that is not of interest.
        apart: how far the clock of the server is from that of this process, if that is known.
    """
    held = max((holder.seconds or 0.0 for holder in found.holders), default=0.0)
    behind = found.last_position - found.head
    newest = newest_version()
    return [
        _check(
            "Database",
            seconds <= SLOW,
            f"PostgreSQL {found.server_version}, answered in {seconds * 1000:.0f} ms",
            f"{SLOW * 1000:.0f} ms",
            "Look at the load of the database server, and at the network to it.",
        ),
        _check(
            "Head",
            held <= HELD,
            f"held back for {formats.duration(held)}, {formats.plural(behind, 'position')} behind"
            f" it: {'; '.join(map(str, found.holders[:5]))}"
            if found.holders
            else "not held back",
            f"{HELD:.0f} s",
            "Readers get no later event until these transactions end. End them in the program that"
            " opened them, or in the database.",
            command=next(
                (
                    f"SELECT pg_terminate_backend({holder.pid});"
                    for holder in found.holders
                    if holder.pid is not None
                ),
                "",
            ),
        ),
        _check(
            "Schema",
            found.schema_version == newest,
            f"version {found.schema_version}, functions {found.function_set}",
            f"version {newest}",
            "Bring the store up to date, then restart the programs that use it.",
            command="indelible store init",
        ),
        _check(
            "Clock",
            abs(apart.total_seconds()) <= APART,
            f"{formats.duration(apart)} apart: this server and its database",
            f"{APART:.0f} s",
            "Set both clocks by NTP. The recorded times are those of the database.",
        ),
        Check(
            "Disk",
            "ok",
            "ok",
            f"{formats.size(found.bytes)} for events, streams and their indexes",
            "what the disk has",
        ),
    ]


def of_readers(sample: Sample) -> list[Check]:
    """Return the checks of consumer groups and projections, as they were counted last."""
    if sample.readers_at is None:
        waiting = sample.failed or "not counted yet"
        return [
            Check(name, "idle", "not known", waiting, limit)
            for name, limit in (
                ("Lag", f"{LAG:,} events"),
                ("Parked events", "none"),
                ("Left-out events", "none"),
                ("Stopped partitions", "none"),
            )
        ]
    lags = {
        **{
            (group.name, _group(group.name, "workers")): group.lag_events for group in sample.groups
        },
        **{
            (f"{each.build.name} v{each.build.version}", _projection(each.build.name)): (
                each.lag_events
            )
            for each in sample.projections
            if each.build.state == "serving"
        },
    }
    parked = {
        (group.name, _group(group.name, "parked")): group.parked
        for group in sample.groups
        if group.parked
    }
    left_out = {
        (each.build.name, _projection(each.build.name, "left-out")): each.parked
        for each in sample.projections
        if each.parked
    }
    stopped = {
        (f"{each.build.name} v{each.build.version}", _projection(each.build.name)): each.stopped
        for each in sample.projections
        if each.stopped
    }
    far = [key for key, lag in lags.items() if lag > LAG]
    most = max(lags.values(), default=0)
    return [
        _check(
            "Lag",
            not far,
            f"at most {formats.plural(most, 'event')}" if lags else "no group and no projection",
            f"{LAG:,} events",
            "Start more workers, or look why they are slow.",
            links=far,
        ),
        _check(
            "Parked events",
            not parked,
            formats.plural(sum(parked.values()), "event"),
            "none",
            "Mend the handler, then replay them. The later events of their streams wait.",
            links=list(parked),
        ),
        _check(
            "Left-out events",
            not left_out,
            formats.plural(sum(left_out.values()), "event"),
            "none",
            "Mend the projection, then rebuild it.",
            links=list(left_out),
        ),
        _check(
            "Stopped partitions",
            not stopped,
            formats.plural(sum(stopped.values()), "partition"),
            "none",
            "Mend the projection, then restart it.",
            links=list(stopped),
            is_severe=True,
        ),
    ]


def _check(
    name: str,
    holds: bool,
    value: str,
    limit: str,
    remedy: str,
    *,
    command: str = "",
    links: Sequence[tuple[str, str]] = (),
    is_severe: bool = False,
) -> Check:
    if holds:
        return Check(name, "ok", "ok", value, limit)
    kind, word = ("stopped", "failed") if is_severe else ("attention", "attention")
    return Check(name, kind, word, value, limit, remedy, command, links[:10])


def _away(why: str) -> Check:
    return Check(
        "Database",
        "stopped",
        "away",
        why,
        "an answer",
        "Start the database, and look at the address that the server was given. The server tries"
        " again with each request.",
    )


def _group(name: str, tab: str) -> str:
    return address("/group", name=name, tab=tab)


def _projection(name: str, tab: str | None = None) -> str:
    return address("/projection", name=name, tab=tab)
