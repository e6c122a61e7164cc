"""Fresh stores for tests, on one server. They are created once and emptied before each test.

Emptying a store is cheaper than creating a schema with all its objects.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from indelible.core.concurrency_async import AsyncOpening
from indelible.postgres.adapters import Connection
from indelible.postgres.connection import open_connection
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from indelible.store import AsyncEventStore, EventStore
from indelible.store.connect import locate


@dataclass(frozen=True, slots=True)
class FreshStore:
    """The URL and schema of an empty store that only one test uses.

    Attributes:
        url: the URL of the database.
        schema: the store's schema.

    Example:
        ```python
        def test_orders_are_delivered(fresh_store):
            app.run(stop, url=fresh_store.url, schema=fresh_store.schema)
        ```
    """

    url: str
    schema: str

    def connect(self, **options: Any) -> EventStore:
        """Open the store, with the options of `EventStore.connect`."""
        return EventStore.connect(self.url, schema=self.schema, **options)

    def connect_async(self, **options: Any) -> AsyncOpening[AsyncEventStore]:
        """Open the store for async code, with the options of `AsyncEventStore.connect`."""
        return AsyncEventStore.connect(self.url, schema=self.schema, **options)


class FreshStores:
    """Creates fresh stores in a database, and reuses each one when its test is over."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[_Made] = []
        self._schemas: list[str] = []
        self._connection: Connection | None = None

    @contextmanager
    def store(self) -> Iterator[FreshStore]:
        """Return a context manager that lends an empty store to a test."""
        made = self._emptied() or self._make()
        yield FreshStore(self._url, made.schema)
        self._idle.append(made)

    def close(self, *, drop: bool) -> None:
        """Close the connection.

        Args:
            drop: whether to drop the schemas that were created.
        """
        if drop:
            if self._connection is not None:
                self._connection.close()  # a test may have broken it unnoticed
            self._run("SET client_min_messages = warning")
            for schema in self._schemas:
                name = sql.Identifier(schema)
                self._run(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
        if self._connection is not None:
            self._connection.close()

    def _run(self, statement: Any, parameters: Any = None) -> psycopg.Cursor[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = open_connection(Settings(self._url, "public"))
            # Test stores need not survive a crash.
            self._connection.execute("SET synchronous_commit = off; SET lock_timeout = '1s'")
        return self._connection.execute(statement, parameters)

    def _make(self) -> _Made:
        schema = f"test_{uuid4().hex[:12]}"
        self._schemas.append(schema)
        migrate_store(Settings(self._url, schema))
        row = self._run(_statement("template"), {"schema": schema}).fetchone()
        assert row is not None  # noqa: S101
        tables, sequences = row
        return _Made(schema, tables, sequences, self._shape(schema, tables))

    def _emptied(self) -> _Made | None:
        """Return an emptied store; None if none is idle, or if a test changed its schema."""
        if not self._idle:
            return None
        made = self._idle.pop()
        try:
            if self._shape(made.schema, made.tables) != made.shape:
                return None
            self._run(
                "SELECT set_config('testing.schema', %s, false),"
                " set_config('testing.tables', %s, false),"
                " set_config('testing.sequences', %s, false)",
                [made.schema, made.tables, made.sequences],
            )
            self._run(_statement("truncate"))
        except psycopg.Error:  # a transaction was left open, tables are gone, a server was stopped
            return None
        return made

    def _shape(self, schema: str, tables: str) -> list[Any]:
        """Return the definition of a store, and the rows of the tables that are not emptied."""
        found = [self._run(_statement("schema_dump"), {"schema": schema}).fetchone()]
        for table in json.loads(tables):
            rows = sql.SQL("SELECT kept::text FROM {} AS kept").format(
                sql.Identifier(schema, table)
            )
            found += self._run(rows).fetchall()
        return found


@dataclass(frozen=True, slots=True)
class _Made:
    """A store and its original definition, from `template.sql` and `schema_dump.sql`."""

    schema: str
    tables: str
    sequences: str
    shape: list[Any]


@contextmanager
def fresh_stores(url: str | None) -> Iterator[FreshStores]:
    """Create stores for tests in a database.

    Args:
        url: the database; None for a temporary embedded PostgreSQL.

    Returns:
        A context manager that yields the `FreshStores`, and removes the stores at its end.

    Example:
        ```python
        with fresh_stores("postgresql://localhost/test") as stores, stores.store() as fresh:
            with fresh.connect(events=[OrderCreated]) as store:
                ...
        ```
    """
    if url is not None:
        found, release = locate(url)
        stores = FreshStores(found)
        try:
            yield stores
        finally:
            stores.close(drop=True)
            release()
        return
    folder = Path(tempfile.mkdtemp(prefix="indelible-tests-"))
    folder.chmod(0o755)  # the server may run under another account and must reach the folder
    try:
        found, release = locate(f"embedded://{folder}/server")
        stores = FreshStores(found)
        try:
            yield stores
        finally:
            stores.close(drop=False)
            release()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _statement(name: str) -> bytes:
    return (files(__package__) / f"{name}.sql").read_bytes()
