"""Leases: a worker of each group takes events in this process, and lends them to clients.

docs/explanation/leases.md explains why no event is lost, and why any process may take an ack.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from indelible import AsyncEventStore
from indelible.consumer_groups import lent_batch
from indelible.consumer_groups.lent_batch import LentBatch, Settled
from indelible.core.concurrency_async import is_set_within_async
from indelible.core.retry import StepSupervisor
from indelible.core.worker_name import worker_name
from indelible.errors import GroupNotFound, LeaseLost

from .waiting import first_of

_IDLE = 5.0
"""Seconds without requests and leases after which a process leaves a group: meanwhile the events of
its slices go to nobody."""
_LOOK_PAUSE = 0.1
"""Seconds between two looks at the leases that this process has given, while there are some."""
_JOINING = 1.0
"""Seconds that a request waits at least if this process has just joined the group."""
_LEAST_WAIT = 0.1
"""Seconds that any request waits at least: the head may have moved without a notification."""
_GATHERING = 0.01
"""Seconds for which a batch waits for a further event."""

_log = logging.getLogger("indelible.server")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for.

    Attributes:
        limit: how many events at most.
        seconds: the length of the lease.
        wait: seconds to wait for the first event.
        client: the display name of the client.
    """

    limit: int
    seconds: float
    wait: float
    client: str | None


class Leases:
    """The leases that this process gives.

    Args:
        store: the store.
        stopping: set when the server stops.
    """

    def __init__(self, store: AsyncEventStore, stopping: asyncio.Event) -> None:
        self._store = store
        self._stopping = stopping
        self._lenders: dict[str, _Lender] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def lend(
        self, group: str, wanted: Wanted, gone: Callable[[], Awaitable[None]]
    ) -> tuple[LentBatch, datetime] | None:
        """Wait for events of a group, and lend them.

        Args:
            group: the name of the group.
            wanted: what the client asks for.
            gone: waits until the client is gone.

        Returns:
            The events, and when their lease expires; None if there were none in time.

        Raises:
            GroupNotFound: the group does not exist.
        """
        while True:
            lender = self._lenders.get(group)
            is_new = lender is None
            if lender is None:
                lender = self._lenders[group] = _Lender(self._store, group, self._forget)
                task = asyncio.create_task(lender.run(), name=f"indelible-leases-{group}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            try:
                return await lender.lend(wanted, gone, self._stopping.wait)
            except GroupNotFound:
                if is_new:
                    raise
                # Otherwise the group was deleted, and may have been created again.

    def note(self, group: str, lease: UUID, settled: Settled) -> None:
        """Tell the worker of this process, if it gave the lease, what was recorded."""
        if (lender := self._lenders.get(group)) is not None:
            lender.note(lease, settled.finished, settled.failed)

    async def close(self) -> None:
        """Leave all groups. Events without an outcome are given back at once."""
        for lender in list(self._lenders.values()):
            lender.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self, lender: _Lender) -> None:
        if self._lenders.get(lender.group) is lender:
            del self._lenders[lender.group]


