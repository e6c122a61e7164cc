# Generated from wait_async.py; do not edit.
"""Wait until a reader has reached a position."""

from __future__ import annotations

import time
from collections.abc import Callable

from indelible.core.concurrency import sleep
from indelible.core.operation import Operation
from indelible.core.retry import Backoff
from indelible.core.validation import validate_integer
from indelible.errors import WaitTimeout
from indelible.postgres.engine import PoolEngine

_BACKOFF = Backoff(0.01, 0.1)


def wait_for(
    engine: PoolEngine,
    checkpoint: Callable[[], Operation[int]],
    reader: str,
    position: int,
    timeout: float,
) -> int:
    """Wait until a reader's checkpoint reaches a position; return the checkpoint.

    Raises:
        WaitTimeout: the checkpoint did not reach the position in time.
    """
    validate_integer("position", position)
    deadline, looks = time.monotonic() + timeout, 0
    while (found := engine.run(checkpoint())) < position:
        if time.monotonic() >= deadline:
            raise WaitTimeout(reader, position, found, timeout)
        looks += 1
        sleep(_BACKOFF.delay(looks))
    return found
