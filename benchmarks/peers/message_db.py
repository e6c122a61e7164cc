"""Message DB: functions in PostgreSQL, called through psycopg with prepared statements."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from uuid import uuid4

import psycopg

from benchmarks import samples
from benchmarks.harness import NotHere, Role, Turn, in_threads
from benchmarks.machine import Bench, postgres_program
from benchmarks.peers import npm

# What its database/install.sh runs, but for the extension pgcrypto, of which it uses only
# gen_random_uuid, which PostgreSQL has by itself.
_SCRIPTS = (
    "roles/message-store.sql",
    "schema/message-store.sql",
    "types/message.sql",
    "tables/messages.sql",
)


class MessageDB:
    """Appends one event at a time with `write_message`."""

    name = "Message DB"
    role: Role = "peer"

    def __init__(self, bench: Bench, *, writers: int) -> None:
        if writers > 1:
            self.name = f"Message DB, {writers} threads"
        database = npm.installed() / "node_modules" / "@eventide" / "message-db" / "database"
        psql = postgres_program("psql")
        if psql is None:
            raise NotHere("psql is not installed")
        bench.fresh("message_store")
        files = [database / script for script in _SCRIPTS]
        files += sorted((database / "functions").glob("*.sql"))
        files += sorted((database / "indexes").glob("*.sql"))
        for file in files:
            done = subprocess.run(
                [psql, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file)],
                env={**os.environ, **bench.libpq, "PGOPTIONS": "-c client_min_messages=warning"},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise NotHere(f"{file.name}: {done.stderr.strip()[-200:]}")
        self._connections = [
            psycopg.connect(
                bench.url, autocommit=True, options="-c search_path=message_store,public"
            )
            for _ in range(writers)
        ]
        self._versions: dict[str, int] = {}

    def turn(self, bench: Bench) -> Turn:
        return in_threads(len(self._connections), bench.seconds, self._append)

    def _append(self, writer: int, times: int) -> int:
        stream = f"order-{writer}x{times % samples.STREAMS}"
        row = (
            self._connections[writer]
            .execute(
                "SELECT write_message(%s, %s, %s, %s, NULL, %s::bigint)",
                (
                    str(uuid4()),
                    stream,
                    "OrderCreated",
                    samples.encode(samples.order(times)).decode(),
                    str(self._versions.get(stream, -1)),
                ),
                prepare=True,
            )
            .fetchone()
        )
        self._versions[stream] = row[0] if row else 0
        return 1

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def appending(*, writers: int = 1) -> Callable[[Bench], MessageDB]:
    def message_db(bench: Bench) -> MessageDB:
        return MessageDB(bench, writers=writers)

    return message_db
