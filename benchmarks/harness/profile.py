"""Where the time of an operation goes: the processors of both sides, and the disk."""

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
    """A table that tells why a figure is what it is.

    Attributes:
        rows: texts to the left, figures to the right of the second column.
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
        """Give it for the file of results."""
        return {"title": self.title, "columns": list(self.columns), "rows": [*map(list, self.rows)]}


@dataclass(frozen=True)
class Spent:
    """What processes have spent since they began.

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
    """Say what processes have spent; only on Linux.

    Raises:
        OSError: one of them is not there, or this is not Linux.
    """
    user = kernel = 0
    for number in processes:
        # After the name of the program, which may hold anything.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        kernel += int(fields[12])
    ticks = os.sysconf("SC_CLK_TCK")
    return Spent(user / ticks, kernel / ticks)


def backends(url: str) -> list[int]:
    """The server's processes that serve a database."""
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute(_BACKENDS)]


def time_flushes(url: str) -> None:
    """Have later sessions of a database time how long they wait for the log to be on disk."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET track_wal_io_timing = on").format(
                sql.Identifier(connection.info.dbname)
            )
        )


def flushing(url: str) -> float:
    """How many seconds sessions waited for the log to be on disk; they tell when they end."""
    deadline = time.monotonic() + _END_SECONDS
    while backends(url):
        if time.monotonic() > deadline:
            raise TimeoutError(f"there are still sessions after {_END_SECONDS} s")
        time.sleep(0.01)
    with psycopg.connect(url) as connection:
        row = connection.execute(_FLUSHES).fetchone()
        assert row is not None
        return float(row[0])
