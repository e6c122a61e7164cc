"""Applications: handlers by event type, run as the workers of consumer groups."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .codec import Codec, EventClasses
from .consumer import AsyncConsumer, AsyncDelivery, Consumer, Delivery, note_failure
from .daemon import AsyncDaemon, Daemon
from .errors import IndelibleError, InvalidInput
from .groups import GroupInfo, GroupStart
from .handlers import check_handler, check_outcome
from .names import check_name
from .opening import place, schema_of
from .operating import ProjectionStatus
from .outcomes import is_over
from .projection import Projection
from .query import Query
from .read import check_count
from .store import AsyncBoundEventStore, AsyncEventStore, BoundEventStore, EventStore

Handler = TypeVar("Handler", bound=Callable[..., Any])

_MOST_BATCHES = 8
"""How many batches of projections an application works on at once."""

_log = logging.getLogger("indelible.app")


@dataclass(slots=True)
class _Part(Generic[Handler]):
    """One consumer group of an application."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    handled: int = 0
    failed: int = 0

    @property
    def query(self) -> Query:
        return Query(types=sorted(self.handlers))


class _Registry(Generic[Handler]):
    """What both colours of an application have in common."""

    _is_async: bool

    def __init__(
        self,
        group: str,
        *,
        events: EventClasses = (),
        url: str | None = None,
        schema: str | None = None,
        channel: str | None = None,
        concurrency: int = 4,
        projections: Iterable[Projection | type[Projection]] = (),
        inline: Iterable[Projection | type[Projection]] = (),
    ) -> None:
        if check_count("concurrency", concurrency) == 0:
            raise InvalidInput("concurrency must be 1 or more, not 0")
        self.group_name = check_name("group", group)
        self.events = events
        self.url = url
        self.schema = schema
        self.channel = channel
        self.concurrency = concurrency
        self.projections = tuple(projections)
        self.inline = tuple(inline)
        self._parts: dict[str, _Part[Handler]] = {}

    def group(
        self,
        name: str,
        *,
        start: GroupStart = "beginning",
        partition_by: str = "stream",
        max_attempts: int = 5,
        retry_after: float = 1.0,
        lease: float = 10.0,
        hold_back: bool = True,
        due: bool = False,
    ) -> None:
        """Say how a consumer group of this application reads; see `Group.create`.

        Without this a group has the settings that are the defaults here.
        """
        self._part(name).options = {
            "start": start,
            "partition_by": partition_by,
            "max_attempts": max_attempts,
            "retry_after": retry_after,
            "lease": lease,
            "hold_back": hold_back,
            "due": due,
        }

    def on(self, *types: Any, group: str | None = None) -> Callable[[Handler], Handler]:
        """Register a handler for event types.

        The handler gets the delivered event (`event.data` is the instance of the class). When it
        returns the event is acked; when it raises the event is tried again later.

        Args:
            types: event classes, unions of them, or names of event types.
            group: the consumer group that handles them; by default the application's.

        Returns:
            A decorator that gives the handler back as it is.

        Raises:
            InvalidInput: no types; a name that no registered class has, and that is not said to be
                `unregistered`; a type that has a handler in this group, or that upcasters lead
                away from; a handler of the other colour, or one that takes something else than
                the event.
        """
        if not types:
            raise InvalidInput("on() needs the event types to handle: @app.on(OrderCreated)")
        codec = Codec(self.events)
        names = codec.types_of(types)
        for name in names:
            if (current := codec.upcasting.current_types(name)) != {name}:
                raise InvalidInput(
                    f"events of type {name!r} are read as {', '.join(sorted(current))}, since an"
                    " upcaster leads there: handle that"
                )
        part = self._part(group or self.group_name)

        def register(handler: Handler) -> Handler:
            if inspect.iscoroutinefunction(handler) != self._is_async:
                raise InvalidInput(
                    f"{type(self).__name__} takes {'coroutine' if self._is_async else 'plain'}"
                    f" functions, and {handler!r} is none: use"
                    f" {'App' if self._is_async else 'AsyncApp'} for it"
                )
            check_handler(handler, "event")
            for name in names:
                if name in part.handlers:
                    raise InvalidInput(
                        f"event type {name!r} has a handler in group {part.name!r} already:"
                        " register this one with a group of its own, on(…, group=…)"
                    )
            part.handlers.update(dict.fromkeys(names, handler))
            return handler

        return register

    def _part(self, name: str) -> _Part[Handler]:
        return self._parts.setdefault(name, _Part(check_name("group", name)))

    def _working(self) -> list[_Part[Handler]]:
        parts = [part for part in self._parts.values() if part.handlers]
        if not parts and not self.projections:
            raise InvalidInput(
                "the application has no handlers: register some with @app.on(…), or give it"
                " projections"
            )
        return parts

    def _tell_start(
        self, url: str | None, schema: str | None, parts: Iterable[_Part[Handler]]
    ) -> None:
        """Say in the log what is run, and on which store."""
        known = {
            "store": place(url),
            "schema": schema_of(schema),
            "groups": ", ".join(part.name for part in parts),
            "projections": ", ".join(projection.name for projection in self.projections),
            "inline": ", ".join(projection.name for projection in self.inline),
        }
        _log.info("running", extra={name: told for name, told in known.items() if told})

    @property
    def _batches(self) -> int:
        """How many batches of projections are worked on at once."""
        wanted = sum(max(1, projection.partitions) for projection in self.projections)
        return min(2 * wanted, _MOST_BATCHES)

    @contextmanager
    def _asking(self, part: _Part[Handler] | None = None) -> Iterator[None]:
        """Go on without a report where the database cannot be asked: the workers do, too."""
        try:
            yield
        except IndelibleError as error:
            asked = "a projection" if part is None else f"group {part.name!r}"
            _log.warning("%s cannot be asked how it stands: %s", asked, error)

    def _report_projections(self, statuses: Iterable[ProjectionStatus]) -> None:
        names = {getattr(projection, "name", None) for projection in self.projections}
        for status in statuses:
            build = status.build
            if build.name in names:
                _log.info(
                    "projection stands",
                    extra={
                        "projection": build.name,
                        "version": build.version,
                        "state": build.state,
                        "checkpoint": build.checkpoint,
                        "lag_events": status.lag_events,
                        "lag_seconds": round(status.lag_seconds, 3),
                        "events_per_second": round(status.events_per_second, 1),
                        "parked": status.parked,
                        "stopped": status.stopped,
                        "workers": status.workers,
                    },
                )

    def _report(self, part: _Part[Handler], info: GroupInfo) -> None:
        _log.info(
            "group stands",
            extra={
                "group": part.name,
                "checkpoint": info.checkpoint,
                "lag_events": info.lag_events,
                "lag_seconds": round(info.lag_seconds, 3),
                "handled": part.handled,
                "failed": part.failed,
                "retrying": info.retrying,
                "parked": info.parked,
                "workers": len(info.workers),
            },
        )


