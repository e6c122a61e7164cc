"""Run the handlers and projections of an application in one event loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Concatenate, TypeAlias

from indelible.consumer_groups.admin_operations import info as group_info
from indelible.consumer_groups.consumer_async import AsyncConsumer
from indelible.consumer_groups.delivered_event import note_failure
from indelible.consumer_groups.delivery_async import AsyncDelivery
from indelible.core.cancellation import ends_task
from indelible.core.concurrency_async import is_set_within_async
from indelible.core.handlers import check_outcome
from indelible.postgres.engine_async import AsyncShortTimeoutEngine
from indelible.projections.admin_operations import statuses as projection_statuses
from indelible.projections.daemon_async import AsyncDaemon
from indelible.store.event_store_async import AsyncEventStore
from indelible.store.transaction_store_async import AsyncTransactionStore

from .registry import HandlerGroup, HandlerRegistry

_log = logging.getLogger("indelible.app")

_Handler: TypeAlias = Callable[Concatenate[AsyncDelivery[Any], ...], Awaitable[None] | None]


class AsyncApp(HandlerRegistry[_Handler]):
    """An application of event handlers and projections. Run it with `indelible run module:app`.

    Handlers are coroutine functions. Each consumer group of the application delivers at least
    once; use `AsyncDelivery.transaction` for exactly-once effects in the database.

    A handler can also be a plain function. It runs in the event loop, so it must not block: while
    it waits, nothing else of the application runs.

    Args:
        group: the default consumer group of the handlers.
        events: the event classes, as for `EventStore.connect`.
        url: the database, as for `EventStore.connect`.
        schema: the schema of the store, as for `EventStore.connect`.
        channel: the channel of the streams that the handlers append to.
        concurrency: how many events of each group are handled at once; the number of tasks per
            group.
        projections: the async projections to keep up to date. Processes that run the application
            share their partitions.
        inline: the inline projections that appends of the handlers update, as for
            `EventStore.connect`.
        resources: what handlers take besides the event: functions without parameters by name, each
            of which returns a context manager, asynchronous or not. `run` enters it when it starts
            and leaves it at its end. A handler gets what was entered by a parameter of that name.

    Example:
        ```python
        app = AsyncApp("delivery", events=[OrderCreated, DeliveryBooked])

        @app.on(OrderCreated)
        async def book(event: AsyncDelivery) -> None:
            async with event.transaction() as transaction:     # exactly once
                await transaction.append(f"delivery-{event.data.order_id}", …, expected=NO_STREAM)
        ```
    """

    _is_async = True

    async def run(
        self,
        stop: asyncio.Event,
        *,
        url: str | None = None,
        schema: str | None = None,
        report_interval: float = 30.0,
        shutdown_timeout: float = 30.0,
    ) -> None:
        """Run the handlers and projections until `stop` is set.

        Missing consumer groups are created, and changed settings are updated.

        Args:
            stop: set it to stop. No new event is started, and events in progress are finished.
            url: the database to use instead of the application's `url`.
            schema: the schema to use instead of the application's `schema`.
            report_interval: the seconds between status lines in the log.
            shutdown_timeout: the seconds that handlers have to finish after `stop` is set. Handlers
                that are not finished then are cancelled, and their events returned to their group.

        Raises:
            InvalidInput: the application has no handlers and no projections.

        Example:
            ```python
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await app.run(stop)
            ```
        """
        parts = self._working()
        size = self.concurrency * len(parts)
        async with (
            AsyncEventStore.connect(
                url or self.url,
                schema=schema or self.schema,
                events=self.events,
                unknown="keep",
                channel=self.channel,
                inline=self.inline,
                pool_size=size + 2 * len(parts) + 2 + (self._batches and self._batches + 2),
            ) as store,
            AsyncExitStack() as opened,
        ):
            running: list[
                tuple[AsyncConsumer[AsyncTransactionStore], list[asyncio.Task[None]]]
            ] = []
            failures: list[BaseException] = []
            self._tell_start(url or self.url, schema or self.schema, parts)
            resources = {name: await _enter(opened, self._made(name)) for name in self.resources}
            for part in parts:
                await store.group(part.name).create(part.query, exists="change", **part.options)
            await self._report_status(store, parts)
            for part in parts:
                consumer = await opened.enter_async_context(store.group(part.name).consume())
                calls = part.calls(resources)
                tasks = [
                    asyncio.create_task(self._handle(part, calls, consumer, failures, stop))
                    for _ in range(self.concurrency)
                ]
                running.append((consumer, tasks))
            following = []
            if self.projections:
                daemon = store.daemon(self.projections, concurrency=self._batches)
                following = [
                    asyncio.create_task(self._follow(daemon, failures, stop, shutdown_timeout))
                ]
            while not await is_set_within_async(stop, report_interval):
                await self._report_status(store, parts)
            for consumer, _ in running:
                await consumer.stop()
            everything = [task for _, tasks in running for task in tasks]
            late = set(everything)
            if late:
                _, late = await asyncio.wait(everything, timeout=shutdown_timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
            await asyncio.gather(*(consumer.close() for consumer, _ in running))
            if following:
                await asyncio.wait(following)
            await self._report_status(store, parts)
            if failures:
                raise failures[0]

    async def _report_status(
        self, store: AsyncEventStore, parts: Iterable[HandlerGroup[_Handler]]
    ) -> None:
        """Log the status of the groups and projections; if the database is away, wait only once."""
        engine = AsyncShortTimeoutEngine(store._engine)
        codec = store._append_settings.codec
        with self._asking():
            for part in parts:
                with self._asking(f"group {part.name!r}"):
                    self._report(part, await engine.run(group_info(codec, part.name)))
            if self.projections:
                with self._asking("projections"):
                    self._report_projections(await engine.run(projection_statuses()))

    async def _follow(
        self,
        daemon: AsyncDaemon,
        failures: list[BaseException],
        stop: asyncio.Event,
        shutdown_timeout: float,
    ) -> None:
        try:
            await daemon.run(stop, shutdown_timeout=shutdown_timeout)
        except BaseException as error:  # for example ProjectionDefinitionChanged
            if ends_task(error):
                raise
            failures.append(error)
            stop.set()

    async def _handle(
        self,
        part: HandlerGroup[_Handler],
        calls: Mapping[str, Callable[[Any], object]],
        consumer: AsyncConsumer[AsyncTransactionStore],
        failures: list[BaseException],
        stop: asyncio.Event,
    ) -> None:
        try:
            async for event in consumer:
                begun = time.monotonic()
                with event:
                    try:
                        call = calls[event.type]
                        outcome = call(event)
                        if inspect.isawaitable(outcome):
                            outcome = await outcome
                        check_outcome(part.handlers[event.type], outcome)
                    except BaseException as error:
                        part.failed += 1
                        if ends_task(error):
                            raise
                        note_failure(event, error)
                        continue
                    part.handled += 1
                    _log.debug(
                        "handled",
                        extra={**event.facts(), "seconds": time.monotonic() - begun},
                    )
        except BaseException as error:  # for example GroupNotFound: the group was deleted
            if ends_task(error):
                raise
            failures.append(error)
            stop.set()


async def _enter(opened: AsyncExitStack, made: Any) -> Any:
    """Enter a context manager, asynchronous or not."""
    if hasattr(made, "__aexit__"):
        return await opened.enter_async_context(made)
    return opened.enter_context(made)
