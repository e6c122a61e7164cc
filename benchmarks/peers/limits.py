"""What nobody can pass: pgbench with the least around a commit, and COPY."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg

from benchmarks import samples
from benchmarks.harness import NotHere, Role, Turn, in_threads
from benchmarks.machine import Bench, postgres_program

_BARE = "bench_bare"
"""A table with the columns and indexes that an event store needs at the least."""

_INSERT = f"""\
\\set stream random(1, 1000000000)
\\set version random(1, 1000000000)
INSERT INTO {_BARE} (stream, version, id, type, data)
VALUES (:stream, :version, gen_random_uuid(), 'OrderCreated', '{samples.DATA}');
"""
_CALL = f"""\
\\set stream random(1, 1000000000)
SELECT outcome, last_version, last_position, recorded_at, facts
FROM bench_pgbench.append('order-' || :stream, NULL, -2, jsonb_build_array(jsonb_build_object(
    'id', gen_random_uuid(), 'type', 'OrderCreated', 'data', '{samples.DATA}'::jsonb)));
"""


class Pgbench:
    """Runs one statement per commit, prepared, from as many clients as there are writers."""

    role: Role = "limit"

    def __init__(self, bench: Bench, *, name: str, script: str, clients: int) -> None:
        self.name = name
        found = postgres_program("pgbench")
        if found is None:
            raise NotHere("pgbench is not installed")
        self._program, self._clients = found, clients
        self._folder = Path(tempfile.mkdtemp(dir=bench.folder))
        (self._folder / "script.sql").write_text(script)

    def turn(self, bench: Bench) -> Turn:
        seconds = max(1, round(bench.seconds))
        done = subprocess.run(
            [
                self._program,
                "--no-vacuum",
                "--protocol=prepared",
                f"--client={self._clients}",
                f"--time={seconds}",
                f"--file={self._folder / 'script.sql'}",
                "--log",
                f"--log-prefix={self._folder / 'log'}",
            ],
            env={**os.environ, **bench.libpq},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        latencies = []
        for log in self._folder.glob("log*"):
            latencies += [int(line.split()[2]) * 1_000 for line in log.read_text().splitlines()]
            log.unlink()
        rate = next(
            float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps")
        )
        return Turn(len(latencies), len(latencies) / rate, latencies)

    def close(self) -> None:
        """Nothing is open."""


def make_bare_table(bench: Bench) -> None:
    bench.execute(
        f"DROP TABLE IF EXISTS {_BARE}; CREATE TABLE {_BARE} (position bigserial PRIMARY KEY,"
        " stream bigint NOT NULL, version bigint NOT NULL, id uuid NOT NULL UNIQUE,"
        " type text NOT NULL, data jsonb NOT NULL, metadata jsonb, tags text[],"
        " recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(), valid_at timestamptz,"
        " UNIQUE (stream, version))"
    )


def bare_insert(*, clients: int = 1) -> Callable[[Bench], Pgbench]:
    def pgbench(bench: Bench) -> Pgbench:
        make_bare_table(bench)
        name = "pgbench INSERT" if clients == 1 else f"pgbench INSERT, {clients} clients"
        return Pgbench(bench, name=name, script=_INSERT, clients=clients)

    return pgbench


def same_call(bench: Bench) -> Pgbench:
    from benchmarks.ours import migrated

    migrated(bench, "bench_pgbench")
    return Pgbench(bench, name="pgbench, same call", script=_CALL, clients=1)


class CopyOut:
    """Reads the same columns of the same log as binary COPY, and looks at none of it."""

    name = "COPY out"
    role: Role = "limit"

    def __init__(self, bench: Bench, *, schema: str, length: int) -> None:
        self._connection = psycopg.connect(bench.url, autocommit=True)
        self._schema, self._length = schema, length

    def turn(self, bench: Bench) -> Turn:
        return in_threads(1, bench.seconds, self._copy)

    def _copy(self, writer: int, times: int) -> int:
        with self._connection.cursor().copy(
            "COPY (SELECT position, stream, version, id, type, data, metadata, tags, channel,"
            f" recorded_at, valid_at FROM {self._schema}.recorded_events ORDER BY position)"
            " TO STDOUT (FORMAT BINARY)"
        ) as copy:
            for _ in copy:
                pass
        return self._length

    def close(self) -> None:
        self._connection.close()
