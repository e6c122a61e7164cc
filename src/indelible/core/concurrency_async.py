"""Primitives that differ between tasks and threads: the async variant of `concurrency`.

Generated modules share state between threads through these primitives only. Code between two awaits
is safe from other tasks, but the same code is not safe from other threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

IS_ASYNC = True
"""Whether this is the async variant."""

sleep_async = asyncio.sleep
"""Wait for a number of seconds."""


AsyncLock = asyncio.Lock
"""A lock between tasks of one loop."""


class AsyncEvent:
    """An event that any thread may set, and that any number of tasks of one loop can wait for."""

    def __init__(self) -> None:
        self._is_set = False
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return self._is_set

    def set(self) -> None:
        """Set the event, and wake all waiting tasks."""
        self._is_set = True
        if self._loop is not None:
            # The loop may be closed at any moment, together with its waiting tasks.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)

    def clear(self) -> None:
        """Reset the event, so that it can be set again."""
        self._is_set = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until the event is set, at most `seconds`; return whether it is set."""
        self._loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # `set` sets the flag before it uses the loop, and this method sets the loop before
                # it checks the flag. So no call is missed.
                while not self._is_set:
                    self._woken.clear()
                    await self._woken.wait()
        return self._is_set


class AsyncBackground:
    """A background task.

    Args:
        work: the coroutine function that it runs.
        name: its name.

    Raises:
        RuntimeError: only the sync variant raises it: the process cannot start more threads.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        self._task = asyncio.create_task(work(), name=name)

    @property
    def is_running(self) -> bool:
        """Whether the task has not ended."""
        return not self._task.done()

    async def join(self, seconds: float | None = None) -> None:
        """Wait until the task has ended, at most `seconds`."""
        try:
            await asyncio.wait((self._task,), timeout=seconds)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def raise_failure(self) -> None:
        """Raise the error that ended the task, if there was one."""
        self._task.result()


async def cancel_async(work: Iterable[AsyncBackground]) -> None:
    """Cancel the tasks that have not ended, and wait for their end.

    The sync variant does nothing: threads cannot be cancelled, and end with the process.
    """
    tasks = [background._task for background in work if background.is_running]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


class AsyncBegun:
    """The base of objects that begin when they are awaited; sync ones begin when made."""

    async def _begin(self) -> None:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self._begin().__await__()
        return self


class _Closed(Protocol):
    async def close(self) -> None: ...


Opened = TypeVar("Opened", bound=_Closed)


class AsyncOpening(Generic[Opened]):
    """A resource to open: `await` it, or use it with `async with`, which also closes it."""

    def __init__(self, opens: Callable[[], Coroutine[Any, Any, Opened]]) -> None:
        self._opens = opens
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, None, Opened]:
        return self._opens().__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.close()


def opens_async(
    function: Callable[P, Coroutine[Any, Any, Opened]],
) -> Callable[P, AsyncOpening[Opened]]:
    """Let the result of a function that opens a resource be awaited or used with `async with`."""

    @wraps(function)
    def opening(*args: P.args, **kwargs: P.kwargs) -> AsyncOpening[Opened]:
        return AsyncOpening(partial(function, *args, **kwargs))

    return opening


async def is_set_within_async(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the caller's event, at most `seconds`; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def run_blocking_async(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in another thread, so that it does not block the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)
