"""What all readers of the page see of the whole store, counted by one task per process.

It reads only while somebody looks. So a server whose page nobody opens runs no statement for it,
and many readers cost as much as one. Nothing is written to the database: a new process knows
nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from indelible import AsyncEventStore
from indelible.admin.activity import index_times
from indelible.admin.health import StoreHealth, store_health
from indelible.admin.statistics import StoreStats
from indelible.consumer_groups import GroupInfo
from indelible.errors import IndelibleError
from indelible.projections.types import ProjectionStatus

_HEAD_SECONDS = 2.0
_READERS_SECONDS = 5.0
_RATE_SECONDS = 20.0
_STATS_SECONDS = 60.0
_SHARE = 20
"""What takes long is counted again after this many times its own duration, at the least."""
_LONG = 1.0
_IDLE_SECONDS = 60.0
"""It rests so long after the last look."""
_FINE = 720
"""Points of the last hour, 5 seconds apart."""
_COARSE = 1_440
"""Points of the last day, a minute apart."""
_DRAWN = 240
"""Points of a chart."""
_log = logging.getLogger("indelible.server")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted last.

    Attributes:
        since: when this process began to count.
        head: the head; None before the first time.
        rate: events per second over the last seconds; None until that is known.
        stats: the size of the store.
        stats_at: when that was counted.
        groups: the consumer groups.
        projections: the builds of projections.
        health: the state of the store and its database server.
        readers_at: when groups, projections and the health were looked at.
        failed: why nothing can be counted now; empty if it can.
    """

    since: datetime
    head: int | None = None
    rate: float | None = None
    stats: StoreStats | None = None
    stats_at: datetime | None = None
    groups: Sequence[GroupInfo] = ()
    projections: Sequence[ProjectionStatus] = ()
    health: StoreHealth | None = None
    readers_at: datetime | None = None
    failed: str = ""


@dataclass(slots=True)
class _History:
    """The lags of one reader: of the last hour in steps of seconds, of the last day in minutes."""

    fine: deque[tuple[datetime, int]] = field(default_factory=lambda: deque(maxlen=_FINE))
    coarse: deque[tuple[datetime, int]] = field(default_factory=lambda: deque(maxlen=_COARSE))

    def add(self, at: datetime, lag: int) -> None:
        self.fine.append((at, lag))
        if not self.coarse or (at - self.coarse[-1][0]).total_seconds() >= 60:
            self.coarse.append((at, lag))

    def values(self) -> list[tuple[datetime, int]]:
        """Return the last day: the last hour in steps of seconds, what is before in minutes."""
        return [*(each for each in self.coarse if each[0] < self.fine[0][0]), *self.fine]

    def drawn(self) -> list[tuple[datetime, int]]:
        """Return values for a chart: evenly some of them, with the last one."""
        values = self.values()
        return values[:: -(len(values) // _DRAWN + 1)][::-1]


class Sampler:
    """Counts while somebody looks.

    Args:
        store: the store.
    """

    def __init__(self, store: AsyncEventStore) -> None:
        self._store = store
        self._looked_at = float("-inf")
        self._looked = asyncio.Event()
        self._counted = asyncio.Event()
        self._lags: dict[str | int, _History] = {}
        self._head_at = 0.0
        self.is_resting = False
        """Whether it waits until somebody looks."""
        self._task = asyncio.create_task(self._run())
        self.sample = Sample(datetime.now(UTC))

    async def look(self) -> Sample:
        """Return what was counted last, and go on counting for a minute."""
        self._looked_at = time.monotonic()
        self._looked.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._counted.wait(), 1.0)
        return self.sample

    def lags(self, reader: str | int) -> list[tuple[datetime, int]]:
        """Return the lags of a consumer group, or of the build with an id, in order of time."""
        self._looked_at = time.monotonic()
        self._looked.set()
        found = self._lags.get(reader)
        return [] if found is None else found.drawn()

    async def close(self) -> None:
        """Stop counting."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        due = dict.fromkeys(("head", "readers", "index", "stats"), 0.0)
        while True:
            if time.monotonic() - self._looked_at > _IDLE_SECONDS:
                self._looked.clear()
                self._counted.clear()
                self.is_resting = True
                await self._looked.wait()
                self.is_resting = False
            try:
                await self._count("head", due, _HEAD_SECONDS, self._count_head)
                await self._count("readers", due, _READERS_SECONDS, self._count_readers)
                self._counted.set()
                await self._count("index", due, _HEAD_SECONDS, self._index)
                await self._count("stats", due, _STATS_SECONDS, self._count_stats)
                self.sample = replace(self.sample, failed="")
            except IndelibleError as error:
                self.sample = replace(self.sample, failed=type(error).__name__)
            except Exception:
                _log.exception("the page could not count")
                self.sample = replace(self.sample, failed="internal error")
            self._counted.set()
            await asyncio.sleep(_HEAD_SECONDS)

    async def _count(
        self, what: str, due: dict[str, float], seconds: float, count: Callable[[], Awaitable[None]]
    ) -> None:
        """Count something, if it is due. What took long, or failed after long, waits longer."""
        begun = time.monotonic()
        if begun < due[what]:
            return
        try:
            await count()
        finally:
            took = time.monotonic() - begun
            due[what] = begun + max(seconds, _SHARE * took if took > _LONG else 0.0)

    async def _count_head(self) -> None:
        before, at = self.sample.head, self._head_at
        head = await self._store.head()
        now = time.monotonic()
        is_known = before is not None and now - at < _RATE_SECONDS  # else it has rested
        rate = max(head - (before or 0), 0) / max(now - at, 0.001) if is_known else None
        self._head_at = now
        self.sample = replace(self.sample, head=head, rate=rate)

    async def _count_readers(self) -> None:
        groups = await self._store.groups()
        projections = await self._store.projection_statuses()
        at = datetime.now(UTC)
        health = await self._store._engine.run(store_health())
        lags: dict[str | int, int] = {group.name: group.lag_events for group in groups}
        for status in projections:
            lags[status.build.id] = status.lag_events
        for name, lag in lags.items():
            self._lags.setdefault(name, _History()).add(at, lag)
        for name in self._lags.keys() - lags.keys():
            del self._lags[name]
        self.sample = replace(
            self.sample, groups=groups, projections=projections, health=health, readers_at=at
        )

    async def _index(self) -> None:
        """Index recorded times for the chart, step by step, if the log has many without."""
        await self._store._engine.run(index_times())

    async def _count_stats(self) -> None:
        stats = await self._store.stats()
        self.sample = replace(self.sample, stats=stats, stats_at=datetime.now(UTC))
