"""What the driver's errors mean, and when a statement is worth repeating."""

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
    "nothing of it was stored. End the transaction that holds it, or try again; inside"
    " store.transaction() append with what that gives, for the store itself has other connections"
)
_UNDONE_BY_TIMEOUT = ("25P03", "25P04")
"""The server ended a session whose client was silent, or too slow, inside a transaction."""

_BACKOFF = Backoff(0.01, 1.0)

_log = logging.getLogger("indelible")


class StandbyNotHeard(psycopg.OperationalError):
    """A commit waited for a synchronous standby, and was told to wait no longer."""


class ConnectionAttempts:
    """When a statement is repeated, and when it is given up.

    Every statement of the library may be repeated: reads change nothing, and an append with the
    same event ids is taken once.

    Args:
        settings: with the timeout.
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
        """Say how many seconds to wait before the next attempt, or raise the problem."""
        is_transient = (
            isinstance(problem, ConnectionLost)
            or (isinstance(problem, TransactionConflict) and self._survives_conflicts)
            or is_lost_preparation(error)
            or is_read_only(error)
        )
        if isinstance(problem, ConnectionLost):
            problem = self.loss = self._lost(problem, error)
        elif self.loss is not None and (self._appends or isinstance(problem, LockTimeout)):
            problem = self.loss  # what a later attempt met says nothing of that one
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
    """Say of an append that it may have been stored, and how to find out."""
    return ConnectionLost(
        f"{problem}; whether the events were stored is not known: look for their ids"
        " (error.event_ids) in the stream, or append them again with the same ids, which"
        " stores nothing twice"
    )


class _Body:
    """Notes whether the body of a transaction began, and whether it failed by itself."""

    began = failed = False

    def __enter__(self) -> None:
        self.began = True

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.failed = error is not None


@contextmanager
def commit_errors(settings: Settings) -> Iterator[_Body]:
    """Translate errors of BEGIN and COMMIT; those of the caller's own SQL stay as they are.

    A projection that failed for a reason that passes is told by that.
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
                f"{problem} at the commit; whether the transaction was carried out is not known:"
                " look for what it appended"
            )
        raise problem from error
    except ProjectionFailed as failure:
        cause = _transient_cause(failure, settings)
        if cause is None:
            raise
        raise in_transaction(cause, settings) from failure


@contextmanager
def unwrap_transient_errors(settings: Settings) -> Iterator[None]:
    """Give the driver's error where a projection failed for a reason that passes."""
    try:
        yield
    except IndelibleError as error:
        raise _transient_cause(error, settings) or error  # noqa: B904


def _transient_cause(error: IndelibleError, settings: Settings) -> psycopg.Error | None:
    """The driver's error behind one of ours, where the transaction is worth repeating for it."""
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
    """Log errors of the library, and go on: what was tried was only to save time."""
    try:
        yield
    except PermissionDenied as error:  # as it may well be meant
        _log.debug("not done, and nothing depends on it: %s", error)
    except IndelibleError as error:
        _log.warning("not done, and nothing depends on it: %s", error)


def is_lost_preparation(error: Exception) -> bool:
    """Whether a prepared statement is another session's: a pooler is in between."""
    is_lost = isinstance(
        error, psycopg.errors.DuplicatePreparedStatement | psycopg.errors.InvalidSqlStatementName
    )
    if is_lost:
        _log.info("prepared statements do not work here: going on without them")
    return is_lost


