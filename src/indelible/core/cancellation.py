"""What an error of a handler means: the handler failed, or its task is over."""

from __future__ import annotations

import asyncio


def ends_task(error: BaseException) -> bool:
    """Whether an error ends the thread or the task that it is raised in.

    A cancellation does if it is the task's own: one of something else that the task waits for says
    that this something will never be there. `SystemExit` does not: beside the main thread it would
    end the thread, and the process would go on.
    """
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # there is no loop, so no task that could be cancelled
            return False
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def left_block(error: BaseException) -> bool:
    """Whether an error says that a block of the caller's was left, and not that it failed."""
    return ends_task(error) or not isinstance(error, Exception | asyncio.CancelledError)
