"""The two faces of what keeps a projection up to date: one partition, batch after batch."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from . import project
from .errors import IndelibleError, LeaseLost, StoreClosed
from .events import RecordedEvent
from .handlers import check_outcome
from .leases import Lease
from .outcomes import was_left
from .plan import documented_as
from .postgres import (
    AsyncBoundEngine,
    AsyncPoolEngine,
    BoundEngine,
    PoolEngine,
)
from .projection import Described
from .retries import PASSING, Retries
from .subscribe import Batch
from .wakeup import Watch

_log = logging.getLogger("indelible.projections")

_LONGEST_LOOK = 1.0
"""Seconds between two looks at a partition that somebody else holds."""


class Projector:
    """Keeps one partition of a projection up to date; one thread uses it.

    Get one with `EventStore.projector`.

    Example:
        ```python
        with store.projector(Orders) as projector:
            projector.run(stop)                     # until the threading.Event is set
        ```
    """

    def __init__(self, engine: PoolEngine | BoundEngine, watch: Watch, run: project.Run) -> None:
        self._engine = engine.impatient()
        self._watch = watch
        self._run = run
        self._is_unsure = False  # whether the last batch may have been stored after all
        self._woken = threading.Event()
        run.described.check_colour(is_async=False)

    @property
    def position(self) -> int:
        """The checkpoint: up to here its events are in the state."""
        return self._run.position

    @property
    def is_holding(self) -> bool:
        """Whether the partition is its own, as far as it knows."""
        return self._run.token > 0

    def take_over(self) -> bool:
        """Take the partition, unless somebody else holds it.

        Returns:
            Whether it was taken.

        Raises:
            EpochMismatch: the store failed over or was restored, and the state is elsewhere.
            ProjectionChanged: the projection was begun in another way under its version.
        """
        return self._engine.run(self._run.take_over())

    def beat(self) -> None:
        """Renew the lease; each `step` does so, too. Another thread may call it meanwhile.

        Raises:
            LeaseLost: others have taken over.
        """
        self._engine.run(self._run.beat())

    def step(self) -> Batch:
        """Take the next batch in, and move the checkpoint with it.

        Returns:
            The batch; without events where there was nothing to do.

        Raises:
            LeaseLost: others have taken over; nothing was stored.
            ProjectionFailed: the projection failed at an event; nothing was stored, and the next
                step begins with the same events again.
        """
        try:
            if self._is_unsure:
                self._engine.run(self._run.resume())
                self._is_unsure = False
            return self._take_in()
        except LeaseLost:
            self._run.token, self._is_unsure = 0, False
            raise
        except BaseException:
            self._run.forget()
            self._is_unsure = True
            raise

    def _take_in(self) -> Batch:
        run, engine = self._run, self._engine
        described = run.described
        if described.kind == "documents" and not described.enriches:
            return engine.run(run.project())
        batch = engine.run(run.next_batch())
        if batch.position == run.position:
            return batch
        if not batch.events:
            engine.run(run.advance(batch))
        elif described.kind == "documents":
            with engine.transaction() as bound:
                known = enrich(described, batch.events, bound)
            engine.run(run.commit(batch, known))
            return batch
        elif described.kind == "tables":
            with engine.transaction() as bound:
                bound.run(run.fence())
                handle(described, batch.events, bound)
                bound.run(run.advance(batch))
        else:
            handle(described, batch.events, None)
            engine.run(run.advance(batch))
        run.moved(batch)
        return batch

    def run(self, stop: threading.Event) -> None:
        """Keep the partition up to date until told to stop, waiting for it while others hold it.

        Args:
            stop: ends it when set, after the batch at work.

        Raises:
            ProjectionFailed: the projection failed at an event.
            EpochMismatch: the store failed over or was restored, and the state is elsewhere.
        """
        retries = Retries()
        self._watch.join(id(self._woken), self._woken.set)
        lease = _hold_lease(self._watch, self._run)
        try:
            while not stop.is_set():
                try:
                    if not self.is_holding and not self.take_over():
                        stop.wait(min(_LONGEST_LOOK, self._run.lease / 3))
                        continue
                    _show_life(lease, self._run, 0)
                    self._woken.clear()
                    if self.step().is_caught_up and not stop.is_set():
                        self._wait(stop, lease)
                    retries.succeed()
                except LeaseLost:
                    _log.warning("%s: another worker has taken over", self._run.described)
                except PASSING as error:
                    pause = retries.next_pause()
                    _log.warning("a projection waits %.2f s for the database: %s", pause, error)
                    _show_life(lease, self._run, pause)
                    stop.wait(pause)
        finally:
            self._watch.leave(id(self._woken))
            self._watch.leases.drop(lease)

    def _wait(self, stop: threading.Event, lease: Lease) -> None:
        """Wait until there is more to read, giving signs of life."""
        pause = min(0.2, self._run.lease / 3)
        while not stop.is_set() and not self._run.has_more(self._watch.state):
            raise_what_ended(self._watch)
            _check_lease(lease, self._run)
            _show_life(lease, self._run, pause)
            self._woken.wait(pause)
            self._woken.clear()
        self._run.extend(self._watch.state)

    def close(self) -> None:
        """Give the partition back. Closing twice is allowed."""
        if self.is_holding:
            with suppress(IndelibleError):
                self._engine.run(self._run.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


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
        self, engine: AsyncPoolEngine | AsyncBoundEngine, watch: Watch, run: project.Run
    ) -> None:
        self._engine = engine.impatient()
        self._watch = watch
        self._run = run
        self._is_unsure = False
        run.described.check_colour(is_async=True)

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
        retries = Retries()
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
                except PASSING as error:
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


@contextmanager
def _failing(described: Described, event: RecordedEvent | None) -> Iterator[None]:
    """Say of which projection the code in the block is, and at which event it fails."""
    try:
        yield
    except BaseException as error:
        if was_left(error):
            raise
        raise described.failure(event, error) from error


def enrich(
    described: Described, events: Sequence[RecordedEvent], engine: BoundEngine
) -> Sequence[Any]:
    """Look up what a batch needs, as handlers take it.

    Raises:
        ProjectionFailed: the projection failed.
    """
    if not described.enriches:
        return ()
    with _failing(described, None):
        return (described.projection.enrich(events, engine.lend()),)


async def enrich_async(
    described: Described, events: Sequence[RecordedEvent], engine: AsyncBoundEngine
) -> Sequence[Any]:
    """Look up what a batch needs, as `enrich` does."""
    if not described.enriches:
        return ()
    with _failing(described, None):
        return (await described.projection.enrich(events, engine.lend()),)


def handle(
    described: Described, events: Sequence[RecordedEvent], engine: BoundEngine | None
) -> None:
    """Call the handlers of a projection that does I/O.

    Raises:
        ProjectionFailed: the projection failed.
    """
    given: tuple[Any, ...] = () if engine is None else (engine.lend(),)
    if described.takes_batches:
        with _failing(described, None):
            described.projection.project(events, *given)
        return
    if engine is not None:
        given += tuple(enrich(described, events, engine))
    for event in events:
        with _failing(described, event):
            handler = described.handlers[event.type]
            check_outcome(handler, handler(event, *given))


async def handle_async(
    described: Described, events: Sequence[RecordedEvent], engine: AsyncBoundEngine | None
) -> None:
    """Call the handlers of a projection that does I/O, as `handle` does."""
    given: tuple[Any, ...] = () if engine is None else (engine.lend(),)
    if described.takes_batches:
        with _failing(described, None):
            await described.projection.project(events, *given)
        return
    if engine is not None:
        given += tuple(await enrich_async(described, events, engine))
    for event in events:
        with _failing(described, event):
            handler = described.handlers[event.type]
            check_outcome(handler, await handler(event, *given))


def _hold_lease(watch: Watch, run: project.Run) -> Lease:
    return watch.leases.hold(
        f"the lease of partition {run.partition} of projection {run.described}"
    )


def _show_life(lease: Lease, run: project.Run, pause: float) -> None:
    lease.show_life(run.renewal(), seconds=run.lease, pause=pause)


def _check_lease(lease: Lease, run: project.Run) -> None:
    """Raise LeaseLost where others have taken over."""
    if lease.is_lost(run.renewal()):
        run.token = 0
        raise LeaseLost


def raise_what_ended(watch: Watch) -> None:
    """Raise why nobody looks at the head any more, if that is so."""
    if watch.is_closed:
        raise StoreClosed
    if watch.problem is not None:
        raise watch.problem


async def is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so many seconds at most; return whether it is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
