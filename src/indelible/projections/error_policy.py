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
    """What a partition does at errors: it tries again, later each time; then parks, or stops.

    Args:
        processor: the partition.
    """

    processor: partition.PartitionProcessor
    attempts: int = field(default=0, init=False)

    def resume(self) -> Operation[float | None]:
        """Go on where the one before has left off.

        Returns:
            Seconds to wait first; None where the partition is stopped.
        """
        rows = yield Statement(
            "projections.retry_state",
            {"projection_id": self.processor.build_id, "partition": self.processor.partition},
        )
        if not rows:  # it was retired meanwhile
            return None
        ((self.attempts, wait, is_stopped, parked),) = rows
        self.processor.parked = set(parked)
        return None if is_stopped else float(wait)

    def succeed(self) -> None:
        """A batch was stored, which has cleared what was noted."""
        self.attempts = 0

    def fail(self, error: BaseException) -> Operation[float | None]:
        """Note that a batch has failed.

        Returns:
            Seconds to wait; None where the partition is stopped.

        Raises:
            LeaseLost: others have taken over.
        """
        processor = self.processor
        definition = processor.definition
        position = error.position if isinstance(error, ProjectionFailed) else None
        if (
            position is not None
            and processor.position < position - 1
            and processor.isolate_position != position
        ):
            # First what stands before it: it is not to wait for one that may never succeed.
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
            _log.error("a projection leaves an event out: %s", error, extra=facts)
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
            _log.error("a projection is stopped: %s", error, extra=facts)
            return None
        _log.warning("a projection failed, and tries again in %g s: %s", wait, error, extra=facts)
        return wait