class App(_Registry[Callable[[Delivery[BoundEventStore]], None]]):
    """An application of plain functions that react to events; `indelible run module:app` runs it.

    Args:
        group: the consumer group of handlers that name no other.
        events: the event classes, as for `EventStore.connect`.
        url: where the database is, as for `EventStore.connect`.
        schema: the schema that the store lives in, as for `EventStore.connect`.
        channel: the channel of the streams that its handlers append to.
        concurrency: how many events of a group are handled at once, by as many threads.
        projections: the async projections that it keeps up to date, sharing their partitions with
            the other processes that run it.
        inline: the inline projections of the store, which what its handlers append brings up to
            date; as for `EventStore.connect`.

    Example:
        ```python
        app = App("delivery", events=[OrderCreated, DeliveryBooked])

        @app.on(OrderCreated)
        def book(event: Delivery) -> None:
            with event.transaction() as transaction:     # exactly once
                transaction.append(f"delivery-{event.data.order_id}", …, expected=NO_STREAM)
        ```
    """

    _is_async = False

    def run(
        self,
        stop: threading.Event,
        *,
        url: str | None = None,
        schema: str | None = None,
        report: float = 30.0,
        grace: float = 30.0,
    ) -> None:
        """Create the groups that are not there, and work until told to stop.

        Args:
            stop: ends it when set: no new event is begun, those at work are finished.
            url: another database than the application's own.
            schema: another schema than the application's own.
            report: seconds between two lines in the log that tell how the groups stand.
            grace: seconds that handlers have to finish, after which their events are given back.

        Raises:
            InvalidInput: there is no handler.
        """
        parts = self._working()
        size = self.concurrency * len(parts)
        with (
            EventStore.connect(
                url or self.url,
                schema=schema or self.schema,
                events=self.events,
                unknown="keep",
                channel=self.channel,
                inline=self.inline,
                pool_size=size + 2 * len(parts) + 2 + (self._batches and self._batches + 2),
            ) as store,
            ExitStack() as opened,
        ):
            running: list[tuple[Consumer[BoundEventStore], list[threading.Thread]]] = []
            failures: list[BaseException] = []
            self._tell_start(url or self.url, schema or self.schema, parts)
            for part in parts:
                group = store.group(part.name)
                group.create(part.query, exists="change", **part.options)
                with self._asking(part):
                    self._report(part, group.info())
                consumer = opened.enter_context(group.consume())
                threads = [
                    threading.Thread(
                        target=self._handle,
                        args=(part, consumer, failures, stop),
                        name=f"{part.name}-{number}",
                        daemon=True,
                    )
                    for number in range(self.concurrency)
                ]
                running.append((consumer, threads))
            following = self._following(store, failures, stop, grace)
            for threads in (*(threads for _, threads in running), following):
                for thread in threads:
                    thread.start()
            while not stop.wait(report):
                for part in parts:
                    with self._asking(part):
                        self._report(part, store.group(part.name).info())
                if self.projections:
                    with self._asking():
                        self._report_projections(store.projection_statuses())
            for consumer, _ in running:
                consumer.stop()
            deadline = time.monotonic() + grace
            for consumer, threads in running:
                for thread in threads:
                    thread.join(max(deadline - time.monotonic(), 0))
                consumer.close()
            for thread in following:
                thread.join()
            for part in parts:
                with self._asking(part):
                    self._report(part, store.group(part.name).info())
            if failures:
                raise failures[0]

    def _following(
        self,
        store: EventStore,
        failures: list[BaseException],
        stop: threading.Event,
        grace: float,
    ) -> list[threading.Thread]:
        """The thread that keeps projections up to date, where there are any."""
        if not self.projections:
            return []
        daemon = store.daemon(self.projections, concurrency=self._batches)
        return [
            threading.Thread(
                target=self._follow, args=(daemon, failures, stop, grace), name="projections"
            )
        ]

    def _follow(
        self, daemon: Daemon, failures: list[BaseException], stop: threading.Event, grace: float
    ) -> None:
        try:
            daemon.run(stop, grace=grace)
        except BaseException as error:  # a projection was begun in another way, say
            failures.append(error)
            stop.set()

    def _handle(
        self,
        part: _Part[Callable[[Delivery[BoundEventStore]], None]],
        consumer: Consumer[BoundEventStore],
        failures: list[BaseException],
        stop: threading.Event,
    ) -> None:
        try:
            for event in consumer:
                begun = time.monotonic()
                with event:
                    try:
                        handler = part.handlers[event.type]
                        check_outcome(handler, handler(event))
                    except BaseException as error:
                        part.failed += 1
                        note_failure(event, error)
                        continue
                    part.handled += 1
                    _log.debug(
                        "handled",
                        extra={**event.facts(), "seconds": time.monotonic() - begun},
                    )
        except BaseException as error:  # the group was deleted, say
            failures.append(error)
            stop.set()


