"""What tasks and threads do differently: the async variant of `concurrency`.

Code that is generated for threads uses these, and no state that is shared in any other way: what is
safe between two awaits is not safe between two threads.
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
"""Wait for so many seconds."""


class AsyncEvent:
    """An event that any thread may set, and any number of tasks of one loop wait for."""

    def __init__(self) -> None:
        self._is_set = False
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._is_set = True
        if self._loop is not None:
            # The loop may be closed at any moment, with whoever waited there.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)

    def clear(self) -> None:
        """Be ready to be set again."""
        self._is_set = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, so many seconds at most; return whether it is."""
        self._loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # The flag is looked at after the loop is known: one of the two `set` has seen.
                while not self._is_set:
                    self._woken.clear()
                    await self._woken.wait()
        return self._is_set


class AsyncBackground:
    """A task that works beside the caller's.

    Args:
        work: what it does.
        name: its name.

    Raises:
        RuntimeError: of threads, where the process can have no more.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        self._task = asyncio.create_task(work(), name=name)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return not self._task.done()

    async def join(self, seconds: float | None = None) -> None:
        """Wait until it has ended, so many seconds at most."""
        try:
            await asyncio.wait((self._task,), timeout=seconds)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    def raise_failure(self) -> None:
        """Raise the error that has ended it, if one has."""
        self._task.result()


async def cancel_async(work: Iterable[AsyncBackground]) -> None:
    """End what has not ended. Threads cannot be: they are left alone, and end with the process."""
    tasks = [background._task for background in work if background.is_running]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


class AsyncBegun:
    """What begins when it is awaited; its sync variant, when it is made."""

    async def _begin(self) -> None:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self._begin().__await__()
        return self


class _Closed(Protocol):
    async def close(self) -> None: ...


Opened = TypeVar("Opened", bound=_Closed)


class AsyncOpening(Generic[Opened]):
    """What is about to be opened: `await` it, or enter it with `async with`, which closes it."""

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
    """Have a function that opens something give what can be awaited or entered."""

    @wraps(function)
    def opening(*args: P.args, **kwargs: P.kwargs) -> AsyncOpening[Opened]:
        return AsyncOpening(partial(function, *args, **kwargs))

    return opening


async def is_set_within_async(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event of the caller's, so many seconds at most; return whether it is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def run_blocking_async(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks, where it does not keep the caller's loop."""
    return await asyncio.to_thread(function, *args, **kwargs)
