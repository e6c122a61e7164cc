"""When a statement is repeated, and what is told when it is given up."""

from __future__ import annotations

import psycopg
import pytest

from indelible.errors import DatabaseUnreachable, LockTimeout
from indelible.plan import Call
from indelible.postgres import Settings
from indelible.postgres.failures import Attempts, translate

SETTINGS = Settings("postgresql://nowhere/store")


def test_who_waits_for_a_row_in_vain_is_told_at_once() -> None:
    error = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    with pytest.raises(LockTimeout, match="others held a lock"):
        Attempts(SETTINGS, Call("any")).pause_after(translate(error, SETTINGS), error)


def test_after_a_lost_connection_a_wait_in_vain_does_not_say_that_nothing_was_done() -> None:
    """The first copy of the statement may be what the second one waited for."""
    attempts = Attempts(SETTINGS, Call("any"))
    lost = psycopg.OperationalError("server closed the connection")
    attempts.pause_after(translate(lost, SETTINGS), lost)
    error = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    with pytest.raises(DatabaseUnreachable, match="server closed the connection"):
        attempts.pause_after(translate(error, SETTINGS), error)
