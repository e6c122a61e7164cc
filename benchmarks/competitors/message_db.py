"""Message DB: its PostgreSQL functions, called through psycopg as its documentation says.

Its `install.sh` runs psql as an administrator; this module runs the same files in the same order.
Two parts are left out. The embedded PostgreSQL lacks the extension pgcrypto: Message DB only uses
its `gen_random_uuid`, which is a part of PostgreSQL since 13. The grants to its role are not
needed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
from psycopg_pool import ConnectionPool

from benchmarks.events import DECODERS, Event, encode
from benchmarks.harness import packages
from benchmarks.harness.server import Server

from . import Conflict, Peer, Store, Stream

_FILES = (
    "schema/message-store", "types/message", "tables/messages",
    "functions/message-store-version", "functions/hash-64", "functions/acquire-lock",
    "functions/category", "functions/is-category", "functions/id", "functions/cardinal-id",
    "functions/stream-version", "functions/write-message", "functions/get-stream-messages",
    "functions/get-category-messages", "functions/get-last-stream-message",
    "indexes/messages-id", "indexes/messages-stream", "indexes/messages-category",
)  # fmt: skip
_PATH = "-c search_path=message_store,public"
_PAGE = 1000
_POLL_SECONDS = 0.1
"""Its consumers poll again after 100 ms if they found nothing."""


@contextmanager
def _database(server: Server) -> Iterator[Mapping[str, Any]]:
    folder = packages.folder_of("@eventide/message-db") / "database"
    with server.database("message_db") as url:
        with psycopg.connect(url, autocommit=True, options=_PATH) as connection:
            for name in _FILES:
                connection.execute((folder / f"{name}.sql").read_bytes())
        yield {"url": url}


class MessageDB(Store):
    """A connection for each of up to 16 writers."""

    def __init__(self, url: str, connections: int = 5) -> None:
        self._pool = ConnectionPool(
            url,
            kwargs={"autocommit": True, "options": _PATH},
            min_size=connections,
            max_size=connections,
            timeout=60,
            open=True,
        )

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        with self._pool.connection() as connection:
            try:
                if len(events) == 1:
                    _write(connection, stream, events[0], version)
                    return
                with connection.transaction(), connection.pipeline():
                    for place, event in enumerate(events):
                        _write(connection, stream, event, version + place)
            except psycopg.errors.RaiseException as error:
                raise Conflict from error

    def last_version(self, stream: Stream) -> int:
        with self._pool.connection() as connection:
            row = connection.execute(
                "SELECT stream_version(%s)", [stream.name], prepare=True
            ).fetchone()
        return -1 if row is None or row[0] is None else int(row[0])

    def load(self, stream: Stream) -> list[Event]:
        found: list[Event] = []
        with self._pool.connection() as connection:
            while True:
                rows = connection.execute(
                    "SELECT type, data FROM get_stream_messages(%s, %s, %s)",
                    [stream.name, len(found), _PAGE],
                    prepare=True,
                ).fetchall()
                found.extend(_typed(*row) for row in rows)
                if len(rows) < _PAGE:
                    return found

    def scan(self, how: str) -> int:
        if how == "matching":
            raise NotImplementedError("it has no filter by type")
        count, position = 0, 1
        with self._pool.connection() as connection:
            while rows := _page(connection, position):
                for name, data, _ in rows:
                    if how != "raw":
                        _typed(name, data)
                count += len(rows)
                position = rows[-1][2] + 1
        return count

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        stopped = threading.Event()

        def read() -> None:
            with self._pool.connection() as connection:
                position = begin
                while not stopped.is_set():
                    rows = _page(connection, position)
                    for name, data, _ in rows:
                        note(_typed(name, data))
                    if rows:
                        position = rows[-1][2] + 1
                    else:
                        stopped.wait(_POLL_SECONDS)

        with self._pool.connection() as connection:
            row = connection.execute("SELECT coalesce(max(global_position), 0) FROM messages")
            begin = int((row.fetchone() or (0,))[0]) + 1 if at_end else 1
        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            stopped.set()
            thread.join()

        return stop

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        with self._pool.connection() as connection, connection.transaction() as transaction:
            for place, event in enumerate(events):
                _write(connection, stream, event, None)
                if slow and place == 0:
                    time.sleep(0.02)
            if fail:
                raise psycopg.Rollback(transaction)
        return not fail

    def close(self) -> None:
        self._pool.close()


def _write(
    connection: psycopg.Connection, stream: Stream, event: Event, version: int | None
) -> None:
    connection.execute(
        "SELECT write_message(%s, %s, %s, %s::jsonb, NULL, %s::bigint)",
        [str(uuid4()), stream.name, type(event).__name__, encode(event).decode(), version],
        prepare=True,
    )


def _page(connection: psycopg.Connection, position: int) -> list[tuple[str, str, int]]:
    return connection.execute(
        "SELECT type, data, global_position FROM get_category_messages('order', %s, %s)",
        [position, _PAGE],
        prepare=True,
    ).fetchall()


def _typed(name: str, data: str) -> Event:
    return DECODERS[name](data)


MESSAGE_DB = Peer("Message DB", "", "peer", f"{__name__}:MessageDB", _database)
