"""When a statement is retried, and which error is raised after the last attempt."""

from __future__ import annotations

import psycopg
import pytest

from indelible.core.operation import Statement
from indelible.errors import DatabaseUnreachable, LockTimeout
from indelible.postgres.errors import ConnectionAttempts, translate
from indelible.postgres.settings import Settings

SETTINGS = Settings("postgresql://nowhere/store")


def test_who_waits_for_a_row_in_vain_is_told_at_once() -> None:
    error = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    with pytest.raises(LockTimeout, match="another transaction held a lock"):
        ConnectionAttempts(SETTINGS, Statement("any")).pause_after(
            translate(error, SETTINGS), error
        )


def test_after_a_lost_connection_a_wait_in_vain_does_not_say_that_nothing_was_done() -> None:
    """The first copy of the statement may be what the second one waited for."""
    attempts = ConnectionAttempts(SETTINGS, Statement("any"))
    lost = psycopg.OperationalError("server closed the connection")
    attempts.pause_after(translate(lost, SETTINGS), lost)
    error = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    with pytest.raises(DatabaseUnreachable, match="server closed the connection"):
        attempts.pause_after(translate(error, SETTINGS), error)
