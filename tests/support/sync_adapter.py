"""An `AsyncEventStore` with the methods of an `EventStore`, so that a test covers both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from indelible import AsyncDelivery, AsyncTransactionStore
from indelible.consumer_groups import AsyncGroup
from indelible.projections import AsyncDocuments, AsyncProjector


class SyncAdapter:
    """Runs on an event loop whatever a method of the wrapped object returns to be awaited."""

    def __init__(self, wrapped: Any, runner: asyncio.Runner) -> None:
        self._wrapped = wrapped
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._wrapped, name)
        if not callable(member):
            return member

        def call(*args: Any, **options: Any) -> Any:
            result = member(*args, **options)
            if inspect.iscoroutine(result):
                result = self._runner.run(result)
            if isinstance(result, AsyncDelivery):
                return SyncDelivery(result, self._runner)
            if isinstance(result, AsyncGroup | AsyncDocuments):
                return SyncAdapter(result, self._runner)
            if isinstance(result, AsyncProjector):
                return SyncContext(result, self._runner)
            if isinstance(result, AsyncIterator):
                return SyncIterator(result, self._runner)
            if isinstance(result, AsyncTransactionStore):
                return SyncAdapter(result, self._runner)
            if isinstance(result, AbstractAsyncContextManager):
                return _entered(result, self._runner)
            return result

        return call


class SyncContext(SyncAdapter):
    """What is entered and left on an event loop, and is itself what is entered."""

    def __enter__(self) -> SyncContext:
        self._runner.run(_await(self._wrapped.__aenter__()))
        return self

    def __exit__(self, *failure: Any) -> None:
        self._runner.run(_await(self._wrapped.__aexit__(*failure)))


class SyncIterator(SyncContext, Iterator[Any]):
    """An asynchronous iterator, taken item by item on an event loop."""

    def __next__(self) -> Any:
        async def take() -> Any:
            return await anext(self._wrapped)

        try:
            taken = self._runner.run(take())
            if isinstance(taken, AsyncDelivery):
                return SyncDelivery(taken, self._runner)
            return taken
        except StopAsyncIteration:
            raise StopIteration from None

    @property
    def head(self) -> int:
        async def begin() -> int:
            return (await self._wrapped).head

        return int(self._runner.run(begin()))


class SyncDelivery(SyncAdapter):
    """A delivery, which is entered without waiting sync and async."""

    def __enter__(self) -> SyncDelivery:
        self._wrapped.__enter__()
        return self

    def __exit__(self, *failure: Any) -> bool:
        return bool(self._wrapped.__exit__(*failure))


@contextmanager
def _entered(manager: Any, runner: asyncio.Runner) -> Iterator[SyncAdapter]:
    entered = runner.run(_await(manager.__aenter__()))
    try:
        yield SyncAdapter(entered, runner)
    except BaseException as error:
        if not runner.run(_await(manager.__aexit__(type(error), error, error.__traceback__))):
            raise
    else:
        runner.run(_await(manager.__aexit__(None, None, None)))


async def _await(awaitable: Any) -> Any:
    return await awaitable
