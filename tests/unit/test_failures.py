"""What errors of the driver mean."""

from __future__ import annotations

import psycopg
import pytest

from indelible import IndelibleError, ServerBusy
from indelible.postgres import Settings, translate

SETTINGS = Settings("host=localhost port=5432 dbname=shop")


def error_of(sqlstate: str) -> psycopg.Error:
    error = psycopg.errors.lookup(sqlstate)("what the server said")
    error.sqlstate = sqlstate
    return error


def meaning(sqlstate: str) -> IndelibleError:
    return translate(error_of(sqlstate), SETTINGS)


@pytest.mark.parametrize(
    "sqlstate",
    ["53000", "53100", "53200", "53300", "53400", "55P03", "57014", "58000", "58030", "58P01"],
)
def test_what_the_server_cannot_do_now_is_told_as_busy(sqlstate: str) -> None:
    problem = meaning(sqlstate)

    assert type(problem) is ServerBusy
    assert "what the server said" in str(problem)


@pytest.mark.parametrize("sqlstate", ["22012", "23505", "42601", "55000", "54000", "XX000"])
def test_what_does_not_pass_is_not_busy(sqlstate: str) -> None:
    assert not isinstance(meaning(sqlstate), ServerBusy)
