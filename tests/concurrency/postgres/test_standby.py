"""Commits whose wait for a synchronous standby is cancelled.

These servers have no standby. So each commit waits until it is cancelled, or until the setting is
removed. PostgreSQL only sends a warning when such a wait is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AppendCondition,
    ConnectionLost,
    Decider,
    DocumentProjection,
    EventStore,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    handles,
)
from indelible.bulk_import import ImportEvent
from tests.conftest import Connect
from tests.support.servers import SystemServer, system_binaries, wheel_binaries
from tests.support.waiting import wait_until

_SECONDS = 60


class Standby:
    """The standby that a server waits for, which is not there."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection = psycopg.connect(url, autocommit=True)
        self._threads = ThreadPoolExecutor(4)

    def want(self, name: str) -> None:
        """Have all commits wait for a standby of that name; none for ''."""
        self._connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        self._connection.execute("SELECT pg_reload_conf()")
        # The checkpointer decides whether commits wait, and reads the setting in its own time.
        if name:
            wait_until(self._commit_waits)

    def _commit_waits(self) -> bool:
        commit = self._threads.submit(self._commit)
        wait_until(lambda: self.waiting() or commit.done())
        if commit.done():
            return False
        self.cancel()
        commit.result()
        return True

    def _commit(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'test', '')")

    def waiting(self) -> set[tuple[object, ...]]:
        """The commits that wait for it."""
        return set(
            self._connection.execute(
                "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
        )

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        """Do something aside; return when its commit waits."""
        future = self._threads.submit(work)
        wait_until(lambda: self.waiting() or future.done())
        assert not future.done(), future.exception() or future.result()
        return future

    def cancel(self) -> None:
        """Have those that wait now wait no longer."""
        commits = self.waiting()
        assert commits
        for pid, _ in commits:
            self._connection.execute("SELECT pg_cancel_backend(%s)", [pid])
        wait_until(lambda: not commits & self.waiting())

    def close(self) -> None:
        self._connection.close()
        self._threads.shutdown()


@pytest.fixture(scope="module", params=["embedded", "system"])
def server(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[SystemServer]:
    binaries = wheel_binaries() if request.param == "embedded" else system_binaries()
    if binaries is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with SystemServer(server_folder / f"standby-{request.param}", binaries) as started:
        yield started


@pytest.fixture
def standby(server: SystemServer) -> Iterator[Standby]:
    standby = Standby(server.url)
    yield standby
    standby.want("")
    standby.close()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, server: SystemServer) -> Iterator[Connect]:
    with asyncio.Runner() as runner:
        opened = Connect(request.param, server.url, f"test_{uuid4().hex[:12]}", runner)
        yield opened
        opened.close()


@pytest.fixture
def store(connect: Connect, standby: Standby) -> EventStore:
    return connect(migrate=True, timeout=_SECONDS)


@contextmanager
def no_standby(standby: Standby) -> Iterator[None]:
    standby.want("nobody")
    try:
        yield
    finally:
        standby.want("")


def event(number: int = 0, tags: tuple[str, ...] = ()) -> NewEvent:
    return NewEvent("Happened", {"number": number}, tags=tags)


def append(store: EventStore, given: NewEvent) -> Any:
    return store.append("a-1", given, expected=ANY)


def append_a_new_stream(store: EventStore, given: NewEvent) -> Any:
    return store.append("new-1", given, expected=NO_STREAM)


def append_many(store: EventStore, given: NewEvent) -> Any:
    return store.append_many([StreamAppend("a-1", [given], ANY), StreamAppend("c-1", [], ANY)])[0]


def append_if(store: EventStore, given: NewEvent) -> Any:
    condition = AppendCondition(Query(types=("Other",)), after=0)
    return store.append("a-1", given, expected=ANY, condition=condition)


class Numbers(DocumentProjection[dict]):
    """All numbers."""

    name = "numbers"

    def key(self, event: RecordedEvent) -> str:
        return "all"

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"numbers": [*(document or {"numbers": []})["numbers"], event.data["number"]]}


@dataclass(frozen=True)
class Done:
    idempotent: bool


def import_one(store: EventStore, given: NewEvent) -> Any:
    result = store.import_events([ImportEvent("a-1", given.data, given.type, id=given.id)])
    return Done(result.skipped == 1)


WRITES = [append, append_a_new_stream, append_many, append_if, import_one]


@pytest.mark.parametrize("write", WRITES)
def test_a_wait_that_is_cancelled_is_no_success_and_the_append_is_repeated(
    write: Callable[[EventStore, NewEvent], Any], store: EventStore, standby: Standby
) -> None:
    given = event()
    with no_standby(standby):
        future = standby.start(lambda: write(store, given))
        standby.cancel()
        # The event is stored and visible; the retried append waits again.
        wait_until(standby.waiting)
        assert not future.done()
    assert future.result(_SECONDS).idempotent
    assert [found.id for found in store.read_all()] == [given.id]


