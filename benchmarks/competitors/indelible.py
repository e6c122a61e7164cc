"""Indelible itself, through its public API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_type_hints
from uuid import uuid4

import psycopg

from benchmarks.events import Event, OrderPlaced, encode, placed
from benchmarks.harness.server import Server
from indelible import (
    ANY,
    AppendCondition,
    AsyncEventStore,
    DocumentProjection,
    EventStore,
    NewEvent,
    Query,
    RecordedEvent,
    Upcaster,
    WrongExpectedVersion,
    handles,
)

from . import Conflict, Peer, Store, Stream


@contextmanager
def database(server: Server) -> Iterator[Mapping[str, Any]]:
    """Create a database with an empty store."""
    with server.database("indelible") as url:
        EventStore.connect(url, migrate=True).close()
        yield {"url": url}


class Indelible(Store):
    """One store with default settings, shared by all threads."""

    def __init__(self, url: str, *, typed: bool = True) -> None:
        self.store = EventStore.connect(url, events=Event if typed else ())

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        try:
            self.store.append(stream.name, events, expected=version)
        except WrongExpectedVersion as error:
            raise Conflict from error

    def append_anyway(self, stream: Stream, events: Sequence[Event]) -> None:
        self.store.append(stream.name, events, expected=ANY)

    def last_version(self, stream: Stream) -> int:
        last = next(self.store.read(stream.name, backwards=True, limit=1), None)
        return -1 if last is None else last.version

    def append_if_none(self, tag: str, event: Event, after: int | None) -> int:
        # No other writer uses this tag, so the position can serve as the marker.
        condition = AppendCondition(Query(tags=tag), after=after or 0)
        new = NewEvent(type(event).__name__, event, tags=(tag,))
        return self.store.append(None, new, condition=condition).position

    def load(self, stream: Stream) -> list[Event]:
        return [event.data for event in self.store.read(stream.name)]

    def scan(self, how: str) -> int:
        query = Query(types="OrderReviewed") if how == "matching" else None
        return sum(1 for _ in self.store.read_all(query))

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        following = self.store.subscribe(after="head" if at_end else 0)

        def read() -> None:
            for event in following:
                note(event.data)

        return _in_thread(read, following.stop)

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        try:
            with self.store.transaction() as transaction:
                transaction.append(stream.name, events[:1], expected=ANY)
                if slow:
                    time.sleep(0.02)
                if events[1:]:
                    transaction.append(stream.name, events[1:], expected=ANY)
                if fail:
                    raise Undone
        except Undone:
            return False
        return True

    def head(self) -> None:
        """Query the head."""
        self.store.head()

    def import_lines(self, lines: Sequence[bytes]) -> None:
        """Import NDJSON in bulk."""
        self.store.import_events(lines)

    def close(self) -> None:
        self.store.close()


class Undone(Exception):
    """Rolls a transaction back."""


class GroupWorker(Indelible):
    """A worker of one consumer group: `follow` passes on and acks its events."""

    def __init__(self, url: str, group: str) -> None:
        super().__init__(url)
        self._group = group

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        group = self.store.group(self._group)
        group.create(start="head" if at_end else "beginning")
        consumer = group.consume()

        def work() -> None:
            for delivery in consumer:
                note(delivery.data)
                delivery.ack()

        stop = _in_thread(work, consumer.stop)
        while consumer.slices == 0:
            time.sleep(0.002)

        def leave() -> None:
            stop()
            consumer.close()

        return leave


@dataclass
class Customer:
    """The document of an order."""

    orders: int = 0
    total: int = 0
    last: str = ""


class ByOrder(DocumentProjection[Customer]):
    """A document for each stream."""

    @handles(OrderPlaced)
    def placed(self, customer: Customer | None, event: RecordedEvent) -> Customer:
        """Count an order."""
        found = customer or Customer()
        found.orders += 1
        found.total += event.data.number
        found.last = event.data.address
        return found


class ByHundred(ByOrder):
    """A hundred documents, each of many streams."""

    def key(self, event: RecordedEvent) -> str:
        return str(event.position % 100)


class Projecting(Indelible):
    """A document projection: `scan` brings a new one up to the head, or reads it live."""

    def scan(self, how: str) -> int:
        projection = ByHundred() if how == "hundred" else ByOrder()
        projection.name = f"bench-{uuid4()}"  # type: ignore[misc]
        if how == "live":
            return sum(each.orders for each in self.store.project(projection).documents.values())
        self.store.catch_up(projection)
        (build,) = self.store.projections(projection.name)
        return sum(partition.handled for partition in build.partitions)


class RawIndelible(Indelible):
    """A store without event classes: the data of every event is plain JSON data."""

    def __init__(self, url: str) -> None:
        super().__init__(url, typed=False)


class UpcastIndelible(Indelible):
    """A store that reads the rare event, one of a hundred, as the common one."""

    def __init__(self, url: str) -> None:
        self.store = EventStore.connect(
            url, events=[OrderPlaced, Upcaster("OrderReviewed", dict, into="OrderPlaced")]
        )


class PydanticIndelible(Indelible):
    """A store whose event classes are models of pydantic."""

    def __init__(self, url: str) -> None:
        from pydantic import BaseModel, create_model

        facts = {name: (of, ...) for name, of in get_type_hints(OrderPlaced).items()}
        made: Any = create_model
        classes = [
            made(name, __base__=BaseModel, **facts) for name in ("OrderPlaced", "OrderReviewed")
        ]
        self.store = EventStore.connect(url, events=classes)


class TaggedIndelible(Indelible):
    """A store whose events have metadata with three keys, and two tags."""

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        rich = [
            NewEvent(
                type(event).__name__,
                event,
                metadata={"user": "ann", "correlation_id": stream.name, "source": "web"},
                tags=(f"order:{stream.id}", "customer:17"),
            )
            for event in events
        ]
        self.store.append(stream.name, rich, expected=version)


class AsyncIndelible:
    """The async API: one store, shared by all tasks of a loop."""

    def __init__(self, store: AsyncEventStore) -> None:
        self._store = store

    @classmethod
    async def open(cls, url: str) -> AsyncIndelible:
        """Open it in the running loop."""
        return cls(await AsyncEventStore.connect(url, events=Event))

    async def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        """As in `Store`."""
        await self._store.append(stream.name, events, expected=version)

    async def close(self) -> None:
        """Close it."""
        await self._store.close()


def fill(url: str, events: int, length: int) -> None:
    """Fill an empty store inside the database, with interleaved streams of one length.

    The tables are the same as after appends: streams have their last versions, and sequences their
    last values.
    """
    streams = events // length
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO indelible.streams (version, name, channel)
            SELECT %s::bigint - 1, 'order-' || gen_random_uuid(), 'order'
            FROM generate_series(1, %s::bigint)
            """,
            [length, streams],
        )
        connection.execute(
            """
            INSERT INTO indelible.events
                (position, stream_id, version, recorded_at, id, type, data)
            SELECT
                number + 1, number %% %(streams)s + 1, number / %(streams)s,
                clock_timestamp(), uuidv7(), 'OrderPlaced',
                %(data)s::jsonb || jsonb_build_object('order_id', gen_random_uuid())
            FROM generate_series(0, %(streams)s::bigint * %(length)s - 1) AS given (number)
            """,
            {"streams": streams, "length": length, "data": encode(placed(0)).decode()},
        )
        connection.execute(
            "SELECT setval('indelible.events_position', max(position)) FROM indelible.events"
        )
        connection.execute("VACUUM (ANALYZE) indelible.events, indelible.streams")


