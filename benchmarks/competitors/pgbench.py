"""The limits of writing: pgbench, a client in C, on the same server."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.events import encode, placed
from benchmarks.harness.rounds import Contender, Sample
from benchmarks.harness.server import Server, program
from indelible import EventStore

_DATA = encode(placed(0)).decode()

# One prepared INSERT per commit into a table with one index: less than any event store does.
_INSERT = f"INSERT INTO bare (data) VALUES ('{_DATA}');\n"

# The call that the library makes for one event.
_APPEND = f"""\
\\set n random(1, 1000000000)
SELECT outcome, last_version, last_position, recorded_at, details FROM indelible.append(
    'pgbench-' || (:n % 500) || '-' || :client_id, NULL, -2, jsonb_build_array(
        jsonb_build_object('id', uuidv7(), 'type', 'OrderPlaced', 'data', '{_DATA}'::jsonb)));
"""


@contextmanager
def inserts(server: Server, clients: int, *, is_synced: bool = True) -> Iterator[Contender]:
    """One plain INSERT per commit. Without `is_synced` the server does not write to the disk."""
    with server.database("pgbench") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE bare (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " data jsonb NOT NULL)"
            )
        with _synced(url, is_synced=is_synced):
            yield _contender(url, f"INSERT per commit, {_clients(clients)}", _INSERT, clients)


@contextmanager
def appends(server: Server, clients: int, *, is_synced: bool = True) -> Iterator[Contender]:
    """The call of `indelible.append` as the library sends it."""
    with server.database("pgbench") as url:
        EventStore.connect(url, migrate=True).close()
        with _synced(url, is_synced=is_synced):
            yield _contender(url, f"indelible.append, {_clients(clients)}", _APPEND, clients)


@contextmanager
def appends_without_conditions(server: Server, clients: int) -> Iterator[Contender]:
    """The same, with a function that does not support tags and conditions."""
    with server.database("pgbench") as url:
        EventStore.connect(url, migrate=True).close()
        with psycopg.connect(url, autocommit=True) as connection:
            _forget_tags(connection)
        yield _contender(url, f"without conditions, {_clients(clients)}", _APPEND, clients)


def _forget_tags(connection: psycopg.Connection) -> None:
    """Remove the test for tags from the appending function."""
    (found,) = connection.execute(
        "SELECT pg_get_functiondef(oid) FROM pg_proc"
        " WHERE proname = 'append' AND pronamespace = 'indelible'::regnamespace"
    )
    cut, times = re.subn(r" AND NOT first_event \?\| '[^']*'", "", found[0])
    if times != 1:
        raise LookupError(f"append() has {times} tests for tags, and not 1")
    connection.execute(cut.encode())


def _clients(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"


@contextmanager
def _synced(url: str, *, is_synced: bool) -> Iterator[None]:
    """Set whether the server waits for the disk.

    Not by synchronous_commit: a session cannot switch off that appends wait for the disk.
    """
    if is_synced:
        yield
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
        try:
            while connection.execute("SHOW fsync").fetchone() != ("off",):
                time.sleep(0.01)
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET fsync")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SHOW fsync").fetchone() != ("on",):
                time.sleep(0.01)


def _contender(url: str, mode: str, script: str, clients: int) -> Contender:
    return Contender("pgbench", mode, "limit", lambda seconds: _run(url, script, clients, seconds))


def _run(url: str, script: str, clients: int, seconds: float) -> Sample:
    """Run it for a turn; pgbench counts in whole seconds."""
    with tempfile.TemporaryDirectory(prefix="indelible-benchmarks-") as folder:
        file = Path(folder) / "script.sql"
        file.write_text(script, "utf-8")
        whole = max(1, round(seconds))
        subprocess.run(
            [
                program("pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={clients}",
                f"--jobs={min(clients, 2)}", f"--time={whole}", f"--file={file}",
                "--log", "--log-prefix=log", url,
            ],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        latencies = [
            int(line.split()[2])
            for log in Path(folder).glob("log*")
            for line in log.read_text("utf-8").splitlines()
        ]
    return Sample(len(latencies), whole, latencies)
