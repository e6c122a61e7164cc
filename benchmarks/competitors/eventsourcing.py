"""The `eventsourcing` library on PostgreSQL.

"default" is its `PostgresApplicationRecorder`, "DB functions" is the same with
`POSTGRES_ENABLE_DB_FUNCTIONS`, and "DCB" is its `PostgresDCBRecorderTT`.

It is set up through its factories and environment variables, as in its documentation. The pool has
a connection for each writer, up to 16. Its recorders use bytes, and get JSON from msgspec, the
fastest encoder. The costs of its domain model are not included.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from benchmarks.events import DECODERS, FIRST_NUMBER, Event, encode
from benchmarks.harness.server import Server

from . import Conflict, Peer, Store, Stream

_PAGE = 1000


@contextmanager
def _database(server: Server) -> Iterator[Mapping[str, Any]]:
    with server.database("eventsourcing") as url:
        yield {"url": url}


def _environment(url: str, connections: int, **settings: str) -> Any:
    from eventsourcing.utils import Environment

    given = conninfo_to_dict(url)
    return Environment(
        name="bench",
        env={
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(given["dbname"]),
            "POSTGRES_HOST": str(given["host"]),
            "POSTGRES_PORT": str(given.get("port", 5432)),
            "POSTGRES_USER": str(given["user"]),
            "POSTGRES_PASSWORD": str(given.get("password", "unused")),
            "POSTGRES_POOL_SIZE": str(connections),
            "POSTGRES_MAX_OVERFLOW": "10",
            "POSTGRES_CONNECT_TIMEOUT": "60",
            **settings,
        },
    )


class ApplicationRecorder(Store):
    """Its `PostgresApplicationRecorder`."""

    settings: Mapping[str, str] = {}

    def __init__(self, url: str, connections: int = 5) -> None:
        from eventsourcing.persistence import InfrastructureFactory, IntegrityError, StoredEvent

        self._stored_event = StoredEvent
        self._integrity_error = IntegrityError
        self._factory = InfrastructureFactory.construct(
            _environment(url, connections, **self.settings)
        )
        self._recorder = self._factory.application_recorder()

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        try:
            self._recorder.insert_events(
                [
                    self._stored_event(
                        stream.id, version + 1 + place, type(event).__name__, encode(event)
                    )
                    for place, event in enumerate(events)
                ]
            )
        except self._integrity_error as error:
            raise Conflict from error

    def last_version(self, stream: Stream) -> int:
        found = self._recorder.select_events(stream.id, desc=True, limit=1)
        return found[0].originator_version if found else -1

    def load(self, stream: Stream) -> list[Event]:
        return [_decode(found) for found in self._recorder.select_events(stream.id)]

    def scan(self, how: str) -> int:
        topics = ("OrderReviewed",) if how == "matching" else ()
        start = count = 0
        while found := self._recorder.select_notifications(
            start, _PAGE, topics=topics, inclusive_of_start=False
        ):
            if how != "raw":
                for notification in found:
                    _decode(notification)
            count += len(found)
            start = found[-1].id
        return count

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        last = self._recorder.max_notification_id() if at_end else None
        subscription = self._recorder.subscribe(gt=last)

        def read() -> None:
            with subscription:
                for notification in subscription:
                    note(_decode(notification))

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            subscription.stop()
            thread.join()

        return stop

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        # One call is one transaction, so it cannot be slowed down. To fail it uses a version twice.
        if fail:
            doubled = [self._stored_event(stream.id, 10**9, "OrderPlaced", b"")] * 2
            try:
                self._recorder.insert_events(doubled)
            except self._integrity_error:
                return False
        self.append(stream, events, events[0].number - FIRST_NUMBER - 1)
        return True

    def close(self) -> None:
        self._factory.close()


class WithFunctions(ApplicationRecorder):
    """The same with `POSTGRES_ENABLE_DB_FUNCTIONS`."""

    settings: Mapping[str, str] = {"POSTGRES_ENABLE_DB_FUNCTIONS": "y"}


class DCBRecorder(Store):
    """Its `PostgresDCBRecorderTT`."""

    def __init__(self, url: str, connections: int = 5) -> None:
        from eventsourcing.dcb import api
        from eventsourcing.dcb.postgres_tt import PostgresTTDCBFactory
        from eventsourcing.persistence import IntegrityError

        self._api = api
        self._integrity_error = IntegrityError
        self._factory = PostgresTTDCBFactory(
            _environment(url, connections, PERSISTENCE_MODULE="eventsourcing.dcb.postgres_tt")
        )
        self._recorder = self._factory.dcb_recorder()

    def append_anyway(self, stream: Stream, events: Sequence[Event]) -> None:
        self._recorder.append([self._event(event, stream.name) for event in events])

    def append_if_none(self, tag: str, event: Event, after: int | None) -> int:
        return self._append_if(tag, [event], after)

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        last = self._recorder.read(limit=None).head if at_end else None
        subscription = self._recorder.subscribe(after=last)

        def read() -> None:
            with subscription:
                for found in subscription:
                    note(_typed(found.event.type, found.event.data))

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            subscription.stop()
            thread.join()

        return stop

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        self.append_anyway(stream, events)
        return True

    def close(self) -> None:
        self._factory.close()

    def _append_if(self, tag: str, events: Sequence[Event], after: int | None) -> int:
        query = self._api.DCBQuery(items=[self._api.DCBQueryItem(types=[], tags=[tag])])
        condition = self._api.DCBAppendCondition(fail_if_events_match=query, after=after)
        try:
            return int(
                self._recorder.append([self._event(event, tag) for event in events], condition)
            )
        except self._integrity_error as error:
            raise Conflict from error

    def _event(self, event: Event, tag: str) -> Any:
        return self._api.DCBEvent(type=type(event).__name__, data=encode(event), tags=[tag])


class ConditionalDCBRecorder(DCBRecorder):
    """The same, with a condition on the tag of the stream for lists of events."""

    def __init__(self, url: str, connections: int = 5) -> None:
        super().__init__(url, connections)
        self._positions: dict[Stream, int] = {}

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        after = None if fail else self._positions.get(stream)
        try:
            self._positions[stream] = self._append_if(stream.name, events, after)
        except Conflict:
            return False
        return True


def _decode(found: Any) -> Event:
    return _typed(found.topic, found.state)


def _typed(name: str, data: bytes) -> Event:
    return DECODERS[name](data)


_MODULE = "benchmarks.competitors.eventsourcing"
DEFAULT = Peer(
    "eventsourcing",
    "default",
    "peer",
    f"{_MODULE}:ApplicationRecorder",
    _database,
)
FUNCTIONS = Peer(
    "eventsourcing",
    "DB functions",
    "peer",
    f"{_MODULE}:WithFunctions",
    _database,
)
DCB = Peer("eventsourcing", "DCB", "peer", f"{_MODULE}:DCBRecorder", _database)
CONDITIONAL_DCB = Peer(
    "eventsourcing", "DCB, conditional", "peer", f"{_MODULE}:ConditionalDCBRecorder", _database
)
