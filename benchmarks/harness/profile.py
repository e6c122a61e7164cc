"""Profile an operation: processor time of client and server, and disk time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_BACKENDS = """
SELECT pid
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_FLUSHES = """
SELECT coalesce(sum(fsync_time), 0)::float8 / 1000
FROM pg_stat_io
WHERE object = 'wal' AND backend_type = 'client backend'
"""
_END_SECONDS = 10


@dataclass(frozen=True)
class Profile:
    """A table that explains a figure.

    Attributes:
        rows: texts up to the second column, figures after it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Write it as Markdown."""
        head = "| --- | --- |" + " ---: |" * (len(self.columns) - 2)
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, *self.rows)]
        return "\n".join([f"**{self.title}**", "", lines[0], head, *lines[1:]]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return it for the file of results."""
        return {"title": self.title, "columns": list(self.columns), "rows": [*map(list, self.rows)]}


@dataclass(frozen=True)
class Spent:
    """The processor time of processes since they began.

    Attributes:
        user: seconds of processor time in their own code.
        kernel: seconds of processor time in the kernel.
    """

    user: float
    kernel: float

    @property
    def processor(self) -> float:
        """Seconds of processor time."""
        return self.user + self.kernel

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(self.user - earlier.user, self.kernel - earlier.kernel)


def spent_by(processes: Iterable[int]) -> Spent:
    """Return the processor time of processes; only on Linux.

    Raises:
        OSError: a process does not exist, or this is not Linux.
    """
    user = kernel = 0
    for number in processes:
        # After the name of the program, which may contain any character.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        kernel += int(fields[12])
    ticks = os.sysconf("SC_CLK_TCK")
    return Spent(user / ticks, kernel / ticks)


def backends(url: str) -> list[int]:
    """Return the server processes of the sessions of a database."""
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute(_BACKENDS)]


def time_flushes(url: str) -> None:
    """Have later sessions of a database measure their waits for WAL flushes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET track_wal_io_timing = on").format(
                sql.Identifier(connection.info.dbname)
            )
        )


def flushing(url: str) -> float:
    """Return the seconds that sessions waited for WAL flushes; they report when they end."""
    deadline = time.monotonic() + _END_SECONDS
    while backends(url):
        if time.monotonic() > deadline:
            raise TimeoutError(f"sessions did not end within {_END_SECONDS} s")
        time.sleep(0.01)
    with psycopg.connect(url) as connection:
        row = connection.execute(_FLUSHES).fetchone()
        assert row is not None
        return float(row[0])
