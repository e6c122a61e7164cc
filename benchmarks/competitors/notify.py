"""The limit of latency: an INSERT into a bare table and a NOTIFY per commit, and a listener.

It misses rows that commit late, and NOTIFY serializes all commits, so no store can work this way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.events import DECODERS, Event, encode
from benchmarks.harness.server import Server

from . import Peer, Store, Stream


@contextmanager
def _database(server: Server) -> Iterator[Mapping[str, Any]]:
    with server.database("notify") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, data text NOT NULL)")
        yield {"url": url}


class Notify(Store):
    """One connection to write, one to listen."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        with self._connection.transaction():
            for event in events:
                self._connection.execute(
                    "INSERT INTO bare (data) VALUES (%s)",
                    [encode(event).decode()],
                    prepare=True,
                )
            self._connection.execute("NOTIFY bare")

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        stopped = threading.Event()
        listening = psycopg.connect(self._url, autocommit=True)
        listening.execute("LISTEN bare")
        row = listening.execute("SELECT coalesce(max(id), 0) FROM bare").fetchone()

        def read() -> None:
            last = int(row[0]) if row and at_end else 0
            while not stopped.is_set():
                list(listening.notifies(timeout=0.1, stop_after=1))
                rows = listening.execute(
                    "SELECT id, data FROM bare WHERE id > %s ORDER BY id", [last]
                ).fetchall()
                for _, data in rows:
                    note(DECODERS["OrderPlaced"](data))
                last = rows[-1][0] if rows else last
            listening.close()

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            stopped.set()
            thread.join()

        return stop

    def close(self) -> None:
        self._connection.close()


NOTIFY = Peer("NOTIFY", "in every commit of a bare table", "limit", f"{__name__}:Notify", _database)
