"""The limits of reading and of bulk import: raw binary COPY, out of the log, into a bare table."""

from __future__ import annotations

import time

import psycopg

from benchmarks.harness.rounds import Contender, Sample

_OUT = b"COPY (SELECT * FROM indelible.events ORDER BY position) TO STDOUT (FORMAT binary)"


def copy_out(url: str, events: int) -> Contender:
    """All columns of all events, thrown away as they come."""

    def measure(_seconds: float) -> Sample:
        with psycopg.connect(url, autocommit=True) as connection:
            begun = time.perf_counter()
            _throw_away(connection, _OUT)
            return Sample(events, time.perf_counter() - begun)

    return Contender("COPY", "all events out, binary, thrown away", "limit", measure)


def copy_in(url: str, events: int) -> Contender:
    """The events of a store into a table with the same columns and indexes, and nothing else."""
    with psycopg.connect(url) as connection, connection.cursor().copy(_OUT) as copy:
        blocks = [bytes(block) for block in copy]

    def measure(_seconds: float) -> Sample:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS bare")
            connection.execute("CREATE TABLE bare (LIKE indelible.events INCLUDING ALL)")
            begun = time.perf_counter()
            with connection.cursor().copy("COPY bare FROM STDIN (FORMAT binary)") as copy:
                for block in blocks:
                    copy.write(block)
            return Sample(events, time.perf_counter() - begun)

    return Contender(
        "COPY", "into a bare table with the same columns and indexes", "limit", measure
    )


def _throw_away(connection: psycopg.Connection, statement: bytes) -> None:
    with connection.cursor().copy(statement) as copy:
        while copy.read():
            pass
