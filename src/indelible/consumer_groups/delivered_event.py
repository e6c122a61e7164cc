"""A delivered event of a consumer group, and the outcome of its handling."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self
from uuid import UUID

from indelible.core.cancellation import left_block
from indelible.errors import InvalidInput, describe
from indelible.events import Data_co, RecordedEvent

from .progress import InFlightEvent, Outcome

_log = logging.getLogger("indelible")


class DeliveredEvent(Generic[Data_co]):
    """An event of a consumer group that one handler handles.

    Report the outcome with `ack`, `nack`, `skip` or `park`, or enter the event with `with`. The end
    of the block acks the event. An error in the block is logged and nacks the event, and the loop
    continues. Until the outcome is reported, no other event of its stream is handed out.

    An event without an outcome is given back: it is delivered again after the group's
    `retry_after`, and no attempt is counted. An event is given back in these cases:

    - The task that runs the block is cancelled, also by a timeout around the block.
    - The block is interrupted or left for good.
    - The object is dropped.

    A timeout inside the block is a failure like any other. The same is true if something else that
    the block waits for is cancelled.
    """

    _is_taken = _is_told = False

    def __init__(
        self,
        item: InFlightEvent,
        event: RecordedEvent[Data_co],
        tell: Callable[[InFlightEvent], None],
        verdicts: deque[InFlightEvent],
    ) -> None:
        self._item = item
        self._tell = tell
        self._verdicts = verdicts
        self.event: RecordedEvent[Data_co] = event
        """The event as it is stored."""
        self.attempt: int = item.attempt
        """The number of this attempt: 1 for the first.

        If it is higher, an earlier attempt may have run in part.
        """

    @property
    def id(self) -> UUID:
        """The event's id. It is the same at each attempt: use it as an idempotency key."""
        return self.event.id

    @property
    def position(self) -> int:
        """The event's place in the log."""
        return self.event.position

    @property
    def stream(self) -> str:
        """The event's stream."""
        return self.event.stream

    @property
    def version(self) -> int:
        """The event's place in its stream."""
        return self.event.version

    @property
    def data(self) -> Data_co:
        """The event's data: an instance of its class if one is registered."""
        return self.event.data

    @property
    def metadata(self) -> dict[str, Any]:
        """The event's metadata."""
        return self.event.metadata

    @property
    def tags(self) -> tuple[str, ...]:
        """The event's tags, `key:value`."""
        return self.event.tags

    @property
    def channel(self) -> str:
        """The channel of the event's stream."""
        return self.event.channel

    @property
    def recorded_at(self) -> datetime:
        """When the store recorded the event (UTC)."""
        return self.event.recorded_at

    @property
    def valid_at(self) -> datetime:
        """When the fact is valid in the world (UTC)."""
        return self.event.valid_at

    def ack(self) -> None:
        """Acknowledge the event: it was handled.

        Raises:
            InvalidInput: the event already has an outcome.
        """
        self._say("finished")

    def nack(self, error: object = None) -> None:
        """Report a failure: the event is retried later, and parked after too many attempts.

        Args:
            error: why it failed; stored with the event.

        Raises:
            InvalidInput: the event already has an outcome.
        """
        self._item.error = None if error is None else describe(error)
        self._item.reason = "the handler failed"
        self._say("retry")

    def skip(self, reason: str = "") -> None:
        """Acknowledge an event that needs no handling, and log it.

        Args:
            reason: why it needs none, for the log.

        Raises:
            InvalidInput: the event already has an outcome.
        """
        _log.info("skipped event %d of stream %r: %s", self.position, self.stream, reason)
        self._say("finished")

    def park(self, reason: str = "parked by its handler", error: object = None) -> None:
        """Park the event (dead letter) for an operator.

        Later events of its stream wait behind it, unless the group's `park_blocks_stream` is off.

        Args:
            reason: why it is parked; stored with the event.
            error: the error, if there was one; stored with the event.

        Raises:
            InvalidInput: the event already has an outcome.
        """
        self._item.error = None if error is None else describe(error)
        self._item.reason = describe(reason)
        self._say("park")

    def facts(self) -> dict[str, object]:
        """Return what identifies it in a log: its stream, version, position, type and attempt."""
        return {
            "stream": self.stream,
            "version": self.version,
            "position": self.position,
            "type": self.event.type,
            "attempt": self.attempt,
        }

    def _say(self, verdict: Outcome) -> None:
        self._check_unsaid()
        self._item.outcome = verdict
        self._tell(self._item)
        self._is_told = True

    def _check_unsaid(self) -> None:
        if self._item.outcome is not None:
            raise InvalidInput(
                f"event {self.position} already has the outcome {self._item.outcome!r}: report one"
                " outcome per event"
            )

    def __del__(self) -> None:
        # This runs anywhere, in any thread, so it must not take a lock. The worker finds the event
        # at its next turn.
        if self._is_taken and not self._is_told:
            if self._item.outcome is None:
                self._item.reason = "the delivery was dropped without an outcome"
                self._item.outcome = "given back"
            self._verdicts.append(self._item)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        said = self._item.outcome
        if error is None:
            if said is None:
                self.ack()
            return False
        if not left_block(error):
            if said is None:
                note_failure(self, error)
            return said in (None, "retry")
        if said is None:
            # Cancelled or interrupted: the caller may run on for long, or end the process.
            self._item.reason = f"{type(error).__name__} ended the handler"
            self._say("given back")
        return False

    # Defined after the annotations that use `type`: it would shadow the builtin.
    @property
    def type(self) -> str:
        """The event's type."""
        return self.event.type


def note_failure(delivery: DeliveredEvent, error: BaseException) -> None:
    """Log that the handler of an event failed, and nack the event unless it has an outcome."""
    _log.error("a handler failed", exc_info=error, extra=delivery.facts())
    if delivery._item.outcome is None:
        delivery.nack(error)
