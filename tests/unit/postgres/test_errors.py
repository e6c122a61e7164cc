"""The translation of driver errors."""

from __future__ import annotations

import psycopg
import pytest

from indelible import ConnectionLost, IndelibleError, InvalidInput
from indelible.core.operation import AppendStatement, Statement
from indelible.errors import DatabaseUnreachable, LockTimeout, ServerBusy
from indelible.postgres.errors import ConnectionAttempts, translate
from indelible.postgres.session import connection_options
from indelible.postgres.settings import Settings

SETTINGS = Settings("host=localhost port=5432 dbname=shop")


def error_of(sqlstate: str) -> psycopg.Error:
    error = psycopg.errors.lookup(sqlstate)("what the server said")
    error.sqlstate = sqlstate
    return error


def meaning(sqlstate: str) -> IndelibleError:
    return translate(error_of(sqlstate), SETTINGS)


@pytest.mark.parametrize(
    "sqlstate",
    ["53000", "53100", "53200", "53300", "53400", "57014", "58000", "58030", "58P01"],
)
def test_what_the_server_cannot_do_now_is_told_as_busy(sqlstate: str) -> None:
    problem = meaning(sqlstate)

    assert type(problem) is ServerBusy
    assert "what the server said" in str(problem)


@pytest.mark.parametrize("sqlstate", ["22012", "23505", "42601", "55000", "54000", "XX000"])
def test_what_does_not_pass_is_not_busy(sqlstate: str) -> None:
    assert not isinstance(meaning(sqlstate), ServerBusy)


def test_a_lock_that_is_not_given_is_an_error_of_its_own_and_busy() -> None:
    problem = meaning("55P03")

    assert type(problem) is LockTimeout
    assert isinstance(problem, ServerBusy)


def test_what_is_nested_too_deeply_is_a_mistake_of_the_caller() -> None:
    assert type(meaning("54001")) is InvalidInput


@pytest.mark.parametrize("sqlstate", ["25006", "IND03"])
def test_a_server_that_takes_no_writes_cannot_be_reached_for_now(sqlstate: str) -> None:
    error = error_of("25006")
    error.sqlstate = sqlstate

    assert type(translate(error, SETTINGS)) is DatabaseUnreachable
    assert (
        ConnectionAttempts(SETTINGS, Statement("streams.append")).pause_after(
            translate(error, SETTINGS), error
        )
        > 0
    )


def test_what_a_later_attempt_meets_does_not_hide_that_an_outcome_is_not_known() -> None:
    attempts = ConnectionAttempts(SETTINGS, AppendStatement("streams.append"))
    lost, busy = error_of("57P01"), error_of("53300")
    attempts.pause_after(translate(lost, SETTINGS), lost)

    with pytest.raises(ConnectionLost, match="is not known"):
        attempts.pause_after(translate(busy, SETTINGS), busy)


def test_of_several_hosts_the_one_that_takes_writes_is_taken_unless_the_url_says_otherwise() -> (
    None
):
    assert connection_options(SETTINGS)["target_session_attrs"] == "primary"
    other = Settings("host=a,b target_session_attrs=any")
    assert connection_options(other)["target_session_attrs"] == "any"