class AsyncApp(_Registry[Callable[[AsyncDelivery[AsyncBoundEventStore]], Awaitable[None]]]):
    """An application of coroutines that react to events: `App` with `async`.

    Args:
        group: the consumer group of handlers that name no other.
        events: the event classes, as for `EventStore.connect`.
        url: where the database is, as for `EventStore.connect`.
        schema: the schema that the store lives in, as for `EventStore.connect`.
        channel: the channel of the streams that its handlers append to.
        concurrency: how many events of a group are handled at once, by as many tasks.
        projections: the async projections that it keeps up to date, sharing their partitions with
            the other processes that run it.
        inline: the inline projections of the store, which what its handlers append brings up to
            date; as for `EventStore.connect`.

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
        report: float = 30.0,
        grace: float = 30.0,
    ) -> None:
        """Create the groups that are not there, and work until told to stop.

        Args:
            stop: ends it when set: no new event is begun, those at work are finished.
            url: another database than the application's own.
            schema: another schema than the application's own.
            report: seconds between two lines in the log that tell how the groups stand.
            grace: seconds that handlers have to finish, after which they are cancelled and their
                events given back.

        Raises:
            InvalidInput: there is no handler.
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
            running: list[tuple[AsyncConsumer[AsyncBoundEventStore], list[asyncio.Task[None]]]] = []
            failures: list[BaseException] = []
            self._tell_start(url or self.url, schema or self.schema, parts)
            for part in parts:
                group = store.group(part.name)
                await group.create(part.query, exists="change", **part.options)
                with self._asking(part):
                    self._report(part, await group.info())
                consumer = await opened.enter_async_context(group.consume())
                tasks = [
                    asyncio.create_task(self._handle(part, consumer, failures, stop))
                    for _ in range(self.concurrency)
                ]
                running.append((consumer, tasks))
            following = []
            if self.projections:
                daemon = store.daemon(self.projections, concurrency=self._batches)
                following = [asyncio.create_task(self._follow(daemon, failures, stop, grace))]
            while not await _is_set(stop, report):
                for part in parts:
                    with self._asking(part):
                        self._report(part, await store.group(part.name).info())
                if self.projections:
                    with self._asking():
                        self._report_projections(await store.projection_statuses())
            for consumer, _ in running:
                await consumer.stop()
            everything = [task for _, tasks in running for task in tasks]
            late = set(everything)
            if late:
                _, late = await asyncio.wait(everything, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
            for consumer, _ in running:
                await consumer.close()
            if following:
                await asyncio.wait(following)
            for part in parts:
                with self._asking(part):
                    self._report(part, await store.group(part.name).info())
            if failures:
                raise failures[0]

    async def _follow(
        self, daemon: AsyncDaemon, failures: list[BaseException], stop: asyncio.Event, grace: float
    ) -> None:
        try:
            await daemon.run(stop, grace=grace)
        except BaseException as error:  # a projection was begun in another way, say
            if is_over(error):
                raise
            failures.append(error)
            stop.set()

    async def _handle(
        self,
        part: _Part[Callable[[AsyncDelivery[AsyncBoundEventStore]], Awaitable[None]]],
        consumer: AsyncConsumer[AsyncBoundEventStore],
        failures: list[BaseException],
        stop: asyncio.Event,
    ) -> None:
        try:
            async for event in consumer:
                begun = time.monotonic()
                with event:
                    try:
                        handler = part.handlers[event.type]
                        check_outcome(handler, await handler(event))  # type: ignore[func-returns-value]
                    except BaseException as error:
                        part.failed += 1
                        if is_over(error):
                            raise
                        note_failure(event, error)
                        continue
                    part.handled += 1
                    _log.debug(
                        "handled",
                        extra={**event.facts(), "seconds": time.monotonic() - begun},
                    )
        except BaseException as error:  # the group was deleted, say
            if is_over(error):
                raise
            failures.append(error)
            stop.set()


async def _is_set(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
