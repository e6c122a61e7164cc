"""Decide whether an error means that a handler failed, or that its task or thread ends."""

from __future__ import annotations

import asyncio


def ends_task(error: BaseException) -> bool:
    """Return whether an error ends the thread or the task in which it is raised.

    A `CancelledError` ends the task only if the task itself was cancelled. It may also come from
    something else that the task awaits and that was cancelled. `SystemExit` does not end the
    thread: outside the main thread the process would continue without it.
    """
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # without an event loop there is no task that could be cancelled
            return False
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def left_block(error: BaseException) -> bool:
    """Return whether the caller's block was left with an error that is not a failure."""
    return ends_task(error) or not isinstance(error, Exception | asyncio.CancelledError)
