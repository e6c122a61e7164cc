"""Bulk import: Indelible beside the binary COPY of the same events into a bare table.

The bare table has the columns and the indexes of `events`, and no rule at all; its rows are ready
before the clock starts. Indelible reads lines of NDJSON, or values, checks them, and keeps streams
and versions. All run on the same server, started here with durable settings, in turns.

    python benchmarks/bulk_import.py [--rounds 5] [--events 200000] [--active 200] [--url …]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from indelible import EventStore, ImportEvent, embedded
from indelible.events import uuid7

_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
_SCHEMA = "bench_import"
_COLUMNS = "position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at"
_COPY = f"COPY bench_bare ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_TYPES = [
    *("int8", "int8", "int8", "timestamptz", "uuid", "text", "jsonb"),
    *("jsonb", "text[]", "timestamptz"),
]
_NOW = datetime.now(UTC)
_DATA = {
    "order_id": "9b2d7b5e-1c1f-4e0c-9a53-0d1f6d1c0a11",
    "customer": "Ann Example",
    "address": "12 Some Street, 10115 Berlin",
    "total": "17.90",
    "items": 4,
    "note": "please ring twice, thank you",
}


def _events(count: int, active: int) -> list[ImportEvent]:
    """A log as a service writes it: streams of ten events, some of them active at a time."""
    random = Random(1)
    streams = list(range(active))
    versions = dict.fromkeys(streams, -1)
    born = active
    made = []
    for _ in range(count):
        place = random.randrange(active)
        stream = streams[place]
        versions[stream] += 1
        made.append(
            ImportEvent(
                f"order-{stream}", _DATA, "OrderCreated", id=uuid7(), version=versions[stream]
            )
        )
        if versions[stream] == 9:
            streams[place] = born
            versions[born] = -1
            born += 1
    return made


def _lines(events: list[ImportEvent]) -> list[bytes]:
    encode = msgspec.json.Encoder().encode
    return [
        encode(
            {
                "stream": event.stream,
                "version": str(event.version),
                "id": event.id,
                "type": event.type,
                "data": event.data,
            }
        )
        for event in events
    ]


def _rows(events: list[ImportEvent]) -> list[tuple[Any, ...]]:
    data = msgspec.json.encode(_DATA)
    return [
        (
            position,
            int(event.stream.partition("-")[2]),
            event.version,
            _NOW,
            event.id,
            event.type,
            Jsonb(data, dumps=bytes),
            None,
            None,
            None,
        )
        for position, event in enumerate(events, start=1)
    ]


def _binary(events: list[ImportEvent]) -> bytes:
    """The whole COPY as bytes: no client can be faster."""
    data = b"\x01" + msgspec.json.encode(_DATA)
    parts = [b"PGCOPY\n\xff\r\n\0", bytes(8)]
    for position, event in enumerate(events, start=1):
        stream = int(event.stream.partition("-")[2])
        event_id = event.id.bytes if event.id else b""
        parts.append(
            struct.pack(">hiqiqiqiq", 10, 8, position, 8, stream, 8, event.version, 8, 8 * 10**14)
            + struct.pack(">i16s", 16, event_id)
            + struct.pack(f">i12si{len(data)}s", 12, b"OrderCreated", len(data), data)
            + struct.pack(">iii", -1, -1, -1)
        )
    return b"".join((*parts, b"\xff\xff"))


def _copy_bytes(connection: psycopg.Connection, given: bytes) -> None:
    with connection.cursor().copy(_COPY) as copy:
        copy.write(given)


def _copy_rows(connection: psycopg.Connection, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor().copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            copy.write_row(row)


def run(url: str, *, rounds: int, count: int, active: int) -> None:
    taken: dict[str, list[float]] = {}

    def measure(name: str, work: Callable[[], object], connection: psycopg.Connection) -> None:
        connection.execute("CHECKPOINT")
        started = time.perf_counter()
        work()
        taken.setdefault(name, []).append(time.perf_counter() - started)

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")

        def import_(given: list[Any]) -> None:
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
            with EventStore.connect(url, schema=_SCHEMA, migrate=True) as store:
                kind = "lines" if isinstance(given[0], bytes) else "values"
                measure(f"indelible, {kind}", lambda: store.import_events(given), connection)
                assert store.stats().events == count

        def copy(name: str, work: Callable[[], None]) -> None:
            connection.execute("DROP TABLE IF EXISTS bench_bare")
            # The store's own table, with its constraints and indexes and without its triggers.
            connection.execute(f"CREATE TABLE bench_bare (LIKE {_SCHEMA}.events INCLUDING ALL)")
            measure(name, work, connection)

        for _ in range(rounds):
            events = _events(count, active)
            lines, rows, ready = _lines(events), _rows(events), _binary(events)
            import_(lines)
            copy("COPY, rows", lambda rows=rows: _copy_rows(connection, rows))  # type: ignore[misc]
            import_(events)
            copy("COPY, bytes", lambda ready=ready: _copy_bytes(connection, ready))  # type: ignore[misc]
        connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE; DROP TABLE bench_bare")

    limits = {name: statistics.median(taken[name]) for name in ("COPY, rows", "COPY, bytes")}
    print(f"{'':<20}{'seconds':>9}{'events/s':>11}{'of COPY, rows':>16}{'of COPY, bytes':>16}")
    for name, values in sorted(taken.items()):
        median = statistics.median(values)
        ratios = "".join(f"{limit / median:>16.2f}" for limit in limits.values())
        print(f"{name:<20}{median:>9.2f}{count / median:>11,.0f}{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--active", type=int, default=200, help="streams active at a time")
    parser.add_argument("--url", help="a server to run on; by default one is started")
    given = parser.parse_args()
    server = None
    if given.url is None:
        folder = Path(tempfile.mkdtemp(prefix="indelible-bench-"))
        folder.chmod(0o755)
        server = embedded.start(folder / "server")
    url = given.url or make_conninfo(server.url if server else "")
    with psycopg.connect(url, autocommit=True) as connection:
        settings = {
            name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()[0]  # type: ignore[index]
            for name in _SETTINGS
        }
    print(
        f"{given.events:,} events, {given.active:,} streams active at a time; {given.rounds}"
        f" rounds; Python {platform.python_version()};"
        f" {', '.join(f'{name} {value}' for name, value in settings.items())}"
    )
    try:
        run(url, rounds=given.rounds, count=given.events, active=given.active)
    finally:
        if server is not None:
            server.close()


if __name__ == "__main__":
    main()
