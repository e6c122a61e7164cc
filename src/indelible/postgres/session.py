"""What each session of the store needs, and how it is set up."""

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
    """Notes that a commit waited for a synchronous standby in vain, as its session was told to.

    A handler of notices. PostgreSQL says no more than a warning then: the transaction is committed
    on this server, and is lost where a standby takes over that does not have it.
    """

    __slots__ = ("is_cut_short",)

    is_cut_short: bool

    def __init__(self) -> None:
        self.is_cut_short = False

    def __call__(self, notice: psycopg.errors.Diagnostic) -> None:
        """Look at a notice: its text is in the language of the server, where it is from is not."""
        if notice.source_function == "SyncRepWaitForLSN":
            self.is_cut_short = True

    def check(self) -> None:
        """Raise `StandbyNotHeard` if it was so."""
        if self.is_cut_short:
            raise StandbyNotHeard


@contextmanager
def standby_heard(connection: Connection | AsyncConnection) -> Iterator[None]:
    """Raise `StandbyNotHeard` where a commit in the block was not waited for to its end."""
    waits = StandbyWait()
    connection.add_notice_handler(waits)
    try:
        yield
    finally:
        connection.remove_notice_handler(waits)
    waits.check()


def is_direct_connection(backend_pid: int, row: tuple[Any, ...] | None) -> bool:
    """Whether the session is the server's own, so that it keeps what is prepared in it.

    A pooler makes up the number of the process that it tells when a connection is made.
    """
    return row is not None and row[0] == backend_pid


def tell_about_pooler() -> None:
    """Say in the log that prepared statements are not used."""
    _log.info("there is a pooler before the server: going on without prepared statements")


def check_encoding(connection: Connection | AsyncConnection) -> None:
    """Check that a connection of the caller's gives all characters.

    Raises:
        InvalidInput: it has another encoding than UTF-8.
    """
    if not connection.closed:
        encoding = connection.pgconn.parameter_status(b"client_encoding")
        if encoding is None or encoding.upper() not in (b"UTF8", b"UTF-8"):
            raise InvalidInput(
                f"the connection's client_encoding is {(encoding or b'not known').decode()}, in"
                " which not all text of the store can be written: SET client_encoding = 'UTF8'"
            )


def check_url(url: str) -> None:
    """Check that a URL is one, without repeating its password.

    Raises:
        InvalidInput: it is none, or libpq would take part of a password for a host or a port.
    """
    address, _, _ = url.partition("?")
    if "://" in address and (
        address.count("@") > 1 or "@" in address.partition("://")[2].partition("/")[2]
    ):
        raise InvalidInput(
            "the URL has an @ or a / that may be part of its password: write %40 for @, %2F for /"
            " and %3A for : in the user, the password and the name of the database"
        )
    try:
        parameters = conninfo_to_dict(url)
        if not all(
            port.isdecimal() for port in str(parameters.get("port") or 0).split(",") if port
        ):
            raise psycopg.ProgrammingError("the port is no number")
    except (psycopg.ProgrammingError, UnicodeError) as error:
        # The text of the error may repeat the URL, and so its password.
        raise InvalidInput(
            "the URL is neither a PostgreSQL URL (postgresql://user@host:5432/database), nor a"
            " connection string (host=… dbname=…), nor embedded://"
        ) from error


_LIVENESS: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A silent network is found out in half a minute, and not in the two hours of the default."""


def connection_options(settings: Settings) -> dict[str, Any]:
    """What a connection is made with, where the URL does not say otherwise."""
    parameters = conninfo_to_dict(settings.url)
    return {
        **{name: parameters.get(name, value) for name, value in _LIVENESS.items()},
        "autocommit": True,
        "application_name": parameters.get("application_name", "indelible"),
        "connect_timeout": parameters.get("connect_timeout", max(2, round(settings.timeout))),
        # Of several hosts the one that takes writes; the server says at the start what it is.
        "target_session_attrs": parameters.get("target_session_attrs", "primary"),
        "client_encoding": "UTF8",
    }


def session_parameters(
    connection: Connection | AsyncConnection, settings: Settings
) -> dict[str, object]:
    """The parameters of the statement that sets up a session."""
    parameters = conninfo_to_dict(settings.url)
    return {
        "told": connection.info.backend_pid,
        "lock_timeout": str(min(max(round(settings.timeout * 1000), 1), 2**31 - 1)),
        **{name: str(parameters.get(name, value)) for name, value in _LIVENESS.items()},
    }


def session_options(rows: Rows) -> str | None:
    """What a session has to be begun with to be as this one is; None where it is shared.

    Raises:
        UnsupportedIsolationLevel: it is shared, and begins transactions that cannot read the log.
    """
    if not any(is_shared for is_shared, *_ in rows):
        escaped = ((name, value.replace(" ", "\\ ")) for _, name, _, value in rows)
        return " ".join(f"-c {name}={value}" for name, value in escaped)
    for _, name, before, _ in rows:
        if name == "default_transaction_isolation" and before != "read committed":
            raise UnsupportedIsolationLevel(
                f"sessions behind this pooler begin with {name} = {before!r}, in which the log"
                f" cannot be read: ALTER ROLE … SET {name} = 'read committed' for the role of the"
                " store, or have the pooler set it"
            )
    return None


def options_of(settings: Settings, options: str | None) -> dict[str, str]:
    """With what a connection is begun, after what the URL or the environment begin it with."""
    if options is None:
        return {}
    own_options = conninfo_to_dict(settings.url).get("options") or os.environ.get("PGOPTIONS", "")
    return {"options": f"{own_options} {options}".strip()}


def commits_by_itself(connection: Connection | AsyncConnection) -> bool:
    """Whether the next statement is a transaction of its own."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def begins_silently(connection: Connection | AsyncConnection) -> bool:
    """Whether the next statement begins a transaction, which goes on until the caller ends it."""
    status = connection.info.transaction_status
    return not connection.autocommit and status == TransactionStatus.IDLE
