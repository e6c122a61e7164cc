"""Statements that a session has prepared are sent without a cursor, and mean the same."""

from __future__ import annotations

import inspect
import signal
import threading
from typing import Any

import psycopg
import pytest

from indelible import ANY, NO_STREAM, DuplicateEvent, NewEvent, WrongExpectedVersion
from indelible.core.operation import AppendStatement
from indelible.errors import DatabaseError
from tests.conftest import Connect
from tests.support.waiting import wait_until


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


@pytest.fixture
def by_cursor(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that cursors run from now on."""
    texts: list[str] = []

    def watch(cls: type[Any]) -> None:
        execute = cls.execute

        def watched(self: Any, query: Any, *args: Any, **options: Any) -> Any:
            texts.append(str(query))
            return execute(self, query, *args, **options)

        monkeypatch.setattr(cls, "execute", watched)

    watch(psycopg.Cursor)
    watch(psycopg.AsyncCursor)
    return texts


def run(connect: Connect, result: Any) -> None:
    """Wait for the result of an async call."""
    if inspect.iscoroutine(result):
        connect._runner.run(result)


def appends(texts: list[str]) -> int:
    return sum(".append(" in text for text in texts)


def test_only_the_first_append_of_a_session_uses_a_cursor(
    connect: Connect, by_cursor: list[str]
) -> None:
    store = connect(pool_size=1)
    for number in range(3):
        store.append("a-1", event(number), expected=number - 1)

    assert appends(by_cursor) == 1
    assert [e.data["number"] for e in store.read("a-1")] == [0, 1, 2]


def test_an_append_whose_commit_fails_is_no_success_without_a_cursor(
    connect: Connect, url: str, schema: str, by_cursor: list[str]
) -> None:
    """The server sends the rows of a statement before it commits."""
    store = connect(pool_size=1)
    for number in range(2):
        store.append("a-1", event(number), expected=number - 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema}")
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE 'not today'; END$$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON events"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    by_cursor.clear()

    with pytest.raises(DatabaseError, match="not today"):
        store.append("a-1", event(2), expected=1)

    assert not appends(by_cursor)
    assert [e.data["number"] for e in store.read("a-1")] == [0, 1]


def test_results_and_refusals_are_the_same_without_a_cursor(connect: Connect) -> None:
    store = connect(pool_size=1)
    names = ["a-1", "ä-ñ'\"\\🙂", "a-2"]
    given = [event(number) for number in range(3)]
    first = [store.append(n, e, expected=NO_STREAM) for n, e in zip(names, given, strict=True)]

    for name, new, result in zip(names, given, first, strict=True):
        again = store.append(name, new, expected=NO_STREAM)
        assert again.idempotent
        assert (again.stream, again.version, again.position, again.recorded_at) == (
            result.stream,
            result.version,
            result.position,
            result.recorded_at,
        )
        assert again.recorded_at.tzinfo is result.recorded_at.tzinfo
        with pytest.raises(DuplicateEvent):
            store.append("a-3", new, expected=ANY)
        with pytest.raises(WrongExpectedVersion) as conflict:
            store.append(name, event(), expected=7)
        assert conflict.value.conflicts[0].last_event_id == new.id
        assert [(e.id, e.recorded_at) for e in store.read(name)] == [(new.id, result.recorded_at)]


@pytest.mark.parametrize("connect", ["sync"], indirect=True)
def test_text_with_nul_is_refused_whole_without_a_cursor(connect: Connect) -> None:
    """libpq would send it up to the NUL character."""
    store = connect(pool_size=1)
    refusals = []
    for _ in range(2):
        append = {"stream": "a-1\0b", "channel": None, "expected": -2, "events": "[]"}
        with pytest.raises(DatabaseError, match="NUL") as refusal:
            store._engine._execute(AppendStatement("streams.append", append))
        refusals.append(str(refusal.value))
        store.append("a-1", event(), expected=ANY)
    assert refusals[0] == refusals[1]


def test_an_error_of_the_server_is_translated_without_a_cursor(
    connect: Connect, connection: Any, schema: str, by_cursor: list[str]
) -> None:
    store = connect(pool_size=1)
    store.append("a-1", event(), expected=NO_STREAM)
    connection.execute(f"ALTER TABLE {schema}.events ADD CHECK (version < 1) NOT VALID")

    with pytest.raises(DatabaseError, match="violates check constraint"):
        store.append("a-1", event(), expected=0)
    store.append("a-2", event(), expected=NO_STREAM)
    assert appends(by_cursor) == 1


@pytest.mark.parametrize("connect", ["sync"], indirect=True)
def test_a_session_that_lost_its_statements_prepares_them_again(
    connect: Connect, by_cursor: list[str]
) -> None:
    store = connect(pool_size=1)
    store.append("a-1", event(), expected=NO_STREAM)
    with store.transaction() as transaction:
        pid = transaction.connection.info.backend_pid
        transaction.connection.execute("DEALLOCATE ALL")

    store.append("a-1", event(), expected=0)
    store.append("a-1", event(), expected=1)

    assert appends(by_cursor) == 2
    with store.transaction() as transaction:
        assert transaction.connection.info.backend_pid == pid


def test_a_lent_connection_appends_to_the_store_that_is_bound_to_it(
    connect: Connect, second_schema: str
) -> None:
    """Both stores have statements of the same names."""
    store, other = connect(pool_size=1), connect(schema=second_schema)
    store.append("a-1", event(0), expected=NO_STREAM)
    for number in range(2):
        with store.transaction() as transaction:
            other.bind(transaction.connection).append("b-1", event(number), expected=number - 1)
    store.append("a-1", event(1), expected=0)

    assert [e.stream for e in store.read_all()] == ["a-1", "a-1"]
    assert [e.stream for e in other.read_all()] == ["b-1", "b-1"]


def test_text_is_sent_in_the_encoding_of_a_lent_connection(connect: Connect) -> None:
    store = connect(pool_size=1)
    store.append("a-1", event(0), expected=NO_STREAM)
    with store.transaction() as transaction:
        run(connect, transaction.connection.execute("SET client_encoding = 'LATIN1'"))
        transaction.append("a-ñ", event(1), expected=NO_STREAM)

    assert [e.stream for e in store.read_all()] == ["a-1", "a-ñ"]


@pytest.mark.parametrize("connect", ["sync"], indirect=True)
def test_ctrl_c_ends_the_wait_of_an_append_without_a_cursor(
    connect: Connect, url: str, schema: str, by_cursor: list[str]
) -> None:
    store = connect(pool_size=1)
    store.append("a-1", event(), expected=NO_STREAM)
    with psycopg.connect(url) as other:
        other.execute(f"SELECT FROM {schema}.streams FOR UPDATE".encode())
        interrupt = threading.Thread(target=_interrupt_when_one_waits, args=[url])
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            store.append("a-1", event(), expected=0)
        interrupt.join()

    assert store.append("a-1", event(), expected=0).version == 1
    assert appends(by_cursor) <= 2


def _interrupt_when_one_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as watching:
        wait_until(lambda: _is_waiting(watching))
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _is_waiting(watching: psycopg.Connection) -> bool:
    row = watching.execute(
        "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND query LIKE '%append(%' AND datname = current_database())"
    ).fetchone()
    return row is not None and bool(row[0])


def test_reads_are_sent_without_a_cursor_as_well(connect: Connect, by_cursor: list[str]) -> None:
    store = connect(pool_size=1)
    store.append("a-1", [event(number) for number in range(5)], expected=NO_STREAM)
    for _ in range(3):
        assert [e.data["number"] for e in store.read("a-1")] == list(range(5))

    assert sum("recorded_events" in text or "read_stream" in text for text in by_cursor) <= 1
