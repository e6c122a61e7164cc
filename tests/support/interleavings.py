"""Deterministic interleavings: stop a session, a connection or a process at a given place.

If the mechanism under test is missing, such a test fails every time, and not once in a thousand
runs.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.waiting import wait_until

_CLASS = 0x51  # two-key advisory locks: they never collide with the locks of the head


class Place:
    """A place that sessions stop at until the test lets them go on."""

    def __init__(self, connection: psycopg.Connection, key: int) -> None:
        self._connection = connection
        self._key = key
        self._is_held = True

    @property
    def waiting(self) -> int:
        """How many sessions stand there."""
        row = self._connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND classid = %s::bigint::oid AND objid = %s::bigint::oid",
            [_CLASS, self._key],
        ).fetchone()
        assert row is not None
        return int(row[0])

    def wait_until_reached(self, sessions: int = 1) -> None:
        """Wait until so many sessions stand there."""
        wait_until(lambda: self.waiting >= sessions)

    def release(self) -> None:
        """Let all go on, also those that come later."""
        if self._is_held:
            self._is_held = False
            self._connection.execute("SELECT pg_advisory_unlock(%s, %s)", [_CLASS, self._key])


@contextmanager
def stopped_at(
    url: str, schema: str, table: str, event: str = "INSERT", *, at_commit: bool = False
) -> Iterator[Place]:
    """Stop each session that changes a row of a table, just before it or at its commit.

    Args:
        url: the database, as the owner of the store.
        schema: the store.
        table: the table.
        event: INSERT, UPDATE or DELETE, or several with OR.
        at_commit: stop at the commit of the transaction and not at the change.
    """
    name = f"stop_{uuid4().hex[:8]}"
    key = int(name[5:], 16) & 0x7FFFFFFF
    kind, moment, deferred = (
        ("CONSTRAINT TRIGGER", "AFTER", "DEFERRABLE INITIALLY DEFERRED")
        if at_commit
        else ("TRIGGER", "BEFORE", "")
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [_CLASS, key])
        connection.execute(
            f"CREATE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            # A session lock, released at once: no transaction keeps it.
            f" SET lock_timeout = 0 AS $$ BEGIN"
            f" PERFORM pg_advisory_lock_shared({_CLASS}, {key});"
            f" PERFORM pg_advisory_unlock_shared({_CLASS}, {key});"
            f" RETURN CASE tg_op WHEN 'DELETE' THEN old ELSE new END; END $$"
        )
        connection.execute(
            f"CREATE {kind} {name} {moment} {event} ON {schema}.{table} {deferred}"
            f" FOR EACH ROW EXECUTE FUNCTION {schema}.{name}()"
        )
        connection.execute(f"ALTER TABLE {schema}.{table} ENABLE ALWAYS TRIGGER {name}")
        place = Place(connection, key)
        try:
            yield place
        finally:
            place.release()
            connection.execute("SET lock_timeout = '20s'")
            connection.execute(f"DROP TRIGGER {name} ON {schema}.{table}")
            connection.execute(f"DROP FUNCTION {schema}.{name}()")


@contextmanager
def stopped_in(url: str, schema: str, function: str, returns: str) -> Iterator[Place]:
    """Stop each session that calls a function of the store without arguments, before its body.

    Args:
        url: the database, as the owner of the store.
        schema: the store.
        function: the function's name.
        returns: the type that it returns.
    """
    name = f"stop_{uuid4().hex[:8]}"
    key = int(name[5:], 16) & 0x7FFFFFFF
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [_CLASS, key])
        connection.execute(
            f"ALTER FUNCTION {schema}.{function}() RENAME TO {name};"
            f" CREATE FUNCTION {schema}.{function}() RETURNS {returns} LANGUAGE plpgsql"
            f" SECURITY DEFINER SET lock_timeout = 0 AS $$ BEGIN"
            f" PERFORM pg_advisory_lock_shared({_CLASS}, {key});"
            f" PERFORM pg_advisory_unlock_shared({_CLASS}, {key});"
            f" RETURN {schema}.{name}(); END $$"
        )
        place = Place(connection, key)
        try:
            yield place
        finally:
            place.release()
            connection.execute(
                f"DROP FUNCTION {schema}.{function}();"
                f" ALTER FUNCTION {schema}.{name}() RENAME TO {function}"
            )


class Proxy:
    """Stands between clients and a server, and cuts or holds their connections.

    A context manager. `url` is the server's through the proxy: an address that stays the same when
    it leads to another server.
    """

    def __init__(self, server_url: str) -> None:
        self._target = _address(server_url)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = make_conninfo(
            server_url, host="127.0.0.1", port=self._server.getsockname()[1], sslmode="disable"
        )
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut_at: bytes | None = None
        self._lost_at: bytes | None = None
        self._silenced: set[tuple[socket.socket, socket.socket]] = set()
        self._may_flow = threading.Event()
        self._may_flow.set()
        self.cuts = 0
        """How many connections were cut at what `cut_after` or `lose_at` names."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._may_flow.set()
        self.cut()

    def cut_after(self, sent: bytes | None) -> None:
        """Cut each connection whose client sends this: the server does it, the answer is lost.

        A commit is `b"COMMIT\\0"`: BEGIN names READ COMMITTED.
        """
        self._cut_at = sent

    def lose_at(self, sent: bytes | None) -> None:
        """Break each connection whose client sends this: the server gets nothing, and waits on."""
        self._lost_at = sent

    def hold(self) -> None:
        """Keep all bytes of both sides, as a network does that has stopped."""
        self._may_flow.clear()

    def flow(self) -> None:
        """Let the bytes go again."""
        self._may_flow.set()

    def refuse(self) -> None:
        """Lead nowhere: all connections are cut, and new ones at once."""
        self._target = ""
        self.cut()

    def retarget(self, server_url: str) -> None:
        """Lead to another server: all connections are cut, new ones go there."""
        self._target = _address(server_url)
        self.cut()

    def cut(self) -> None:
        """Cut all connections that there are."""
        for pair in list(self._pairs):
            self._end(pair)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                target = self._target
                server = socket.socket(
                    socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
                )
                pair = (client, server)
                self._pairs.append(pair)
                try:
                    server.connect(target)
                    is_right = target is self._target
                except OSError:  # there is no server, or the connection was cut
                    is_right = False
                if not is_right:
                    self._end(pair)
                    continue
                for ends in (pair, pair[::-1]):
                    threading.Thread(target=self._copy, args=(pair, *ends), daemon=True).start()

    def _copy(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        target: socket.socket,
    ) -> None:
        end = b""
        with suppress(OSError):
            while part := source.recv(65536):
                self._may_flow.wait()
                if source is pair[0] and self._lost_at is not None and self._lost_at in part:
                    self.cuts += 1
                    source.shutdown(socket.SHUT_RDWR)
                    source.close()
                    return  # the connection to the server stays open until all are cut
                if source is pair[0] and self._cut_at is not None and self._cut_at in part:
                    self.cuts += 1
                    self._silenced.add(pair)
                elif source is pair[1] and pair in self._silenced:
                    # Read the whole answer for the client, or the server would roll back.
                    end = (end + part)[-6:]
                    if end.startswith(b"Z\0\0\0\5"):
                        break
                    continue
                target.sendall(part)
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(ValueError):
            self._pairs.remove(pair)
        for side in pair:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


def _address(url: str) -> str | tuple[str, int]:
    given = conninfo_to_dict(url)
    host = str(given.get("host") or "127.0.0.1")
    port = int(given.get("port") or 5432)
    # The embedded server listens on a Unix socket.
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stop a process (SIGSTOP) for the time of a block."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(
        lambda: Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T"
    )
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
