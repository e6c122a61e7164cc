"""The limits of reading and bulk import: binary COPY out of the log and into a bare table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from struct import pack
from typing import Any

import msgspec
import psycopg

from benchmarks.harness.rounds import Contender, Sample
from indelible.postgres.binary import COPY_END, COPY_HEAD, microseconds, sized

_OUT = b"COPY (SELECT * FROM indelible.events ORDER BY position) TO STDOUT (FORMAT binary)"
_IN = (
    "COPY bare (position, stream_id, version, recorded_at, id, type, data)"
    " FROM STDIN (FORMAT binary)"
)
_BLOCK = 1 << 16


def copy_out(url: str, events: int) -> Contender:
    """COPY all columns of all events, and discard them."""

    def measure(_seconds: float) -> Sample:
        with psycopg.connect(url, autocommit=True) as connection:
            begun = time.perf_counter()
            _throw_away(connection, _OUT)
            return Sample(events, time.perf_counter() - begun)

    return Contender("COPY", "all events out, binary, thrown away", "limit", measure)


def copy_in(url: str, lines: Sequence[bytes]) -> Contender:
    """COPY the events of an import into a bare table with the same columns and indexes.

    The JSON is that of the lines. JSON from the store has sorted keys, so the database would not
    have to sort them.

    Args:
        url: the store.
        lines: the imported lines.
    """
    with psycopg.connect(url) as connection, connection.cursor(binary=True) as cursor:
        stored = cursor.execute(
            "SELECT position, stream_id, version, recorded_at, id, type FROM indelible.events"
            " ORDER BY position"
        ).fetchall()
    rows = (_row(row, _read(line).data) for row, line in zip(stored, lines, strict=True))
    copied = b"".join((COPY_HEAD, *rows, COPY_END))
    blocks = [copied[start : start + _BLOCK] for start in range(0, len(copied), _BLOCK)]

    def measure(_seconds: float) -> Sample:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS bare")
            connection.execute("CREATE TABLE bare (LIKE indelible.events INCLUDING ALL)")
            begun = time.perf_counter()
            with connection.cursor().copy(_IN) as copy:
                for block in blocks:
                    copy.write(block)
            return Sample(len(lines), time.perf_counter() - begun)

    return Contender(
        "COPY", "into a bare table with the same columns and indexes", "limit", measure
    )


class _Line(msgspec.Struct):
    data: msgspec.Raw


_read = msgspec.json.Decoder(_Line).decode


def _row(stored: tuple[Any, ...], data: msgspec.Raw) -> bytes:
    position, stream_id, version, recorded_at, event_id, event_type = stored
    numbers = (position, stream_id, version, microseconds(recorded_at))
    fields = (
        event_id.bytes,
        event_type.encode(),
        b"\1" + bytes(data),
    )  # 1: the version of the jsonb format
    return b"".join(
        (
            pack(">h", len(numbers) + len(fields)),
            *(sized(pack(">q", number)) for number in numbers),
            *(sized(field) for field in fields),
        )
    )


def _throw_away(connection: psycopg.Connection, statement: bytes) -> None:
    with connection.cursor().copy(statement) as copy:
        while copy.read():
            pass
