"""The daemon: tasks that keep the assigned partitions up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from math import inf

from indelible.core.cancellation import ends_task
from indelible.core.concurrency_async import (
    AsyncBackground,
    AsyncEvent,
    cancel_async,
    is_set_within_async,
)
from indelible.core.retry import TRANSIENT_ERRORS, Backoff, StepSupervisor
from indelible.errors import (
    EpochMismatch,
    IndelibleError,
    LeaseLost,
    ProjectionDefinitionChanged,
    StoreClosed,
)
from indelible.postgres.engine_async import AsyncPoolEngine, AsyncShortTimeoutEngine
from indelible.postgres.lease_renewal import Lease
from indelible.serialization.codec import Codec
from indelible.subscriptions.head_watcher import HeadWatcher

from . import registry
from .assignment import Assignment, PartitionCoordinator, PartitionKey, live_events, sweep
from .error_policy import ErrorPolicy
from .partition import PartitionProcessor
from .processor_async import AsyncProjector

_log = logging.getLogger("indelible.projections")

_LONGEST_LOOK = 0.5
"""Seconds between two looks at the head if no notification arrives."""
_REFUSED = (EpochMismatch, ProjectionDefinitionChanged)
"""Errors for which a daemon leaves a build to other processes: retrying does not help."""


def _hold_lease(watch: HeadWatcher, duty: PartitionCoordinator) -> Lease:
    return watch.leases.hold(f"the leases of daemon {duty.owner}")


def _show_life(lease: Lease, duty: PartitionCoordinator, *, renewed_at: float = -inf) -> None:
    lease.show_life(
        duty.renewal(), seconds=duty.lease, pause=duty.heartbeat_interval, renewed_at=renewed_at
    )


class _AsyncPartitionRunner(AsyncProjector):
    """A projector in a task of the daemon. At errors it retries, parks the event or stops.

    Args:
        engine: the engine.
        watch: the watch on the log.
        run: the partition.
        duty: the coordinator of the daemon, which renews the lease.
        slots: limits how many partitions process a batch at once.
    """

    def __init__(
        self,
        engine: AsyncShortTimeoutEngine,
        watch: HeadWatcher,
        run: PartitionProcessor,
        duty: PartitionCoordinator,
        slots: asyncio.BoundedSemaphore,
    ) -> None:
        super().__init__(engine, watch, run)
        self._duty = duty
        self._slots = slots
        self._failing = ErrorPolicy(run)
        self._is_ready = False
        self._stop = AsyncEvent()
        self.background = AsyncBackground(self._keep, name=f"{run.definition.name}-{run.partition}")

    @property
    def is_running(self) -> bool:
        """Whether its task is still running."""
        return self.background.is_running

    def end(self) -> None:
        """Request that the task ends after the current batch."""
        self._stop.set()
        self._woken.set()

    async def _keep(self) -> None:
        """Keep one partition up to date; the task runs this."""
        supervisor = StepSupervisor("a projection waits", _log)
        try:
            self._watch.join(id(self), self._woken.set)
            async with self:
                while not self._stop.is_set():
                    with supervisor:
                        if not await self._take_batch():
                            return
                    if supervisor.pause:
                        await self._stop.wait(supervisor.pause)
        except LeaseLost:
            _log.warning("%s: another worker has taken over", self._run.definition)
        except StoreClosed:
            return
        except Exception:
            _log.exception("a partition of %s failed and is given back", self._run.definition)
        finally:
            self._watch.leave(id(self))

    async def _make_ready(self) -> bool:
        """Take over the partition, and continue where the previous owner stopped."""
        try:
            if not self.is_holding and not await self.take_over():
                return False
        except _REFUSED as error:
            _log.error(
                "this daemon cannot run projection %s and leaves it to other processes: %s",
                self._run.definition,
                error,
            )
            self._duty.refused[self._run.build_id or 0] = error
            return False
        wait = await self._engine.run(self._failing.resume())
        if wait is None:
            return False
        self._is_ready = True
        await self._stop.wait(wait)
        return True

    async def _take_batch(self) -> bool:
        """Process a batch, or wait for one; return whether to continue."""
        run = self._run
        if not self._is_ready:
            return await self._make_ready()
        try:
            self._woken.clear()
            async with self._slots:
                batch = await self.step()
        except (LeaseLost, StoreClosed, *TRANSIENT_ERRORS):
            raise
        except BaseException as error:
            if ends_task(error):
                raise
            wait = await self._engine.run(self._failing.fail(error))
            if wait is None:
                return False
            await self._stop.wait(wait)
            return True
        self._failing.succeed()
        for event in live_events(run, batch.events, self._duty.live_after.get(run.build_id or 0)):
            try:
                await run.definition.projection.on_live(event)
            except BaseException as error:
                if ends_task(error):
                    raise
                _log.exception("on_live of projection %s failed", run.definition)
        if batch.is_caught_up:
            await self._wait_for_more(self._stop, _LONGEST_LOOK)
        return True


class AsyncDaemon:
    """Keeps projections up to date, and shares the work with other processes.

    Get one with `AsyncEventStore.daemon`; `indelible run` runs one for an application.

    Example:
        ```python
        await store.daemon([Orders, Search]).run(stop)        # until the asyncio.Event is set
        ```
    """

    def __init__(
        self,
        engine: AsyncPoolEngine,
        watch: HeadWatcher,
        codec: Codec,
        duty: PartitionCoordinator,
        connections: int,
    ) -> None:
        self._engine = AsyncShortTimeoutEngine(engine)
        self._watch = watch
        self._codec = codec
        self._duty = duty
        self._kept: dict[PartitionKey, _AsyncPartitionRunner] = {}
        self._lease: Lease
        self._slots = asyncio.BoundedSemaphore(connections)

    @property
    def name(self) -> str:
        """The name of the daemon, as the owner of its partitions."""
        return self._duty.owner

    @property
    def partitions(self) -> int:
        """How many partitions the daemon works on."""
        return len(self._kept)

    async def run(self, stop: asyncio.Event, *, shutdown_timeout: float = 30.0) -> None:
        """Keep the partitions of this process up to date until `stop` is set.

        Args:
            stop: ends the run when set: the daemon starts no new batch and gives its partitions
                back.
            shutdown_timeout: seconds that handlers have to finish their batch.

        Raises:
            ProjectionDefinitionChanged: a projection is registered with another definition under
                the same version.
        """
        supervisor = StepSupervisor(
            "projections wait", _log, Backoff(longest=self._duty.heartbeat_interval)
        )
        has_begun = False
        self._lease = _hold_lease(self._watch, self._duty)
        try:
            while not stop.is_set():
                begun_at = time.monotonic()
                with supervisor:
                    if not has_begun:
                        await self._engine.run(self._duty.begin())
                        has_begun = True
                    await self._do(await self._turn())
                pause = supervisor.pause or self._duty.heartbeat_interval - (
                    time.monotonic() - begun_at
                )
                await is_set_within_async(stop, max(pause, 0))
        finally:
            try:
                await self._end(shutdown_timeout)
            finally:
                self._watch.leases.drop(self._lease)

    async def _turn(self) -> Assignment:
        self._kept = {part: kept for part, kept in self._kept.items() if kept.is_running}
        self._duty.held = self._kept.keys()
        _show_life(self._lease, self._duty)
        turn = await self._engine.run(self._duty.turn())
        _show_life(self._lease, self._duty, renewed_at=time.monotonic())
        return turn

    async def _do(self, turn: Assignment) -> None:
        for part in turn.give_back:
            self._kept[part].end()
        for part, described in turn.take.items():
            run = PartitionProcessor(
                self._codec,
                described,
                partition=part.partition,
                owner=self._duty.owner,
                lease=self._duty.lease,
                build_id=part.build_id,
            )
            try:
                self._kept[part] = _AsyncPartitionRunner(
                    self._engine, self._watch, run, self._duty, self._slots
                )
            except RuntimeError as error:
                # The process has too many threads. The next turn tries again.
                _log.warning("cannot start a partition of %s: %s", described, error)
        for build_id in turn.ready:
            await self._engine.run(registry.cut_over(build_id))
        if turn.has_retired:
            await self._engine.run(sweep())

    async def _end(self, shutdown_timeout: float) -> None:
        self._duty.end()
        all_kept = tuple(self._kept.values())
        for kept in all_kept:
            kept.end()
        deadline = time.monotonic() + shutdown_timeout
        try:
            with suppress(IndelibleError):
                await self._turn_in_passing()
                while self._kept and time.monotonic() < deadline:
                    # Batches in progress keep their leases in the meantime.
                    heartbeat_at = time.monotonic() + self._duty.heartbeat_interval
                    for kept in self._kept.values():
                        left = min(heartbeat_at, deadline) - time.monotonic()
                        await kept.background.join(max(left, 0))
                    await self._turn_in_passing()
        finally:
            await cancel_async([kept.background for kept in all_kept])
        with suppress(IndelibleError):
            for kept in all_kept:
                if not kept.is_running:
                    await kept.close()  # again, if handlers had all connections
            await self._engine.run(self._duty.leave())

    async def _turn_in_passing(self) -> None:
        with suppress(*TRANSIENT_ERRORS):  # handlers may have all connections
            await self._turn()
