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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from indelible import AsyncEventStore
from indelible.admin.statistics import StoreStats
from indelible.consumer_groups import GroupInfo
from indelible.errors import IndelibleError
from indelible.projections.types import ProjectionStatus

_HEAD_SECONDS = 2.0
_READERS_SECONDS = 5.0
_STATS_SECONDS = 60.0
_STATS_SHARE = 20
"""Statistics are counted again after this many times their own duration, at the least."""
_IDLE_SECONDS = 60.0
"""It rests so long after the last look."""
_FINE = 720
"""Points of the last hour, 5 seconds apart."""
_COARSE = 1_440
"""Points of the last day, a minute apart."""
_log = logging.getLogger("indelible.server")


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted last.

    Attributes:
        since: when this process began to count.
        head: the head; None before the first time.
        rate: events per second over the last seconds.
        stats: the size of the store.
        stats_at: when that was counted.
        groups: the consumer groups.
        projections: the builds of projections.
        readers_at: when groups and projections were looked at.
        failed: why nothing can be counted now; empty if it can.
    """

    since: datetime
    head: int | None = None
    rate: float = 0.0
    stats: StoreStats | None = None
    stats_at: datetime | None = None
    groups: Sequence[GroupInfo] = ()
    projections: Sequence[ProjectionStatus] = ()
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
        self._lags: dict[str, _History] = {}
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

    def lags(self, reader: str) -> list[tuple[datetime, int]]:
        """Return the lags of a consumer group, or of a build as `name v3`, in order of time."""
        self._looked_at = time.monotonic()
        self._looked.set()
        found = self._lags.get(reader)
        return [] if found is None else list(found.fine)

    async def close(self) -> None:
        """Stop counting."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        due = {"head": 0.0, "readers": 0.0, "stats": 0.0}
        while True:
            if time.monotonic() - self._looked_at > _IDLE_SECONDS:
                self._looked.clear()
                self._counted.clear()
                self.is_resting = True
                await self._looked.wait()
                self.is_resting = False
            now = time.monotonic()
            try:
                if now >= due["head"]:
                    await self._count_head()
                    due["head"] = now + _HEAD_SECONDS
                if now >= due["readers"]:
                    await self._count_readers()
                    due["readers"] = now + _READERS_SECONDS
                self._counted.set()
                if now >= due["stats"]:
                    seconds = await self._count_stats()
                    due["stats"] = now + max(_STATS_SECONDS, _STATS_SHARE * seconds)
                self.sample = replace(self.sample, failed="")
            except IndelibleError as error:
                self.sample = replace(self.sample, failed=type(error).__name__)
            except Exception:
                _log.exception("the page could not count")
                self.sample = replace(self.sample, failed="internal error")
            self._counted.set()
            await asyncio.sleep(_HEAD_SECONDS)

    async def _count_head(self) -> None:
        before, at = self.sample.head, self._head_at
        head = await self._store.head()
        now = time.monotonic()
        rate = 0.0 if before is None else max(head - before, 0) / max(now - at, 0.001)
        self._head_at = now
        self.sample = replace(self.sample, head=head, rate=rate)

    async def _count_readers(self) -> None:
        groups = await self._store.groups()
        projections = await self._store.projection_statuses()
        at = datetime.now(UTC)
        lags: dict[str, int] = {group.name: group.lag_events for group in groups}
        for status in projections:
            lags[f"{status.build.name} v{status.build.version}"] = status.lag_events
        for name, lag in lags.items():
            self._lags.setdefault(name, _History()).add(at, lag)
        for name in self._lags.keys() - lags.keys():
            del self._lags[name]
        self.sample = replace(self.sample, groups=groups, projections=projections, readers_at=at)

    async def _count_stats(self) -> float:
        begun = time.monotonic()
        stats = await self._store.stats()
        self.sample = replace(self.sample, stats=stats, stats_at=datetime.now(UTC))
        return time.monotonic() - begun
