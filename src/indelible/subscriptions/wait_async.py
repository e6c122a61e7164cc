"""Wait until a reader has reached a position."""

from __future__ import annotations

import time
from collections.abc import Callable

from indelible.core.concurrency_async import sleep_async
from indelible.core.operation import Operation
from indelible.core.retry import Backoff
from indelible.core.validation import validate_integer
from indelible.errors import WaitTimeout
from indelible.postgres.engine_async import AsyncPoolEngine

_BACKOFF = Backoff(0.01, 0.1)


async def wait_for_async(
    engine: AsyncPoolEngine,
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
    while (found := await engine.run(checkpoint())) < position:
        if time.monotonic() >= deadline:
            raise WaitTimeout(reader, position, found, timeout)
        looks += 1
        await sleep_async(_BACKOFF.delay(looks))
    return found
