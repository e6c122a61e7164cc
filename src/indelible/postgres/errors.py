"""Translate errors of the driver, and decide when to retry a statement."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from indelible.core.operation import AppendStatement, Statement
from indelible.core.retry import Backoff
from indelible.errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnreachable,
    EpochMismatch,
    IndelibleError,
    InvalidInput,
    LeaseLost,
    LockTimeout,
    PermissionDenied,
    ProjectionFailed,
    SchemaError,
    SchemaMissing,
    ServerBusy,
    TransactionConflict,
    UnsupportedIsolationLevel,
)

from .settings import Settings

_AFTER_LOCK_TIMEOUT = (
    "nothing was stored. End the transaction that holds it, or try again. Inside"
    " store.transaction(), append with the object that it returns: the store itself uses other"
    " connections"
)
_UNDONE_BY_TIMEOUT = ("25P03", "25P04")
"""The server ended a session because its transaction was idle, or lasted, for too long."""

_BACKOFF = Backoff(0.01, 1.0)

_log = logging.getLogger("indelible")


class StandbyNotHeard(psycopg.OperationalError):
    """The wait of a commit for a synchronous standby was cancelled."""


class ConnectionAttempts:
    """The attempts at one statement: decides whether to retry it after an error.

    Every statement of the library is idempotent: reads change nothing, and an append with the same
    event ids is stored once.

    Args:
        settings: the settings with the timeout.
        statement: the statement; None for the begin of a transaction.
    """

    def __init__(self, settings: Settings, statement: Statement | None = None) -> None:
        self._settings = settings
        self._appends = isinstance(statement, AppendStatement)
        self._survives_conflicts = (
            not isinstance(statement, AppendStatement) or statement.survives_conflicts
        )
        self._deadline = time.monotonic() + settings.timeout
        self._failures = 0
        self.loss: IndelibleError | None = None

    def pause_after(self, problem: IndelibleError, error: psycopg.Error) -> float:
        """Return the seconds to wait before the next attempt, or raise the problem."""
        is_transient = (
            isinstance(problem, ConnectionLost)
            or (isinstance(problem, TransactionConflict) and self._survives_conflicts)
            or is_lost_preparation(error)
            or is_read_only(error)
        )
        if isinstance(problem, ConnectionLost):
            problem = self.loss = self._lost(problem, error)
        elif self.loss is not None and (self._appends or isinstance(problem, LockTimeout)):
            problem = self.loss  # the outcome of the lost attempt is still unknown
        self._failures += 1
        pause = _BACKOFF.delay(self._failures)
        if not is_transient or time.monotonic() + pause > self._deadline:
            raise problem from error
        return pause

    def _lost(self, problem: IndelibleError, error: psycopg.Error) -> IndelibleError:
        if self._appends:
            return outcome_not_known(problem)
        if isinstance(error, StandbyNotHeard):
            return problem
        return unreachable(self._settings, error)


def outcome_not_known(problem: object) -> ConnectionLost:
    """Make the error for an append that may have been stored, with the way to find out."""
    return ConnectionLost(
        f"{problem}; it is not known whether the events were stored: look for their ids"
        " (error.event_ids) in the stream, or append them again with the same ids, which"
        " stores no event twice"
    )


class _Body:
    """Records whether the body of a transaction began, and whether it failed itself."""

    began = failed = False

    def __enter__(self) -> None:
        self.began = True

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.failed = error is not None


@contextmanager
def commit_errors(settings: Settings) -> Iterator[_Body]:
    """Translate errors of BEGIN and COMMIT; errors of the caller's own SQL pass unchanged.

    If a projection failed because of a transient error, raise that error.
    """
    body = _Body()
    try:
        yield body
    except psycopg.Error as error:
        if body.failed:
            raise
        if not body.began:
            raise in_transaction(error, settings) from error
        problem = translate(error, settings)
        if error.sqlstate in _UNDONE_BY_TIMEOUT:
            problem = in_transaction(error, settings)
        elif isinstance(problem, ConnectionLost):
            problem = ConnectionLost(
                f"{problem} during the commit; it is not known whether the transaction was"
                " committed: look for the events that it appended"
            )
        raise problem from error
    except ProjectionFailed as failure:
        cause = _transient_cause(failure, settings)
        if cause is None:
            raise
        raise in_transaction(cause, settings) from failure


@contextmanager
def unwrap_transient_errors(settings: Settings) -> Iterator[None]:
    """Raise the driver's error if a projection failed because of a transient error."""
    try:
        yield
    except IndelibleError as error:
        raise _transient_cause(error, settings) or error  # noqa: B904


