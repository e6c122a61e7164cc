"""The limit of loading a stream: fetch its rows with a prepared statement, without decoding."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg

from benchmarks.harness.rounds import Contender, Sample

_OF_STREAM = """
SELECT events.*
FROM indelible.events
WHERE stream_id = (SELECT id FROM indelible.streams WHERE name = %s)
ORDER BY version
"""


def rows_of(url: str, streams: Sequence[str], length: int) -> Contender:
    """Fetch one stream after the other, in the binary format."""

    def measure(seconds: float) -> Sample:
        latencies: list[int] = []
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.cursor(binary=True)
            begun = time.perf_counter()
            while (before := time.perf_counter()) < begun + seconds:
                name = f"order-{streams[len(latencies) % len(streams)]}"
                cursor.execute(_OF_STREAM, [name], prepare=True)
                if cursor.rowcount != length:
                    raise AssertionError(f"{name} has {cursor.rowcount} events, not {length}")
                latencies.append(int((time.perf_counter() - before) * 1e6))
            return Sample(len(latencies) * length, time.perf_counter() - begun, latencies)

    return Contender("SELECT", "prepared, rows not looked at", "limit", measure)
