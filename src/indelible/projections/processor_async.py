"""Run one partition of a projection."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Self

from indelible.core.concurrency_async import IS_ASYNC, AsyncEvent, is_set_within_async
from indelible.core.retry import StepSupervisor
from indelible.errors import IndelibleError, LeaseLost
from indelible.postgres.engine_async import AsyncShortTimeoutEngine
from indelible.postgres.lease_renewal import Lease
from indelible.postgres.transaction_async import AsyncBoundEngine
from indelible.subscriptions.head_watcher import HeadWatcher
from indelible.subscriptions.log_follower import Batch

from . import partition
from .handlers_async import enrich_async, handle_async

_log = logging.getLogger("indelible.projections")

_LONGEST_LOOK = 1.0
"""Seconds between two attempts to take a partition that another worker holds."""


class AsyncProjector:
    """Keeps one partition of a projection up to date; one task uses it.

    Get one with `AsyncEventStore.projector`.

    Example:
        ```python
        async with store.projector(Orders) as projector:
            await projector.run(stop)                     # until the asyncio.Event is set
        ```
    """

    def __init__(
        self,
        engine: AsyncShortTimeoutEngine | AsyncBoundEngine,
        watch: HeadWatcher,
        run: partition.PartitionProcessor,
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._run = run
        self._is_unsure = False  # whether it is unknown if the last batch was stored
        self._woken = AsyncEvent()
        run.definition.check_variant(is_async=IS_ASYNC)

    @property
    def position(self) -> int:
        """The checkpoint: the state includes the partition's events up to here."""
        return self._run.position

    @property
    def is_holding(self) -> bool:
        """Whether the projector holds the partition, as far as it knows."""
        return self._run.token > 0

    async def take_over(self) -> bool:
        """Take the partition, unless another worker holds it.

        Returns:
            Whether it was taken.

        Raises:
            EpochMismatch: the store failed over or was restored, and the state is external.
            ProjectionDefinitionChanged: the projection is registered with another definition under
                the same version.
        """
        return await self._engine.run(self._run.acquire())

    async def heartbeat(self) -> None:
        """Renew the lease. Each `step` renews it, too. Another task may call it during a step.

        Raises:
            LeaseLost: another worker has taken over.
        """
        await self._engine.run(self._run.renew_lease())

    async def step(self) -> Batch:
        """Process the next batch, and move the checkpoint with it.

        Returns:
            The batch; without events if there was nothing to do.

        Raises:
            LeaseLost: another worker has taken over; nothing was stored.
            ProjectionFailed: the projection failed at an event; nothing was stored, and the next
                step starts again with the same events.
        """
        try:
            if self._is_unsure:
                await self._engine.run(self._run.reload_checkpoint())
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
        described = run.definition
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
                await bound.run(run.lock())
                await handle_async(described, batch.events, bound)
                await bound.run(run.advance(batch))
        else:
            await handle_async(described, batch.events, None)
            await engine.run(run.advance(batch))
        run.moved(batch)
        return batch

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the partition up to date until `stop` is set.

        While another worker holds the partition, this waits for it.

        Args:
            stop: ends the run when set, after the current batch.

        Raises:
            ProjectionFailed: the projection failed at an event.
            EpochMismatch: the store failed over or was restored, and the state is external.
        """
        supervisor = StepSupervisor("a projection waits", _log)
        self._watch.join(id(self._woken), self._woken.set)
        lease = _hold_lease(self._watch, self._run)
        try:
            while not stop.is_set():
                try:
                    with supervisor:
                        if not self.is_holding and not await self.take_over():
                            await is_set_within_async(stop, min(_LONGEST_LOOK, self._run.lease / 3))
                            continue
                        _show_life(lease, self._run, 0)
                        self._woken.clear()
                        batch = await self.step()
                        if batch.is_caught_up and not stop.is_set():
                            await self._wait_for_more(stop, min(0.2, self._run.lease / 3), lease)
                except LeaseLost:
                    _log.warning("%s: another worker has taken over", self._run.definition)
                if supervisor.pause:
                    _show_life(lease, self._run, supervisor.pause)
                    await is_set_within_async(stop, supervisor.pause)
        finally:
            self._watch.leave(id(self._woken))
            self._watch.leases.drop(lease)

    async def _wait_for_more(
        self, stop: asyncio.Event | AsyncEvent, pause: float, lease: Lease | None = None
    ) -> None:
        """Wait until there are more events; check every `pause` seconds, and renew the lease."""
        while not stop.is_set() and not self._run.has_more(self._watch.state):
            self._watch.raise_what_ended()
            if lease is not None:
                _check_lease(lease, self._run)
                _show_life(lease, self._run, pause)
            await self._woken.wait(pause)
            self._woken.clear()
        self._run.extend(self._watch.state)

    async def close(self) -> None:
        """Give the partition back. Closing twice is allowed."""
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
        f"the lease of partition {run.partition} of projection {run.definition}"
    )


def _show_life(lease: Lease, run: partition.PartitionProcessor, pause: float) -> None:
    lease.show_life(run.renewal(), seconds=run.lease, pause=pause)


def _check_lease(lease: Lease, run: partition.PartitionProcessor) -> None:
    """Raise LeaseLost if another worker has taken over."""
    if lease.is_lost(run.renewal()):
        run.token = 0
        raise LeaseLost
