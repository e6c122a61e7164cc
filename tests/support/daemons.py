"""Sync and async daemons that run in a thread, for tests that observe them from outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

from indelible import AsyncEventStore, EventStore


class Running:
    """A daemon of one variant, with a store of its own, running in a thread until it is stopped."""

    def __init__(
        self, variant: str, url: str, schema: str, projections: Sequence[Any], **options: Any
    ) -> None:
        self._connect = {
            "url": url,
            "schema": schema,
            "pool_size": options.pop("pool_size", 10),
        }
        self._events = options.pop("events", ())
        self._projections = projections
        self._options = options
        self._stop: Callable[[], object] = lambda: None
        self._has_begun = threading.Event()
        self.store: Any = None
        self.daemon: Any = None
        self.failure: BaseException | None = None
        run = self._run if variant == "sync" else lambda: asyncio.run(self._run_async())
        self._thread = threading.Thread(target=self._keep, args=(run,), daemon=True)
        self._thread.start()
        assert self._has_begun.wait(20)

    @contextmanager
    def all_connections(self) -> Iterator[None]:
        """Hold all connections of its pool."""
        if isinstance(self.store, EventStore):
            with ExitStack() as held:
                for _ in range(self._connect["pool_size"]):  # type: ignore[call-overload]
                    held.enter_context(self.store.transaction())
                yield
            return
        stack = AsyncExitStack()

        async def hold() -> None:
            for _ in range(self._connect["pool_size"]):  # type: ignore[call-overload]
                await stack.enter_async_context(self.store.transaction())

        asyncio.run_coroutine_threadsafe(hold(), self._loop).result(60)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(stack.aclose(), self._loop).result(60)

    def end(self) -> None:
        """Tell it to stop, and wait for nothing."""
        if self._thread.is_alive():
            self._stop()

    def stop(self) -> None:
        self.end()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _keep(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self.failure = error
        finally:
            self._has_begun.set()

    def _run(self) -> None:
        stop = threading.Event()
        self._stop = stop.set
        with EventStore.connect(**self._connect, events=self._events) as store:  # type: ignore[arg-type]
            self.store = store
            self.daemon = store.daemon(self._projections, **self._options)
            self._has_begun.set()
            self.daemon.run(stop, shutdown_timeout=10)

    async def _run_async(self) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        async with AsyncEventStore.connect(**self._connect, events=self._events) as store:  # type: ignore[arg-type]
            self.store, self._loop = store, loop
            self.daemon = store.daemon(self._projections, **self._options)
            self._has_begun.set()
            await self.daemon.run(stop, shutdown_timeout=10)