def translate(error: psycopg.Error, settings: Settings) -> IndelibleError:
    """Say in the library's terms what an error of the driver means."""
    text = _first_line(error)
    hint = error.diag.message_hint
    match error.sqlstate:
        case "IND02":
            return UnsupportedIsolationLevel(f"{text}. {hint}")
        case "IND03":  # it passes: with the next connection, or when the standby is promoted
            return DatabaseUnreachable(f"{text}. {hint}")
        case "25006":
            return DatabaseUnreachable(
                f"the server at {target(settings.url)} takes no writes ({text}): it is a standby,"
                " or default_transaction_read_only is on. Connect to the primary, or reset that"
                " setting of the database or the role"
            )
        case "55P03":
            return LockTimeout(f"others held a lock for too long ({text}): {_AFTER_LOCK_TIMEOUT}")
        case "IND05":
            return LeaseLost(f"{text}. {hint}" if hint else None)
        case "IND06":
            return EpochMismatch()
        case "IND04" | "22P02" | "22P05" | "22021":
            return InvalidInput(f"{text}. {hint}" if hint else text)
        case "3F000" | "42883" | "42P01":
            return SchemaMissing(settings.schema)
        case "42501":
            return PermissionDenied(
                f"{text}: connect as the owner of the store, or as a member of the role"
                f" {settings.schema}_maintainer, {settings.schema}_writer or"
                f" {settings.schema}_reader"
                " (`indelible store init --roles` makes them)"
            )
        case "40001" | "40P01":
            return TransactionConflict(
                f"the database undid the transaction ({text}): run the whole transaction again"
            )
        case "23505" if error.diag.constraint_name == "events_id_key":
            # Another transaction appended the same id at the same moment, to another stream.
            return TransactionConflict(
                f"an event with the same id was appended at the same moment ({text}): run the"
                " whole transaction again to learn where it stands"
            )
        case "23505" if error.diag.constraint_name in ("events_pkey", "streams_pkey"):
            return SchemaError(
                settings.schema,
                f"a sequence hands out numbers that are in use already ({text}): nothing was"
                f" stored; run `indelible store init --schema {settings.schema}`",
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
    return DatabaseError(f"the database refused: {text}" + (f". {hint}" if hint else ""))


def in_transaction(
    error: psycopg.Error, settings: Settings, *, is_own: bool = False
) -> IndelibleError:
    """Say what an error in the middle of a transaction means, or in an append that is its own."""
    problem = translate(error, settings)
    if isinstance(problem, ConnectionLost):
        if is_own:
            return outcome_not_known(problem)
        return ConnectionLost(
            f"{problem} and the transaction with it; nothing of it was stored: run it again"
        )
    return problem


def is_read_only(error: BaseException) -> bool:
    """Whether the server took no writes, so that its connection is of no use: perhaps a standby."""
    if isinstance(error, IndelibleError):
        error = error.__cause__ or error
    return isinstance(error, psycopg.Error) and error.sqlstate in ("25006", "IND03")


def add_holders(timeout: LockTimeout, holders: Sequence[str]) -> LockTimeout:
    """Say who holds locks of the store."""
    if not holders:
        return timeout
    return LockTimeout(f"{timeout}. Holding locks of the store: {'; '.join(holders)}", holders)


def _is_loss(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P")) or error.sqlstate in _UNDONE_BY_TIMEOUT


def _is_busy(error: psycopg.Error) -> bool:
    """Whether what was refused may well be carried out a moment later."""
    # Cancelled or timed out, no connection, memory or disk space, a failing disk.
    return error.sqlstate is not None and error.sqlstate.startswith(("53", "58", "57014"))


def _first_line(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().partition("\n")[0]


def unreachable(settings: Settings, error: psycopg.Error) -> DatabaseUnreachable:
    """Say that no connection could be made, and where it was tried."""
    reason = " ".join(str(error).split())
    advice = "check the URL, and that the server runs and is no standby"
    if "startup parameter" in reason or "command-line options" in reason:
        advice = (
            "a pooler refuses a setting of the URL or of PGOPTIONS. Remove the setting there and"
            " set it with ALTER ROLE … SET, or connect to the server without the pooler"
        )
    return DatabaseUnreachable(
        f"cannot reach the database at {target(settings.url)} ({reason.rstrip('?.')}): {advice}"
    )


def no_connection(settings: Settings, stats: dict[str, int]) -> DatabaseUnreachable:
    """Say why the pool gave no connection."""
    if stats.get("pool_size", 0) >= settings.pool_size and not stats.get("connections_errors"):
        return DatabaseUnreachable(
            f"all {settings.pool_size} connections were in use for {settings.timeout:g} s: finish"
            " transactions sooner, or connect with a larger pool_size"
        )
    return DatabaseUnreachable(
        f"cannot reach the database at {target(settings.url)} for {settings.timeout:g} s: check"
        " that the server runs"
    )


def target(url: str) -> str:
    """Where the database is, for messages: never with its password."""
    parameters = conninfo_to_dict(url)
    host = parameters.get("host") or parameters.get("hostaddr") or "the default host"
    return f"{host}:{parameters.get('port', 5432)}/{parameters.get('dbname', '')}"
