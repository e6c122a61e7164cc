"""An event that a consumer group has delivered, and how it went."""

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
    """An event of a consumer group, in the hands of one handler.

    Say how it went with `ack`, `nack`, `skip` or `park`; or enter it with `with`: the end of the
    block acks it, an error nacks it and is logged, and the loop goes on. Until then no other event
    of its stream is handed out.

    An event that is left without a word is given back: it is delivered again after the group's
    `retry_after`, and no attempt is counted. That is so where the block is cancelled (the task that
    it runs in is, also by a timeout around it), interrupted or left for good, and where the object
    is dropped. A timeout inside the block is a failure as any other, and so is a cancellation of
    something else that the block waits for.
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
        """The event as it stands in the store."""
        self.attempt: int = item.attempt
        """Which attempt this is: 1 for the first. A higher one may have run before, in part."""

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
        """The event's data: an instance of its class where one is registered."""
        return self.event.data

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the event."""
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
        """Say that it is handled.

        Raises:
            InvalidInput: something was said of it before.
        """
        self._say("finished")

    def nack(self, error: object = None) -> None:
        """Say that it failed: it is tried again later, and parked after too many attempts.

        Args:
            error: why; kept with the event.

        Raises:
            InvalidInput: something was said of it before.
        """
        self._item.error = None if error is None else describe(error)
        self._item.reason = "its handler failed"
        self._say("retry")

    def skip(self, reason: str = "") -> None:
        """Say that it needs no handling: as `ack`, with a line in the log.

        Raises:
            InvalidInput: something was said of it before.
        """
        _log.info("skipped event %d of stream %r: %s", self.position, self.stream, reason)
        self._say("finished")

    def park(self, reason: str = "parked by its handler", error: object = None) -> None:
        """Set it aside for an operator; later events of its stream wait behind it.

        Args:
            reason: why; kept with the event.
            error: the error, if there was one; kept with the event.

        Raises:
            InvalidInput: something was said of it before.
        """
        self._item.error = None if error is None else describe(error)
        self._item.reason = describe(reason)
        self._say("park")

    def facts(self) -> dict[str, object]:
        """Give what names it in a log: its stream, version, position, type and attempt."""
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
                f"event {self.position} was {self._item.outcome} already: say how it went once"
            )

    def __del__(self) -> None:
        # Anywhere, in any thread: no lock may be taken here. The worker finds it at its next turn.
        if self._is_taken and not self._is_told:
            if self._item.outcome is None:
                self._item.reason = "it was dropped, and nothing was said of it"
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
            # Cancelled or interrupted: whoever did that may go on for long, or end the process.
            self._item.reason = f"its handler was left by {type(error).__name__}"
            self._say("given back")
        return False

    # After the annotations that say type, which it would hide.
    @property
    def type(self) -> str:
        """The event's type."""
        return self.event.type


def note_failure(delivery: DeliveredEvent, error: BaseException) -> None:
    """Log that the handler of an event failed, and nack it unless something was said of it."""
    _log.error("a handler failed", exc_info=error, extra=delivery.facts())
    if delivery._item.outcome is None:
        delivery.nack(error)
