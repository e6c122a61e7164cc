"""The settings that each session of the store needs, and how to apply them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from indelible.core.operation import Rows
from indelible.errors import InvalidInput, UnsupportedIsolationLevel

from .adapters import AsyncConnection, Connection
from .errors import StandbyNotHeard
from .settings import Settings

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_log = logging.getLogger("indelible")


class StandbyWait:
    """A notice handler that records a cancelled wait for a synchronous standby.

    PostgreSQL only sends a warning in this case. The transaction is committed on this server, but
    is lost if a standby without it takes over.
    """

    __slots__ = ("is_cut_short",)

    is_cut_short: bool

    def __init__(self) -> None:
        self.is_cut_short = False

    def __call__(self, notice: psycopg.errors.Diagnostic) -> None:
        """Check a notice by its source function: its text depends on the server's language."""
        if notice.source_function == "SyncRepWaitForLSN":
            self.is_cut_short = True

    def check(self) -> None:
        """Raise `StandbyNotHeard` if the wait was cancelled."""
        if self.is_cut_short:
            raise StandbyNotHeard


@contextmanager
def standby_heard(connection: Connection | AsyncConnection) -> Iterator[None]:
    """Raise `StandbyNotHeard` if the wait of a commit in the block was cancelled."""
    waits = StandbyWait()
    connection.add_notice_handler(waits)
    try:
        yield
    finally:
        connection.remove_notice_handler(waits)
    waits.check()


def is_direct_connection(backend_pid: int, row: tuple[Any, ...] | None) -> bool:
    """Return whether no pooler is in between, so that prepared statements last.

    A pooler invents the process id that it sends when a connection is opened.

    Args:
        backend_pid: the process id that was sent when the connection was opened.
        row: the process id that the server returns.
    """
    return row is not None and row[0] == backend_pid


def tell_about_pooler() -> None:
    """Log that prepared statements are not used."""
    _log.info("there is a pooler in front of the server: continuing without prepared statements")


def check_encoding(connection: Connection | AsyncConnection) -> None:
    """Check that the caller's connection can transfer all characters.

    Raises:
        InvalidInput: its encoding is not UTF-8.
    """
    if not connection.closed:
        encoding = connection.pgconn.parameter_status(b"client_encoding")
        if encoding is None or encoding.upper() not in (b"UTF8", b"UTF-8"):
            raise InvalidInput(
                f"the connection's client_encoding is {(encoding or b'not known').decode()}, which"
                " cannot represent all text of the store: SET client_encoding = 'UTF8'"
            )


def check_url(url: str) -> None:
    """Check that a URL is valid; errors do not contain its password.

    Raises:
        InvalidInput: it is not valid, or libpq would read part of a password as a host or a port.
    """
    address, _, _ = url.partition("?")
    if "://" in address and (
        address.count("@") > 1 or "@" in address.partition("://")[2].partition("/")[2]
    ):
        raise InvalidInput(
            "the URL has an @ or a / that may be part of its password: in the user, the password"
            " and the database name, write %40 for @, %2F for / and %3A for :"
        )
    try:
        parameters = conninfo_to_dict(url)
        if not all(
            port.isdecimal() for port in str(parameters.get("port") or 0).split(",") if port
        ):
            raise psycopg.ProgrammingError("the port is not a number")
    except (psycopg.ProgrammingError, UnicodeError) as error:
        # The text of the error may contain the URL with its password.
        raise InvalidInput(
            "the URL must be a PostgreSQL URL (postgresql://user@host:5432/database), a connection"
            " string (host=… dbname=…), or embedded://"
        ) from error


_LIVENESS: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A dead network connection is detected within half a minute; the default is two hours."""


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return the options to open a connection with; those in the URL take precedence."""
    parameters = conninfo_to_dict(settings.url)
    return {
        **{name: parameters.get(name, value) for name, value in _LIVENESS.items()},
        "autocommit": True,
        "application_name": parameters.get("application_name", "indelible"),
        "connect_timeout": parameters.get("connect_timeout", max(2, round(settings.timeout))),
        # Of several hosts, the one that accepts writes: each server reports that when it connects.
        "target_session_attrs": parameters.get("target_session_attrs", "primary"),
        "client_encoding": "UTF8",
    }


def session_parameters(
    connection: Connection | AsyncConnection, settings: Settings
) -> dict[str, object]:
    """Return the parameters of the statement that sets up a session."""
    parameters = conninfo_to_dict(settings.url)
    return {
        "told": connection.info.backend_pid,
        "lock_timeout": str(min(max(round(settings.timeout * 1000), 1), 2**31 - 1)),
        **{name: str(parameters.get(name, value)) for name, value in _LIVENESS.items()},
    }


def session_options(rows: Rows) -> str | None:
    """Return the options that start a session like this one; None if a pooler shares it.

    Raises:
        UnsupportedIsolationLevel: a pooler shares the session, and its default isolation level does
            not allow reading the log.
    """
    if not any(is_shared for is_shared, *_ in rows):
        escaped = ((name, value.replace(" ", "\\ ")) for _, name, _, value in rows)
        return " ".join(f"-c {name}={value}" for name, value in escaped)
    for _, name, before, _ in rows:
        if name == "default_transaction_isolation" and before != "read committed":
            raise UnsupportedIsolationLevel(
                f"sessions behind this pooler start with {name} = {before!r}, which does not allow"
                f" reading the log: run ALTER ROLE … SET {name} = 'read committed' for the role of"
                " the store, or have the pooler set it"
            )
    return None


def options_of(settings: Settings, options: str | None) -> dict[str, str]:
    """Return the `options` parameter of a connection, after that of the URL or `PGOPTIONS`."""
    if options is None:
        return {}
    own_options = conninfo_to_dict(settings.url).get("options") or os.environ.get("PGOPTIONS", "")
    return {"options": f"{own_options} {options}".strip()}


def commits_by_itself(connection: Connection | AsyncConnection) -> bool:
    """Return whether the next statement runs in a transaction of its own."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def begins_silently(connection: Connection | AsyncConnection) -> bool:
    """Return whether the next statement begins a transaction that the caller must end."""
    status = connection.info.transaction_status
    return not connection.autocommit and status == TransactionStatus.IDLE
