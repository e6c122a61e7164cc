"""The library `eventsourcing`: its recorders for PostgreSQL, given ready-made JSON.

By default it locks the table for each insert, so that notifications come in order; with
`enable_db_functions` the same is done in a function of the database.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

from psycopg.conninfo import conninfo_to_dict

from benchmarks import samples
from benchmarks.harness import NotHere, Role, Turn, in_threads
from benchmarks.machine import Bench

try:
    from eventsourcing.persistence import IntegrityError as IntegrityError
    from eventsourcing.persistence import StoredEvent as StoredEvent
    from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
except ImportError:
    StoredEvent = IntegrityError = None

TOPIC = "shop.ordering.domain:Order.Created"


def datastore(bench: Bench, *, connections: int, functions: bool) -> PostgresDatastore:
    if StoredEvent is None:
        raise NotHere("the package eventsourcing is not installed")
    given = conninfo_to_dict(bench.url)
    return PostgresDatastore(
        dbname=str(given["dbname"]),
        host=str(given["host"]),
        port=str(given.get("port", 5432)),
        user=str(given["user"]),
        password=str(given.get("password", "")),
        pool_size=connections,
        max_waiting=10 * connections,
        enable_db_functions=functions,
    )


class EventSourcing:
    """Appends to its application recorder, `size` events at a time."""

    role: Role = "peer"

    def __init__(
        self, bench: Bench, *, writers: int = 1, size: int = 1, functions: bool = False
    ) -> None:
        self.name = "eventsourcing, DB functions" if functions else "eventsourcing"
        if writers > 1:
            self.name += f", {writers} threads"
        self._writers, self._size = writers, size
        self._datastore = datastore(bench, connections=writers, functions=functions)
        self.table = f"stored_events_{uuid4().hex[:8]}"
        self.recorder = PostgresApplicationRecorder(self._datastore, events_table_name=self.table)
        self.recorder.create_table()
        self._streams: dict[tuple[int, int], tuple[UUID, int]] = {}

    def turn(self, bench: Bench) -> Turn:
        return in_threads(self._writers, bench.seconds, self._append)

    def _append(self, writer: int, times: int) -> int:
        key = writer, times % samples.STREAMS
        stream, version = self._streams.get(key) or (uuid4(), 0)
        self.recorder.insert_events(
            [
                StoredEvent(
                    originator_id=stream,
                    originator_version=version + number,
                    topic=TOPIC,
                    state=samples.encode(samples.order(times)),
                )
                for number in range(self._size)
            ]
        )
        self._streams[key] = stream, version + self._size
        return self._size

    def close(self) -> None:
        self._datastore.close()


def appending(
    *, writers: int = 1, size: int = 1, functions: bool = False
) -> Callable[[Bench], EventSourcing]:
    def eventsourcing(bench: Bench) -> EventSourcing:
        return EventSourcing(bench, writers=writers, size=size, functions=functions)

    return eventsourcing


class EventSourcingReads:
    """Reads streams, or the log, into the same class."""

    role: Role = "peer"

    def __init__(self, bench: Bench, *, length: int, scans: bool) -> None:
        self.name = "eventsourcing"
        self._datastore = datastore(bench, connections=1, functions=False)
        self._recorder = PostgresApplicationRecorder(
            self._datastore, events_table_name=f"stored_events_{uuid4().hex[:8]}"
        )
        self._recorder.create_table()
        self._stream, self._length, self._scans = uuid4(), length, scans
        for first in range(0, length, 1_000):
            self._recorder.insert_events(
                [
                    StoredEvent(self._stream, number, TOPIC, samples.DATA.encode())
                    for number in range(first, min(first + 1_000, length))
                ]
            )

    def turn(self, bench: Bench) -> Turn:
        return in_threads(1, bench.seconds, self._scan if self._scans else self._load)

    def _load(self, writer: int, times: int) -> int:
        found = [
            samples.decode(stored.state) for stored in self._recorder.select_events(self._stream)
        ]
        assert len(found) == self._length
        return len(found)

    def _scan(self, writer: int, times: int) -> int:
        start, count = 1, 0
        while page := self._recorder.select_notifications(start, 5_000):
            for notification in page:
                samples.decode(notification.state)
            count += len(page)
            start = page[-1].id + 1
        assert count == self._length
        return count

    def close(self) -> None:
        self._datastore.close()
