"""Events for tasks: set from any thread, waited for with a limit."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so many seconds at most; return whether it is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


class AsyncEvent:
    """An event of asyncio that any thread may set."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Know the loop of whoever waits."""
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        """Wake whoever waits."""
        if self._loop is None:
            self._event.set()
        else:
            # The loop may be closed at any moment, with whoever waited there.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Be ready for the next ring."""
        self._event.clear()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for the next ring, or until the seconds are over; return whether it rang."""
        self.attach()
        try:
            async with asyncio.timeout(seconds):
                return await self._event.wait()
        except TimeoutError:
            return False
