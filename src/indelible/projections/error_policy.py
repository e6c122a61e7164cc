"""What to do when a projection fails: retry, park or stop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from indelible.core.operation import Operation, Statement
from indelible.core.retry import LONGEST_DELAY, Backoff
from indelible.errors import ProjectionFailed, describe

from . import partition

_log = logging.getLogger("indelible.projections")


@dataclass(slots=True)
class ErrorPolicy:
    """Handles the errors of a partition: retries with a backoff, then parks the event or stops.

    Args:
        processor: the partition.
    """

    processor: partition.PartitionProcessor
    attempts: int = field(default=0, init=False)

    def resume(self) -> Operation[float | None]:
        """Continue with the retry state that the previous owner left.

        Returns:
            Seconds to wait first; None if the partition is stopped.
        """
        rows = yield Statement(
            "projections.retry_state",
            {"projection_id": self.processor.build_id, "partition": self.processor.partition},
        )
        if not rows:  # the build was retired in the meantime
            return None
        ((self.attempts, wait, is_stopped, parked),) = rows
        self.processor.parked = set(parked)
        return None if is_stopped else float(wait)

    def succeed(self) -> None:
        """Reset the attempts after a batch was stored; the store has cleared the error."""
        self.attempts = 0

    def fail(self, error: BaseException) -> Operation[float | None]:
        """Record that a batch has failed.

        Returns:
            Seconds to wait; None if the partition is stopped.

        Raises:
            LeaseLost: another worker has taken over.
        """
        processor = self.processor
        definition = processor.definition
        position = error.position if isinstance(error, ProjectionFailed) else None
        if (
            position is not None
            and processor.position < position - 1
            and processor.isolate_position != position
        ):
            # First process the events before it: the event that failed may never succeed.
            processor.isolate_position = position
            processor.forget()
            return 0.0
        noted = {
            "projection_id": processor.build_id,
            "partition": processor.partition,
            "token": processor.token,
            "error": describe(str(error) if isinstance(error, ProjectionFailed) else error),
            "position": position,
        }
        facts = {"projection": definition.name, "partition": processor.partition, "at": position}
        self.attempts += 1
        is_final = self.attempts >= definition.max_attempts
        if is_final and definition.on_error == "park" and position is not None:
            yield Statement("projections.park", noted)
            _log.error("a projection parked an event and skips it: %s", error, extra=facts)
            processor.parked.add(position)
            self.attempts = 0
            return 0.0
        backoff = Backoff(definition.retry_after, LONGEST_DELAY)
        wait = 0.0 if is_final else backoff.delay(self.attempts)
        yield Statement(
            "projections.record_failure",
            {**noted, "attempts": self.attempts, "delay": wait, "is_final": is_final},
        )
        if is_final:
            _log.error(
                "a projection is stopped; fix the cause, then restart it: %s", error, extra=facts
            )
            return None
        _log.warning("a projection failed and retries in %g s: %s", wait, error, extra=facts)
        return wait
