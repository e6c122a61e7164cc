"""Readers of every kind, each in a thread, which record their events and their last error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from uuid import UUID

from indelible import (
    AsyncEventStore,
    DocumentProjection,
    EventStore,
    Query,
    RecordedEvent,
    TableProjection,
    handles,
)
from indelible.errors import StoreClosed

SCHEMA = "indelible"


class Entry(NamedTuple):
    """An event's place in the log."""

    position: int
    id: UUID
    channel: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Happened:
    number: int


class Counts(DocumentProjection[dict]):
    """How many events each stream has, kept by a daemon."""

    name = "counts"
    partitions = 2

    @handles(Happened)
    def happened(self, counted: dict | None, event: RecordedEvent) -> dict:
        return {"n": (counted or {"n": 0})["n"] + 1, "last": str(event.id)}


class InlineCounts(Counts):
    """The same, kept by the appends themselves."""

    name = "inline_counts"
    partitions = 1


class Journal(TableProjection):
    """A row an event, in a table without a key: what comes twice is there twice."""

    name = "journal"

    @handles(Happened)
    def happened(self, event: RecordedEvent, connection: Any) -> None:
        connection.execute("INSERT INTO journal VALUES (%s)", [event.id])


class AsyncJournal(TableProjection):
    """The same for a daemon with `async`."""

    name = "async_journal"

    @handles(Happened)
    async def happened(self, event: RecordedEvent, connection: Any) -> None:
        await connection.execute("INSERT INTO async_journal VALUES (%s)", [event.id])


TABLES = ("journal", "async_journal", "handled")
"""Tables of ids that readers write to, in the store's own database."""


def connect(url: str, **options: Any) -> EventStore:
    return EventStore.connect(url, schema=SCHEMA, events=[Happened], **options)


def connect_async(url: str, **options: Any) -> Any:
    return AsyncEventStore.connect(url, schema=SCHEMA, events=[Happened], **options)


class Reader:
    """Somebody who reads in a thread until it is stopped.

    Args:
        channel: the only channel that it reads; None for all.
        holds_after: after how many events it stands still, until `go_on`; None for never.
    """

    def __init__(self, *, channel: str | None = None, holds_after: int | None = None) -> None:
        self.channel = channel
        self.seen: list[UUID] = []
        self.failure: BaseException | None = None
        self._holds_after = holds_after
        self._may_go_on = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def read(self) -> None:
        """Read until it is stopped."""
        raise NotImplementedError

    @property
    def is_held(self) -> bool:
        """Whether it stands still."""
        return not self._may_go_on.is_set() and len(self.seen) == self._holds_after

    def go_on(self) -> None:
        """Stand still no longer."""
        self._may_go_on.set()

    def wanted(self, log: Iterable[Entry]) -> list[UUID]:
        """What it is to see of a log."""
        return [entry.id for entry in log if self.channel in (None, entry.channel)]

    def has_seen(self, log: Iterable[Entry]) -> bool:
        """Whether it has seen what it is to see of a log, or comes no further."""
        return (
            self.failure is not None
            or self.is_held
            or not self._thread.is_alive()
            or set(self.wanted(log)) <= set(self.seen)
        )

    def stop(self) -> None:
        """End it."""
        self._may_go_on.set()
        self._stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _see(self, event: RecordedEvent) -> None:
        self.seen.append(event.id)
        if len(self.seen) == self._holds_after:
            self._may_go_on.wait()

    def _keep(self) -> None:
        try:
            self.read()
        except StoreClosed:
            pass
        except BaseException as error:
            self.failure = error


class Subscriber(Reader):
    """A subscription, event by event."""

    def __init__(self, store: EventStore, *, due: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._subscription = store.subscribe(deliver_when_valid=due)
        self._stop = self._subscription.stop

    def read(self) -> None:
        for event in self._subscription:
            self._see(event)


class BatchSubscriber(Reader):
    """A subscription to one channel, batch by batch: its checkpoint passes what it does not see."""

    def __init__(self, store: EventStore, channel: str) -> None:
        super().__init__(channel=channel)
        self._subscription = store.subscribe(Query(channel=channel))
        self._stop = self._subscription.stop

    def read(self) -> None:
        for batch in self._subscription.batches():
            for event in batch.events:
                self._see(event)


class AsyncSubscriber(Reader):
    """A subscription in a loop and with a store of its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def read(self) -> None:
        asyncio.run(self._read())

    async def _read(self) -> None:
        async with connect_async(self._url, pool_size=2) as store:
            subscription = await store.subscribe()
            self._stop = subscription.stop
            async for event in subscription:
                self._see(event)


class Worker(Reader):
    """A worker of a group, which acks at once; or in a transaction that notes the event."""

    def __init__(self, store: EventStore, group: str, *, in_transaction: bool = False) -> None:
        super().__init__()
        self._group = store.group(group)
        self._in_transaction = in_transaction

    def read(self) -> None:
        with self._group.consume() as consumer:
            self._stop = consumer.stop
            for delivery in consumer:
                with delivery:
                    if self._in_transaction:
                        with delivery.transaction() as transaction:
                            transaction.connection.execute(
                                "INSERT INTO handled VALUES (%s)", [delivery.event.id]
                            )
                self._see(delivery.event)


class AsyncWorker(Reader):
    """A worker of a group in a loop and with a store of its own."""

    def __init__(self, url: str, group: str) -> None:
        super().__init__()
        self._url = url
        self._name = group
        self._is_stopped = threading.Event()
        self._stop = self._is_stopped.set

    def read(self) -> None:
        asyncio.run(self._read())

    async def _read(self) -> None:
        async with connect_async(self._url, pool_size=3) as store:
            async with store.group(self._name).consume() as consumer:
                while not self._is_stopped.is_set():
                    delivery = await consumer.take(0.1)
                    if delivery is not None:
                        with delivery:
                            self._see(delivery.event)