class _Lender:
    """The worker of one group in this process, and the leases on its events.

    Args:
        store: the store.
        group: the name of the group.
        forget: called before it leaves, so that the next request starts another one.
    """

    def __init__(
        self, store: AsyncEventStore, group: str, forget: Callable[[_Lender], None]
    ) -> None:
        self.group = group
        self._engine = store._engine
        self._consumer = store.group(group).consume(name=f"{worker_name()} (server)")
        self._forget = forget
        self._lent: dict[UUID, LentBatch] = {}
        self._done: list[UUID] = []
        self._asking = 0
        self._joined: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._idle_until = 0.0
        self._woken, self._stopped = asyncio.Event(), asyncio.Event()

    def stop(self) -> None:
        """Begin to leave."""
        self._forget(self)
        self._stopped.set()
        self._woken.set()

    async def run(self) -> None:
        """Join the group, and leave it when it is idle or stopped."""
        try:
            async with self._consumer:
                self._joined.set_result(time.monotonic())
                await self._keep()
                await self._consumer.stop()
                await self._end()
        except Exception as error:
            if self._joined.done():
                _log.exception("the leases of group %r ended", self.group)
            else:
                self._joined.set_exception(error)
        finally:
            self._forget(self)

    async def lend(
        self,
        wanted: Wanted,
        gone: Callable[[], Awaitable[None]],
        stops: Callable[[], Awaitable[Any]],
    ) -> tuple[LentBatch, datetime] | None:
        """Wait for events, and lend them; see `Leases.lend`."""
        self._asking += 1
        try:
            joined_at = await asyncio.shield(self._joined)
            begun_at = time.monotonic()
            until = begun_at + max(wanted.wait, joined_at + _JOINING - begun_at, _LEAST_WAIT)
            while True:
                try:
                    batch = await self._batch(wanted, until, gone, stops)
                except Exception:  # the worker has ended: the next request starts another one
                    self.stop()
                    raise
                if batch is None:
                    return None
                try:
                    expires_at = await self._engine.run(
                        lent_batch.lend(self._consumer._worker, batch, wanted.seconds)
                    )
                except LeaseLost:  # other workers have these events
                    continue
                except BaseException:
                    batch.give_back("the lease could not be given")
                    raise
                self._lent[batch.id] = batch
                return batch, expires_at
        finally:
            self._asking -= 1
            self._idle_until = time.monotonic() + _IDLE
            self._woken.set()

    def note(self, lease: UUID, finished: Iterable[int], failed: Iterable[int]) -> None:
        """Take note of outcomes that are recorded."""
        batch = self._lent.get(lease)
        if batch is None:
            return
        batch.note(finished, failed)
        if not batch.left:
            del self._lent[lease]
            self._done.append(lease)

    async def _batch(
        self,
        wanted: Wanted,
        until: float,
        gone: Callable[[], Awaitable[None]],
        stops: Callable[[], Awaitable[Any]],
    ) -> LentBatch | None:
        """Wait for an event, and take those that are ready with it."""
        pause = max(until - time.monotonic(), 0)
        delivery = await first_of(self._consumer.take(pause), gone(), stops())
        taken = []
        while delivery is not None:
            taken.append(delivery)
            if len(taken) == wanted.limit:
                break
            delivery = await self._consumer.take(_GATHERING)
        return LentBatch(taken, wanted.client) if taken else None

    async def _keep(self) -> None:
        """Follow the leases until the process has none, and nobody asks for more."""
        supervisor = StepSupervisor("the leases of a server wait", _log)
        while not self._stopped.is_set():
            self._woken.clear()
            if self._lent or self._done:
                with supervisor:
                    await self._look()
                await is_set_within_async(self._stopped, supervisor.pause or _LOOK_PAUSE)
            elif self._asking:
                await self._woken.wait()
            elif (pause := self._idle_until - time.monotonic()) > 0:
                await is_set_within_async(self._woken, pause)
            else:
                self.stop()

    async def _look(self) -> None:
        """Learn what other processes have recorded, and which leases have expired."""
        worker, done = self._consumer._worker, self._done
        # A worker that lost its lease has lost its events and their leases.
        self._lent = {
            lease: batch for lease, batch in self._lent.items() if batch.token == worker.token
        }
        self._done = []
        known = {lease: batch.known for lease, batch in self._lent.items()}
        try:
            found = await self._engine.run(lent_batch.look(worker, known, done))
        except LeaseLost:
            return
        except BaseException:
            self._done += done
            raise
        for news in found:
            batch = self._lent.get(news.id)
            if batch is None:
                continue
            self.note(news.id, news.finished, news.failed)
            if news.has_ended and batch.left:
                _log.warning(
                    "a lease expired with %d events that have no outcome",
                    len(batch.left),
                    extra={"group": self.group, "client": batch.client},
                )
                batch.expire()
                del self._lent[news.id]
                self._done.append(news.id)

    async def _end(self) -> None:
        """End all leases, and learn their outcomes: the worker gives back the other events."""
        worker = self._consumer._worker
        leases = [lease for lease, batch in self._lent.items() if batch.token == worker.token]
        if leases:
            with suppress(LeaseLost):
                for news in await self._engine.run(lent_batch.end(worker, leases, is_early=True)):
                    self.note(news.id, news.finished, news.failed)
