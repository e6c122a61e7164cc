"""Run the handlers and projections of an application in one process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Concatenate, TypeAlias

from indelible.consumer_groups.admin_operations import info as group_info
from indelible.consumer_groups.consumer import Consumer
from indelible.consumer_groups.delivered_event import note_failure
from indelible.consumer_groups.delivery import Delivery
from indelible.core.handlers import check_outcome
from indelible.postgres.engine import ShortTimeoutEngine
from indelible.projections.admin_operations import statuses as projection_statuses
from indelible.projections.daemon import Daemon
from indelible.store.event_store import EventStore
from indelible.store.transaction_store import TransactionStore

from .registry import HandlerGroup, HandlerRegistry

_log = logging.getLogger("indelible.app")


_Handler: TypeAlias = Callable[Concatenate[Delivery[Any, TransactionStore], ...], None]


class App(HandlerRegistry[_Handler]):
    """An application of event handlers and projections. Run it with `indelible run module:app`.

    Handlers are plain functions. Each consumer group of the application delivers at least once;
    use `Delivery.transaction` for exactly-once effects in the database.

    Args:
        group: the default consumer group of the handlers.
        events: the event classes, as for `EventStore.connect`.
        url: the database, as for `EventStore.connect`.
        schema: the schema of the store, as for `EventStore.connect`.
        channel: the channel of the streams that the handlers append to.
        concurrency: how many events of each group are handled at once; the number of threads per
            group.
        projections: the async projections to keep up to date. Processes that run the application
            share their partitions.
        inline: the inline projections that appends of the handlers update, as for
            `EventStore.connect`.
        resources: what handlers take besides the event: functions without parameters by name, each
            of which returns a context manager. `run` enters it when it starts and leaves it at its
            end. A handler gets what was entered by a parameter of that name. All threads share it.

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
            shutdown_timeout: the seconds that handlers have to finish after `stop` is set. Events
                that are not finished then are returned to their group.

        Raises:
            InvalidInput: the application has no handlers and no projections.

        Example:
            ```python
            stop = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            app.run(stop)
            ```
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
            running: list[tuple[Consumer[TransactionStore], list[threading.Thread]]] = []
            failures: list[BaseException] = []
            self._tell_start(url or self.url, schema or self.schema, parts)
            resources = {name: opened.enter_context(self._made(name)) for name in self.resources}
            for part in parts:
                store.group(part.name).create(part.query, exists="change", **part.options)
            self._report_status(store, parts)
            for part in parts:
                consumer = opened.enter_context(store.group(part.name).consume())
                threads = [
                    threading.Thread(
                        target=self._handle,
                        args=(part, part.calls(resources), consumer, failures, stop),
                        name=f"{part.name}-{number}",
                        daemon=True,
                    )
                    for number in range(self.concurrency)
                ]
                running.append((consumer, threads))
            following = self._following(store, failures, stop, shutdown_timeout)
            for threads in (*(threads for _, threads in running), following):
                for thread in threads:
                    thread.start()
            while not stop.wait(report_interval):
                self._report_status(store, parts)
            for consumer, _ in running:
                consumer.stop()
            deadline = time.monotonic() + shutdown_timeout
            for consumer, threads in running:
                for thread in threads:
                    thread.join(max(deadline - time.monotonic(), 0))
                consumer._end()
            for consumer, _ in running:
                consumer.close()
            for thread in following:
                thread.join()
            self._report_status(store, parts)
            if failures:
                raise failures[0]

    def _report_status(self, store: EventStore, parts: Iterable[HandlerGroup[_Handler]]) -> None:
        """Log the status of the groups and projections; if the database is away, wait only once."""
        engine = ShortTimeoutEngine(store._engine)
        codec = store._append_settings.codec
        with self._asking():
            for part in parts:
                with self._asking(f"group {part.name!r}"):
                    self._report(part, engine.run(group_info(codec, part.name)))
            if self.projections:
                with self._asking("projections"):
                    self._report_projections(engine.run(projection_statuses()))

    def _following(
        self,
        store: EventStore,
        failures: list[BaseException],
        stop: threading.Event,
        shutdown_timeout: float,
    ) -> list[threading.Thread]:
        """Return the thread that runs the daemon; empty without projections."""
        if not self.projections:
            return []
        daemon = store.daemon(self.projections, concurrency=self._batches)
        return [
            threading.Thread(
                target=self._follow,
                args=(daemon, failures, stop, shutdown_timeout),
                name="projections",
            )
        ]

    def _follow(
        self,
        daemon: Daemon,
        failures: list[BaseException],
        stop: threading.Event,
        shutdown_timeout: float,
    ) -> None:
        try:
            daemon.run(stop, shutdown_timeout=shutdown_timeout)
        except BaseException as error:  # for example ProjectionDefinitionChanged
            failures.append(error)
            stop.set()

    def _handle(
        self,
        part: HandlerGroup[_Handler],
        calls: Mapping[str, Callable[[Any], object]],
        consumer: Consumer[TransactionStore],
        failures: list[BaseException],
        stop: threading.Event,
    ) -> None:
        try:
            for event in consumer:
                begun = time.monotonic()
                with event:
                    try:
                        call = calls[event.type]
                        check_outcome(part.handlers[event.type], call(event))
                    except BaseException as error:
                        part.failed += 1
                        note_failure(event, error)
                        continue
                    part.handled += 1
                    _log.debug(
                        "handled",
                        extra={**event.facts(), "seconds": time.monotonic() - begun},
                    )
        except BaseException as error:  # for example GroupNotFound: the group was deleted
            failures.append(error)
            stop.set()