def leave_unanalyzed(url: str) -> None:
    """Keep autovacuum from the tables of a store, so that the planner has no statistics."""
    with psycopg.connect(url) as connection:
        for table in ("events", "streams"):
            connection.execute(
                f"ALTER TABLE indelible.{table} SET (autovacuum_enabled = off)".encode()
            )


def some_streams(url: str, count: int) -> list[str]:
    """Return random streams, with the names that drivers use."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT name FROM indelible.streams ORDER BY random() LIMIT %s", [count]
        ).fetchall()
    return [name.removeprefix("order-") for (name,) in rows]


def _in_thread(work: Callable[[], None], end: Callable[[], None]) -> Callable[[], None]:
    thread = threading.Thread(target=work)
    thread.start()

    def stop() -> None:
        end()
        thread.join()

    return stop


_MODULE = "benchmarks.competitors.indelible"
INDELIBLE = Peer("Indelible", "", "indelible", f"{_MODULE}:Indelible", database)
RAW = Peer("Indelible", "without classes", "indelible", f"{_MODULE}:RawIndelible", database)
TAGGED = Peer("Indelible", "metadata and tags", "indelible", f"{_MODULE}:TaggedIndelible", database)
UPCAST = Peer("Indelible", "1 % upcast", "indelible", f"{_MODULE}:UpcastIndelible", database)
PYDANTIC = Peer("Indelible", "pydantic", "indelible", f"{_MODULE}:PydanticIndelible", database)
ASYNC = Peer(
    "Indelible",
    "async",
    "indelible",
    f"{_MODULE}:AsyncIndelible.open",
    database,
)
PROJECTION = Peer("Indelible", "projection", "indelible", f"{_MODULE}:Projecting", database)
GROUP = Peer("Indelible", "consumer group", "indelible", f"{_MODULE}:GroupWorker", database)