def _transient_cause(error: IndelibleError, settings: Settings) -> psycopg.Error | None:
    """Return the transient error of the driver that caused one of ours; None for other causes."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, psycopg.Error):
        cause = cause.__cause__
    if cause is None or not isinstance(
        translate(cause, settings), ConnectionLost | TransactionConflict
    ):
        return None
    return cause


@contextmanager
def log_errors() -> Iterator[None]:
    """Log and suppress errors of the library in the block, which does optional work only."""
    try:
        yield
    except PermissionDenied as error:  # the role may lack this permission on purpose
        _log.debug("optional work failed, which affects no result: %s", error)
    except IndelibleError as error:
        _log.warning("optional work failed, which affects no result: %s", error)


def is_lost_preparation(error: Exception) -> bool:
    """Return whether a prepared statement is missing or foreign: a pooler is in between."""
    is_lost = isinstance(
        error, psycopg.errors.DuplicatePreparedStatement | psycopg.errors.InvalidSqlStatementName
    )
    if is_lost:
        _log.info("prepared statements do not work on this connection: continuing without them")
    return is_lost


def translate(error: psycopg.Error, settings: Settings) -> IndelibleError:
    """Translate an error of the driver to an error of the library."""
    text = _first_line(error)
    hint = error.diag.message_hint
    match error.sqlstate:
        case "IND02":
            return UnsupportedIsolationLevel(f"{text}. {hint}")
        case "IND03":  # transient: the next connection or the promotion of the standby ends it
            return DatabaseUnreachable(f"{text}. {hint}")
        case "25006":
            return DatabaseUnreachable(
                f"the server at {target(settings.url)} does not accept writes ({text}): it is a"
                " standby, or default_transaction_read_only is on. Connect to the primary, or reset"
                " that setting for the database or the role"
            )
        case "55P03":
            return LockTimeout(
                f"another transaction held a lock for too long ({text}): {_AFTER_LOCK_TIMEOUT}"
            )
        case "IND05":
            return LeaseLost(f"{text}. {hint}" if hint else None)
        case "IND06":
            return EpochMismatch()
        case "IND04" | "22P02" | "22P05" | "22021":
            return InvalidInput(f"{text}. {hint}" if hint else text)
        case "54001":
            return InvalidInput(f"a value is nested too deeply for the database ({text})")
        case "3F000" | "42883" | "42P01":
            return SchemaMissing(settings.schema)
        case "42501":
            return PermissionDenied(
                f"{text}: connect as the owner of the store, or as a member of a role that may do"
                f" this: {settings.schema}_reader may read, {settings.schema}_writer may also"
                f" append and run workers, {settings.schema}_maintainer may also archive, erase and"
                " drop (`indelible store init --roles` creates them)"
            )
        case "40001" | "40P01":
            return TransactionConflict(
                f"the database rolled the transaction back ({text}): run the whole transaction"
                " again"
            )
        case "23505" if error.diag.constraint_name == "events_id_key":
            # A concurrent transaction appended the same id to another stream.
            return TransactionConflict(
                f"a concurrent transaction appended an event with the same id ({text}): run the"
                " whole transaction again; the error will name the stream"
            )
        case "23505" if error.diag.constraint_name in ("events_pkey", "streams_pkey"):
            return SchemaError(
                settings.schema,
                f"a sequence returned a number that is already in use ({text}), so nothing was"
                f" stored: run `indelible store init --schema {settings.schema}`",
            )
    if isinstance(error, StandbyNotHeard):
        return ConnectionLost(
            f"the wait for a synchronous standby of {target(settings.url)} was cancelled"
        )
    if _is_loss(error):
        return ConnectionLost(f"the connection to {target(settings.url)} was lost ({text})")
    if _is_busy(error):
        return ServerBusy(
            f"the database cannot do this now ({text}): try again" + (f". {hint}" if hint else "")
        )
    return DatabaseError(f"the database reported an error: {text}" + (f". {hint}" if hint else ""))


def in_transaction(
    error: psycopg.Error, settings: Settings, *, is_own: bool = False
) -> IndelibleError:
    """Translate an error inside a transaction.

    Args:
        error: the error of the driver.
        settings: the settings of the store.
        is_own: whether the statement was an append in a transaction of its own.
    """
    problem = translate(error, settings)
    if isinstance(problem, ConnectionLost):
        if is_own:
            return outcome_not_known(problem)
        return ConnectionLost(
            f"{problem}, so the transaction was rolled back and nothing was stored: run it again"
        )
    return problem


def is_read_only(error: BaseException) -> bool:
    """Return whether the server rejected writes, perhaps as a standby: close its connection."""
    if isinstance(error, IndelibleError):
        error = error.__cause__ or error
    return isinstance(error, psycopg.Error) and error.sqlstate in ("25006", "IND03")


def add_holders(timeout: LockTimeout, holders: Sequence[str]) -> LockTimeout:
    """Return the error with the sessions that hold locks of the store."""
    if not holders:
        return timeout
    return LockTimeout(
        f"{timeout}. Sessions that hold locks of the store: {'; '.join(holders)}", holders
    )


def _is_loss(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P")) or error.sqlstate in _UNDONE_BY_TIMEOUT


def _is_busy(error: psycopg.Error) -> bool:
    """Return whether the statement may succeed a moment later."""
    # Cancelled or timed out; out of connections, memory or disk space; a failing disk.
    return error.sqlstate is not None and error.sqlstate.startswith(("53", "58", "57014"))


def _first_line(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().partition("\n")[0]


def unreachable(settings: Settings, error: psycopg.Error) -> DatabaseUnreachable:
    """Make the error for a connection that could not be opened, with its target."""
    reason = " ".join(str(error).split())
    advice = "check the URL, and that the server is running and is not a standby"
    if "startup parameter" in reason or "command-line options" in reason:
        advice = (
            "a pooler refuses a setting of the URL or of PGOPTIONS. Remove the setting there and"
            " set it with ALTER ROLE … SET, or connect to the server without the pooler"
        )
    return DatabaseUnreachable(
        f"cannot reach the database at {target(settings.url)} ({reason.rstrip('?.')}): {advice}"
    )


def no_connection(settings: Settings, stats: dict[str, int]) -> DatabaseUnreachable:
    """Make the error for a timeout of the connection pool, with the reason."""
    if stats.get("pool_size", 0) >= settings.pool_size and not stats.get("connections_errors"):
        return DatabaseUnreachable(
            f"all {settings.pool_size} connections were in use for {settings.timeout:g} s: finish"
            " transactions sooner, or connect with a larger pool_size"
        )
    return DatabaseUnreachable(
        f"could not reach the database at {target(settings.url)} for {settings.timeout:g} s: check"
        " that the server is running"
    )


def place(settings: Settings) -> str:
    """Return the database of a store for messages, without the password."""
    return settings.embedded_url or target(settings.url)


def target(url: str) -> str:
    """Return the address of the database for messages, without the password."""
    parameters = conninfo_to_dict(url)
    host = parameters.get("host") or parameters.get("hostaddr") or "the default host"
    return f"{host}:{parameters.get('port', 5432)}/{parameters.get('dbname', '')}"
