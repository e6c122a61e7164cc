"""Run one partition of a projection in a task."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Self

from indelible.core.concurrency_async import is_set
from indelible.core.operation import documented_as
from indelible.core.retry import TRANSIENT_ERRORS, Backoff
from indelible.errors import IndelibleError, LeaseLost
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.postgres.lease_renewal import Lease
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.subscriptions.head_watcher import HeadWatcher
from indelible.subscriptions.log_follower import Batch

from . import partition
from .handlers_async import enrich_async, handle_async
from .processor import Projector, raise_what_ended

_log = logging.getLogger("indelible.projections")

_LONGEST_LOOK = 1.0
"""Seconds between two looks at a partition that somebody else holds."""


@documented_as(Projector)
class AsyncProjector:
    """Keeps one partition of a projection up to date; one task uses it. `Projector` with `await`.

    Get one with `AsyncEventStore.projector`.

    Example:
        ```python
        async with store.projector(Orders) as projector:
            await projector.run(stop)               # until the asyncio.Event is set
        ```
    """

    def __init__(
        self,
        engine: AsyncPoolEngine | AsyncBoundEngine,
        watch: HeadWatcher,
        run: partition.PartitionProcessor,
    ) -> None:
        self._engine = engine.impatient()
        self._watch = watch
        self._run = run
        self._is_unsure = False
        run.described.check_variant(is_async=True)

    @property
    def position(self) -> int:
        return self._run.position

    @property
    def is_holding(self) -> bool:
        return self._run.token > 0

    async def take_over(self) -> bool:
        return await self._engine.run(self._run.take_over())

    async def beat(self) -> None:
        await self._engine.run(self._run.beat())

    async def step(self) -> Batch:
        try:
            if self._is_unsure:
                await self._engine.run(self._run.resume())
                self._is_unsure = False
            return await self._take_in()
        except LeaseLost:
            self._run.token, self._is_unsure = 0, False
            raise
        except BaseException:
            self._run.forget()
            self._is_unsure = True
            raise

    async def _take_in(self) -> Batch:
        run, engine = self._run, self._engine
        described = run.described
        if described.kind == "documents" and not described.enriches:
            return await engine.run(run.project())
        batch = await engine.run(run.next_batch())
        if batch.position == run.position:
            return batch
        if not batch.events:
            await engine.run(run.advance(batch))
        elif described.kind == "documents":
            async with engine.transaction() as bound:
                known = await enrich_async(described, batch.events, bound)
            await engine.run(run.commit(batch, known))
            return batch
        elif described.kind == "tables":
            async with engine.transaction() as bound:
                await bound.run(run.fence())
                await handle_async(described, batch.events, bound)
                await bound.run(run.advance(batch))
        else:
            await handle_async(described, batch.events, None)
            await engine.run(run.advance(batch))
        run.moved(batch)
        return batch

    async def run(self, stop: asyncio.Event) -> None:
        retries = Backoff()
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop may have ended
                loop.call_soon_threadsafe(woken.set)

        self._watch.join(id(woken), wake)
        lease = _hold_lease(self._watch, self._run)
        try:
            while not stop.is_set():
                try:
                    if not self.is_holding and not await self.take_over():
                        await is_set(stop, min(_LONGEST_LOOK, self._run.lease / 3))
                        continue
                    _show_life(lease, self._run, 0)
                    woken.clear()
                    if (await self.step()).is_caught_up and not stop.is_set():
                        await self._wait(stop, woken, lease)
                    retries.succeed()
                except LeaseLost:
                    _log.warning("%s: another worker has taken over", self._run.described)
                except TRANSIENT_ERRORS as error:
                    pause = retries.next_pause()
                    _log.warning("a projection waits %.2f s for the database: %s", pause, error)
                    _show_life(lease, self._run, pause)
                    await is_set(stop, pause)
        finally:
            self._watch.leave(id(woken))
            self._watch.leases.drop(lease)

    async def _wait(self, stop: asyncio.Event, woken: asyncio.Event, lease: Lease) -> None:
        pause = min(0.2, self._run.lease / 3)
        while not stop.is_set() and not self._run.has_more(self._watch.state):
            raise_what_ended(self._watch)
            _check_lease(lease, self._run)
            _show_life(lease, self._run, pause)
            await is_set(woken, pause)
            woken.clear()
        self._run.extend(self._watch.state)

    async def close(self) -> None:
        if self.is_holding:
            with suppress(IndelibleError):
                await self._engine.run(self._run.release())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _hold_lease(watch: HeadWatcher, run: partition.PartitionProcessor) -> Lease:
    return watch.leases.hold(
        f"the lease of partition {run.partition} of projection {run.described}"
    )


def _show_life(lease: Lease, run: partition.PartitionProcessor, pause: float) -> None:
    lease.show_life(run.renewal(), seconds=run.lease, pause=pause)


def _check_lease(lease: Lease, run: partition.PartitionProcessor) -> None:
    """Raise LeaseLost where others have taken over."""
    if lease.is_lost(run.renewal()):
        run.token = 0
        raise LeaseLost
