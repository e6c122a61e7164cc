"""Bulk import, against binary COPY into a bare table with the same columns and indexes."""

from __future__ import annotations

import struct
import time
from random import Random
from uuid import UUID

import psycopg

from benchmarks import ours, samples
from benchmarks.harness import Budget, Role, Turn, Work
from benchmarks.machine import Bench
from indelible import EventStore
from indelible.events import uuid7

_COLUMNS = "position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at"
_ACTIVE = 200
"""Streams that are written at a time."""
_LENGTH = 10
"""Events that a stream gets."""


class Log:
    """A log as a service writes it: streams of ten events, some of them active at a time."""

    def __init__(self) -> None:
        self._random = Random(1)
        self._born = 0
        self._active = [self._new() for _ in range(_ACTIVE)]

    def _new(self) -> list[int]:
        self._born += 1
        return [self._born, -1]

    def take(self, count: int) -> list[tuple[int, int, UUID]]:
        """Stream, version and id of the next events."""
        taken = []
        for _ in range(count):
            place = self._random.randrange(_ACTIVE)
            stream = self._active[place]
            stream[1] += 1
            taken.append((stream[0], stream[1], uuid7()))
            if stream[1] == _LENGTH - 1:
                self._active[place] = self._new()
        return taken


class Import:
    """Imports lines of NDJSON: they are checked, and their streams and versions kept."""

    name = "Indelible"
    role: Role = "indelible"

    def __init__(self, bench: Bench, *, events: int) -> None:
        self._events, self._log = events, Log()
        self._store = EventStore.connect(bench.url, schema=ours.migrated(bench, "bench_import"))

    def turn(self, bench: Bench) -> Turn:
        lines = [
            f'{{"stream":"order-{stream}","version":"{version}","id":"{event_id}",'
            f'"type":"OrderCreated","data":{samples.DATA}}}\n'
            for stream, version, event_id in self._log.take(self._events)
        ]
        begun = time.perf_counter()
        imported = self._store.import_events(lines).imported
        taken = time.perf_counter() - begun
        assert imported == self._events
        return Turn(imported, taken)

    def close(self) -> None:
        self._store.close()


class CopyIn:
    """One COPY of bytes that were made before the clock starts: no client can be faster."""

    name = "COPY in"
    role: Role = "limit"

    def __init__(self, bench: Bench, *, events: int) -> None:
        self._events, self._log, self._position = events, Log(), 0
        bench.execute(
            "DROP TABLE IF EXISTS bench_copy; CREATE TABLE bench_copy ("
            "position bigint PRIMARY KEY, stream_id bigint NOT NULL, version bigint NOT NULL,"
            " recorded_at timestamptz NOT NULL, id uuid NOT NULL UNIQUE, type text NOT NULL,"
            " data jsonb NOT NULL, metadata jsonb, tags text[], valid_at timestamptz,"
            " UNIQUE (stream_id, version))"
        )

    def turn(self, bench: Bench) -> Turn:
        data = b"\x01" + samples.DATA.encode()
        parts = [b"PGCOPY\n\xff\r\n\0", bytes(8)]
        for stream, version, event_id in self._log.take(self._events):
            self._position += 1
            parts.append(
                struct.pack(
                    f">hiqiqiqiqi16si12si{len(data)}siii",
                    *(10, 8, self._position, 8, stream, 8, version, 8, 8 * 10**14),
                    *(16, event_id.bytes, 12, b"OrderCreated", len(data), data, -1, -1, -1),
                )
            )
        parts.append(b"\xff\xff")
        rows = b"".join(parts)
        with psycopg.connect(bench.url, autocommit=True) as connection:
            begun = time.perf_counter()
            with connection.cursor().copy(
                f"COPY bench_copy ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                for start in range(0, len(rows), 65_536):
                    copy.write(rows[start : start + 65_536])
            return Turn(self._events, time.perf_counter() - begun)

    def close(self) -> None:
        """Nothing is open."""


def works(*, is_quick: bool) -> list[Work]:
    events = 5_000 if is_quick else 100_000
    return [
        Work(
            "bulk import",
            "events/s",
            (
                lambda bench: Import(bench, events=events),
                lambda bench: CopyIn(bench, events=events),
            ),
            (Budget("COPY in", 0.6),),
        )
    ]
