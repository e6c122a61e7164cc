"""The limit of a Python client: one prepared INSERT per commit through psycopg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks.events import Event, encode
from benchmarks.harness.server import Server

from . import Peer, Store, Stream

_TABLE = (
    "CREATE TABLE bare (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " data jsonb NOT NULL)"
)
_INSERT = "INSERT INTO bare (data) VALUES (%s::text::jsonb)"


class Insert(Store):
    """One connection, in autocommit mode. It checks nothing, and has no streams."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._cursor = self._connection.cursor()

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        for event in events:
            self._cursor.execute(_INSERT, [encode(event).decode()], prepare=True)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _database(server: Server) -> Iterator[Mapping[str, Any]]:
    with server.database("insert") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_TABLE)
        yield {"url": url}


INSERT = Peer(
    "psycopg", "INSERT per commit", "limit", "benchmarks.competitors.insert:Insert", _database
)
