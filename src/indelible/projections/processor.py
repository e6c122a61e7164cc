# Generated from processor_async.py; do not edit.
"""Run one partition of a projection."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from indelible.core.concurrency import IS_ASYNC, Event, is_set_within
from indelible.core.retry import StepSupervisor
from indelible.errors import IndelibleError, LeaseLost
from indelible.postgres.engine import ShortTimeoutEngine
from indelible.postgres.lease_renewal import Lease
from indelible.postgres.transaction import BoundEngine
from indelible.subscriptions.head_watcher import HeadWatcher
from indelible.subscriptions.log_follower import Batch

from . import partition
from .handlers import enrich, handle

_log = logging.getLogger("indelible.projections")

_LONGEST_LOOK = 1.0
"""Seconds between two attempts to take a partition that another worker holds."""


class Projector:
    """Keeps one partition of a projection up to date; one thread uses it.

    Get one with `EventStore.projector`.

    Example:
        ```python
        with store.projector(Orders) as projector:
            projector.run(stop)                     # until the threading.Event is set
        ```
    """

    def __init__(
        self,
        engine: ShortTimeoutEngine | BoundEngine,
        watch: HeadWatcher,
        run: partition.PartitionProcessor,
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._run = run
        self._is_unsure = False  # whether it is unknown if the last batch was stored
        self._woken = Event()
        run.definition.check_variant(is_async=IS_ASYNC)

    @property
    def position(self) -> int:
        """The checkpoint: the state includes the partition's events up to here."""
        return self._run.position

    @property
    def is_holding(self) -> bool:
        """Whether the projector holds the partition, as far as it knows."""
        return self._run.token > 0

    def take_over(self) -> bool:
        """Take the partition, unless another worker holds it.

        Returns:
            Whether it was taken.

        Raises:
            EpochMismatch: the store failed over or was restored, and the state is external.
            ProjectionDefinitionChanged: the projection is registered with another definition under
                the same version.
        """
        return self._engine.run(self._run.acquire())

    def heartbeat(self) -> None:
        """Renew the lease. Each `step` renews it, too. Another thread may call it during a step.

        Raises:
            LeaseLost: another worker has taken over.
        """
        self._engine.run(self._run.renew_lease())

    def step(self) -> Batch:
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
                self._engine.run(self._run.reload_checkpoint())
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
        described = run.definition
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
                bound.run(run.lock())
                handle(described, batch.events, bound)
                bound.run(run.advance(batch))
        else:
            handle(described, batch.events, None)
            engine.run(run.advance(batch))
        run.moved(batch)
        return batch

    def run(self, stop: threading.Event) -> None:
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
                        if not self.is_holding and not self.take_over():
                            is_set_within(stop, min(_LONGEST_LOOK, self._run.lease / 3))
                            continue
                        _show_life(lease, self._run, 0)
                        self._woken.clear()
                        batch = self.step()
                        if batch.is_caught_up and not stop.is_set():
                            self._wait_for_more(stop, min(0.2, self._run.lease / 3), lease)
                except LeaseLost:
                    _log.warning("%s: another worker has taken over", self._run.definition)
                if supervisor.pause:
                    _show_life(lease, self._run, supervisor.pause)
                    is_set_within(stop, supervisor.pause)
        finally:
            self._watch.leave(id(self._woken))
            self._watch.leases.drop(lease)

    def _wait_for_more(
        self, stop: threading.Event | Event, pause: float, lease: Lease | None = None
    ) -> None:
        """Wait until there are more events; check every `pause` seconds, and renew the lease."""
        while not stop.is_set() and not self._run.has_more(self._watch.state):
            self._watch.raise_what_ended()
            if lease is not None:
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
