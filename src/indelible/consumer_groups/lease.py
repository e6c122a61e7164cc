"""Operations: the lease of a worker: join, heartbeat, rebalance, leave."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from indelible.core.operation import Operation, Statement
from indelible.errors import LockTimeout, TransactionConflict

from . import admin_operations
from .progress import START, OwnedSlices, Progress, in_columns
from .types import GroupSettings

CONTENTION = (LockTimeout, TransactionConflict)
"""Errors if another transaction, such as a handler's, locks what a statement needs."""
CONTENTION_PAUSE = 0.5
"""Seconds before the next attempt after one of them."""
_LONGEST_HEARTBEAT_PAUSE = 1.0
_SAVE_PAUSE = 0.05
"""Seconds after which progress is written, long before the next heartbeat."""


class Lease:
    """The lease of a worker, which owns its slices.

    Args:
        group: the group's name.
        name: the worker's display name.
        instance: identifies the worker.
        settings: the settings of the group.
        slices: the worker's slices.

    Attributes:
        group_id: identifies the group; 0 before the worker has joined.
        token: the fencing token; 0 before the worker has joined.
        epoch: the epoch of the log when the worker joined.
        saved: the checkpoint in the database.
        delivered: the announced progress in the database: up to here events may be handed out.
        heartbeat_at: when the next heartbeat is due, on the clock of `Worker.turn`.
        renewed_at: when the lease was renewed last.
    """

    delivered: Progress

    group_id: int

    heartbeat_at: float

    renewed_at: float

    saved: Progress

    token: int

    def __init__(
        self, group: str, name: str, instance: UUID, settings: GroupSettings, slices: OwnedSlices
    ) -> None:
        self._group = group
        self._name = name
        self._instance = instance
        self._slices = slices
        self._heartbeat_pause = min(_LONGEST_HEARTBEAT_PAUSE, settings.lease / 3)
        self.group_id = 0
        self.token = 0
        self.epoch: UUID | None = None
        self.saved = self.delivered = START
        self.heartbeat_at = self.renewed_at = self._save_at = 0.0
        self._share, self._unowned = 0, 0
        self._round = 0
        self._rebalance: dict[str, object] | None = None  # one whose result has not arrived
        self._rebalance_at = 0.0

    def parameters(self) -> dict[str, object]:
        """Return the parameters of the lease for statements."""
        return {"group_id": self.group_id, "token": self.token}

    def renewal(self) -> Statement | None:
        """Return the statement that only renews the lease; None without a lease."""
        return Statement("consumer_groups.renew_lease", self.parameters()) if self.token else None

    def join(self, now: float) -> Operation[None]:
        """Join the group.

        Raises:
            GroupNotFound: the group was deleted.
        """
        ((group_id, token, epoch),) = yield Statement(
            "consumer_groups.join",
            {"group": self._group, "worker": self._name, "instance": self._instance},
        )
        if token is None:
            yield from admin_operations.not_found(self._group)
        self.group_id, self.token, self.epoch = group_id, token, epoch
        yield from self._heartbeat(now)

    def keep(self, now: float) -> Operation[bool]:
        """Send a heartbeat if it is due, and rebalance if the worker owns too many or too few.

        Returns:
            Whether the worker's slices have changed.
        """
        if now >= self.heartbeat_at or (now >= self._save_at and self._has_progress()):
            yield from self._heartbeat(now)
        if now < self._rebalance_at:
            return False
        count = len(self._slices.by_number)
        try:
            if count > self._share:
                to_release = self._slices.surplus(count - self._share)
                return bool(to_release) and (yield from self._start_rebalance(to_release, 0))
            if count < self._share and self._unowned:
                return (yield from self._start_rebalance([], self._share - count))
        except CONTENTION:  # a handler's transaction holds the row of a slice
            self._rebalance = None
            self._rebalance_at = now + CONTENTION_PAUSE
        return False

    def next_at(self) -> float:
        """Return when to write the next heartbeat or progress."""
        return self._save_at if self._has_progress() else self.heartbeat_at

    def announce(self, now: float, delivered: Progress) -> Operation[None]:
        """Send a heartbeat that also writes up to where events will be handed out.

        If this worker dies, the next one counts an attempt before it hands out these events.
        """
        yield from self._write(now, self._slices.checkpoint(), delivered, {})

    def finish_rebalance(self) -> Operation[bool]:
        """Complete a rebalance that has begun. Repeat it unchanged if its result was lost.

        Returns:
            True if there was one: the worker's slices have changed.
        """
        if self._rebalance is None:
            return False
        rows = yield Statement("consumer_groups.rebalance", self._rebalance)
        self._rebalance = None
        self._round += 1
        self._unowned = 0
        self._slices.replace(rows)
        self.saved = self._slices.cursor
        return True

    def leave(self) -> Operation[None]:
        """Give all slices back."""
        yield Statement(
            "consumer_groups.leave",
            {**self.parameters(), **in_columns(self._slices.progress())},
        )

    def _start_rebalance(self, to_release: list[int], count: int) -> Operation[bool]:
        self._rebalance = {
            **self.parameters(),
            "round": self._round,
            **in_columns(self._slices.progress()),
            "to_release": to_release,
            "to_acquire": count,
        }
        return (yield from self.finish_rebalance())

    def _heartbeat(self, now: float) -> Operation[None]:
        checkpoint = self._slices.checkpoint()
        overdue = self._slices.overdue_above(checkpoint)
        yield from self._write(now, checkpoint, self.delivered, overdue)
        self._slices.note_written(checkpoint)
        self._save_at = now + _SAVE_PAUSE

    def _write(
        self,
        now: float,
        checkpoint: Progress,
        delivered: Progress,
        overdue: Mapping[int, Progress],
    ) -> Operation[None]:
        ((self._share, self._unowned),) = yield Statement(
            "consumer_groups.heartbeat",
            {
                **self.parameters(),
                "round": self._round,
                **checkpoint.named("checkpoint"),
                **delivered.named("delivered"),
                **in_columns(overdue),
            },
        )
        self.saved, self.delivered = checkpoint, delivered
        self.heartbeat_at, self.renewed_at = now + self._heartbeat_pause, now

    def _has_progress(self) -> bool:
        # If only time has passed and no event became due, there is no progress to write.
        slices = self._slices
        return slices.has_unwritten or slices.checkpoint().position > self.saved.position