def test_an_append_with_an_inline_projection_is_no_success_either(
    connect: Connect, standby: Standby
) -> None:
    store = connect(migrate=True, timeout=_SECONDS, inline=[Numbers])
    with no_standby(standby):
        future = standby.start(lambda: append(store, event(7)))
        standby.cancel()
        wait_until(standby.waiting)
        assert not future.done()
    assert future.result(_SECONDS).idempotent
    assert store.documents(Numbers).read("all") == {"numbers": [7]}


def test_appends_that_share_a_commit_are_each_repeated(
    server: SystemServer, standby: Standby
) -> None:
    schema = f"test_{uuid4().hex[:12]}"
    with EventStore.connect(server.url, schema=schema, migrate=True, timeout=_SECONDS) as store:
        with no_standby(standby):
            futures = [
                standby.start(lambda n=number: store.append(f"a-{n}", event(), expected=ANY))
                for number in range(4)
            ]
            wait_until(
                lambda: len(standby.waiting()) == 3
            )  # two single appends, and a batch of two
            standby.cancel()
            wait_until(lambda: len(standby.waiting()) == 3)
            assert not any(future.done() for future in futures)
        assert all(future.result(_SECONDS).idempotent for future in futures)


def test_an_outcome_that_stays_unknown_is_told_and_the_same_ids_find_it_out(
    connect: Connect, standby: Standby
) -> None:
    store = connect(migrate=True, timeout=1)
    given = event()
    with no_standby(standby):
        future = standby.start(lambda: append(store, given))
        cancel_until_done(standby, future)
        error = future.exception()
        assert isinstance(error, ConnectionLost)
        assert "standby" in str(error)
        assert "not known" in str(error)
        assert error.event_ids == (given.id,)
        again = standby.start(lambda: append(store, given))
        assert not again.done(), "what only this server has is told as stored"
    assert again.result(_SECONDS).idempotent
    assert len(list(store.read_all())) == 1


def cancel_until_done(standby: Standby, future: Future[Any]) -> None:
    while not future.done():
        if standby.waiting():
            standby.cancel()


def in_a_transaction(store: EventStore, connection: psycopg.Connection) -> None:
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=ANY)


def in_a_transaction_of_a_bound_store(store: EventStore, connection: psycopg.Connection) -> None:
    with store.bind(connection).transaction() as transaction:
        transaction.append("a-1", event(), expected=ANY)


def bound_to_a_connection_that_commits_by_itself(
    store: EventStore, connection: psycopg.Connection
) -> None:
    store.bind(connection).append("a-1", event(), expected=ANY)


@pytest.mark.parametrize(
    "work",
    [
        in_a_transaction,
        in_a_transaction_of_a_bound_store,
        bound_to_a_connection_that_commits_by_itself,
    ],
)
def test_a_transaction_whose_commit_did_not_wait_is_no_success(
    work: Callable[[EventStore, psycopg.Connection], None],
    server: SystemServer,
    standby: Standby,
) -> None:
    schema = f"test_{uuid4().hex[:12]}"
    with (
        EventStore.connect(server.url, schema=schema, migrate=True) as store,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        with no_standby(standby):
            future = standby.start(lambda: work(store, connection))
            standby.cancel()
            with pytest.raises(ConnectionLost, match=r"standby.*not known"):
                future.result(_SECONDS)
        assert len(list(store.read_all())) == 1
        work(store, connection)


def test_a_transaction_of_the_async_store_whose_commit_did_not_wait_is_no_success(
    store: EventStore, standby: Standby
) -> None:
    with no_standby(standby):
        future = standby.start(lambda: in_a_transaction(store, None))  # type: ignore[arg-type]
        standby.cancel()
        with pytest.raises(ConnectionLost, match=r"standby.*not known"):
            future.result(_SECONDS)
    in_a_transaction(store, None)  # type: ignore[arg-type]


def test_a_delivery_whose_transaction_did_not_wait_is_no_success(
    server: SystemServer, standby: Standby
) -> None:
    schema = f"test_{uuid4().hex[:12]}"
    with EventStore.connect(server.url, schema=schema, migrate=True) as store:
        append(store, event())
        group = store.group("mails")
        group.create(Query(channel="a"))
        with group.consume() as consumer:
            delivery = consumer.take(_SECONDS)
            assert delivery is not None

            def handle() -> None:
                with delivery.transaction() as transaction:
                    transaction.append("out-1", event(), expected=ANY)

            with no_standby(standby):
                future = standby.start(handle)
                cancel_until_done(standby, future)
            assert isinstance(future.exception(), ConnectionLost)
        assert len(list(store.read("out-1"))) == 1


def test_a_command_that_was_handled_before_waits_too(store: EventStore, standby: Standby) -> None:
    decider = Decider(
        lambda command, state: [NewEvent("Happened", {"number": command})],
        lambda state, event: state,
        lambda: None,
    )
    command_id = uuid4()

    def handle() -> Any:
        return store.handle("a-1", decider, 1, command_id=command_id)

    handle()
    with no_standby(standby):
        future = standby.start(handle)
        assert not future.done()
    assert future.result(_SECONDS).result.idempotent
