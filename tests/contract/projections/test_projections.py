"""Projections with the lifecycles inline, async and live."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import psycopg.conninfo
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AppendCondition,
    AsyncEventStore,
    ConnectionLost,
    DocumentProjection,
    EventStore,
    ExternalProjection,
    InvalidInput,
    LeaseLost,
    NewEvent,
    Query,
    RecordedEvent,
    StreamAppend,
    TableProjection,
    WaitTimeout,
    WrongExpectedVersion,
    handles,
)
from indelible.bulk_import import ImportEvent, ImportResult
from indelible.core.operation import Rows, Statement
from indelible.errors import (
    DatabaseError,
    EpochMismatch,
    GroupNotFound,
    ProjectionDefinitionChanged,
    ProjectionFailed,
    ProjectionNotFound,
    ProjectionNotReady,
    TransactionConflict,
    UnregisteredEventClass,
    UnsupportedIsolationLevel,
)
from tests.conftest import Connect
from tests.support.interleavings import Proxy, stopped_at
from tests.support.sync_adapter import SyncAdapter
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Paid:
    cents: int
    to: str


@dataclass(frozen=True)
class Closed:
    pass


EVENTS = [Opened, Paid, Closed]


@dataclass(frozen=True)
class Account:
    owner: str
    cents: int = 0


class Accounts(DocumentProjection[Account]):
    """Of one stream each."""

    name = "accounts"
    indexes = ("owner",)

    @handles(Opened)
    def opened(self, account: Account | None, event: RecordedEvent) -> Account:
        return Account(event.data.owner)

    @handles(Paid)
    def paid(self, account: Account | None, event: RecordedEvent) -> Account | None:
        return account and Account(account.owner, account.cents - event.data.cents)

    @handles(Closed)
    def closed(self, account: Account | None, event: RecordedEvent) -> None:
        return None


class Receipts(DocumentProjection[dict]):
    """Of several streams: what came to each."""

    name = "receipts"

    def key(self, event: RecordedEvent) -> Sequence[str]:
        return [event.data.to, "all"]

    @handles(Paid)
    def paid(self, receipt: dict | None, event: RecordedEvent) -> dict:
        return {"cents": (receipt or {"cents": 0})["cents"] + event.data.cents}


class Broken(Receipts):
    """Fails at a payment of 13."""

    name = "broken"

    @handles(Paid)
    def paid(self, receipt: dict | None, event: RecordedEvent) -> dict:
        if event.data.cents == 13:
            raise ValueError("an unlucky number")
        return super().paid(receipt, event)


def write_some(store: EventStore) -> None:
    store.append("account-1", [Opened("ann"), Paid(5, "bob")], expected=ANY)
    store.append("account-2", [Opened("cid"), Paid(7, "bob"), Paid(1, "ann")], expected=ANY)
    store.append_many(
        [
            StreamAppend("account-3", [Opened("ann"), Closed()], ANY),
            StreamAppend("account-1", Paid(10, "eve"), ANY),
        ]
    )


ACCOUNTS = {"account-1": Account("ann", -15), "account-2": Account("cid", -8)}
RECEIPTS = {
    "all": {"cents": 23},
    "ann": {"cents": 1},
    "bob": {"cents": 12},
    "eve": {"cents": 10},
}


def of_variant(store: EventStore, plain: type, awaiting: type) -> Any:
    """A projection that does I/O has handlers of the store's variant."""
    return awaiting if isinstance(store, SyncAdapter) else plain


@pytest.fixture
def connect_sync(url: str, schema: str) -> Iterator[Connect]:
    """Opens stores in the sync variant only, for tests whose subject is not the client API."""
    with asyncio.Runner() as runner:
        opened = Connect("sync", url, schema, runner)
        yield opened
        opened.close()


# The three lifecycles ------------------------------------------------------------------------


def test_an_inline_projection_is_there_with_the_append(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Accounts, Receipts])
    write_some(store)

    assert dict(store.documents(Accounts).find()) == ACCOUNTS
    assert dict(store.documents(Receipts).find()) == RECEIPTS


def test_an_async_projection_is_there_once_it_has_caught_up(connect: Connect) -> None:
    store = connect(events=EVENTS)
    write_some(store)

    head = store.catch_up(Accounts)
    store.catch_up(Receipts)

    found = store.documents(Accounts).find()
    assert dict(found) == ACCOUNTS
    assert (found.checkpoint, found.head, found.is_current) == (head, store.head(), True)
    assert dict(store.documents(Receipts).find()) == RECEIPTS


def test_a_live_projection_is_folded_as_it_is_read(connect: Connect) -> None:
    store = connect(events=EVENTS)
    write_some(store)
    before = store.head()
    store.append("account-1", Closed(), expected=ANY)

    assert store.project(Accounts, as_of=before).documents == ACCOUNTS
    assert store.project(Accounts, "account-1").document is None
    assert store.project(Accounts, "account-1", as_of=before).document == ACCOUNTS["account-1"]
    assert store.project(Receipts, "bob").document == {"cents": 12}


# Documents -----------------------------------------------------------------------------------


def test_documents_are_read_by_key_and_found_by_their_fields(connect_sync: Connect) -> None:
    store = connect_sync(events=EVENTS, inline=[Accounts])
    write_some(store)
    store.append("account-4", Opened("ann"), expected=ANY)
    accounts = store.documents(Accounts)

    assert accounts.read("account-2") == Account("cid", -8)
    assert accounts.read("account-3") is None
    assert set(accounts.read_many(["account-1", "account-3"])) == {"account-1"}
    assert list(accounts.find({"owner": "ann"})) == ["account-1", "account-4"]
    assert list(accounts.find({"owner": "ann", "cents": -15})) == ["account-1"]
    assert list(accounts.find({"owner": None})) == []
    assert list(accounts.find(limit=1)) == ["account-1"]
    assert list(accounts.find(after="account-1", limit=1)) == ["account-2"]


class Total(DocumentProjection[int]):
    name = "total"

    def key(self, event: RecordedEvent) -> str:
        return "all"

    @handles(Paid)
    def paid(self, total: int | None, event: RecordedEvent) -> int:
        return (total or 0) + event.data.cents


class Notes(DocumentProjection[list[str]]):
    name = "notes"

    @handles(Paid)
    def paid(self, notes: list[str] | None, event: RecordedEvent) -> list[str]:
        return [*(notes or []), event.data.to]


class Mean(DocumentProjection[float]):
    name = "mean"

    @handles(Paid)
    def paid(self, mean: float | None, event: RecordedEvent) -> float:
        return 1e16 * event.data.cents


def test_documents_may_be_numbers_and_lists(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Notes])
    store.append("a-1", [Paid(0, "x"), Paid(0, "y")], expected=ANY)
    store.append("a-1", Paid(2, "z"), expected=ANY)
    for projection, key, document in (
        (Total, "all", 2),
        (Notes, "a-1", ["x", "y", "z"]),
        (Mean, "a-1", 2e16),
    ):
        if projection is not Notes:
            store.catch_up(projection)
        found = store.documents(projection).read(key)
        assert (found, type(found)) == (document, type(document))
        assert dict(store.documents(projection).find()) == {key: document}
        assert dict(store.documents(projection).find({"note": "x"})) == {}
        assert store.verify(projection).holds
        assert store.project(projection, key).document == document


def test_a_number_of_zero_is_a_document(connect: Connect) -> None:
    store = connect(events=EVENTS)
    store.append("a-1", Paid(0, "x"), expected=ANY)
    store.catch_up(Total)
    assert store.documents(Total).read("all") == 0


@pytest.mark.parametrize(
    "returned", ["text", True, 1.5, float("nan"), [1]], ids=["text", "bool", "float", "nan", "list"]
)
def test_a_document_that_is_not_of_its_type_is_refused(
    connect_sync: Connect, returned: Any
) -> None:
    class Wrong(Total):
        @handles(Paid)
        def paid(self, total: int | None, event: RecordedEvent) -> int:
            return returned  # type: ignore[no-any-return]

    store = connect_sync(events=EVENTS)
    store.append("a-1", Paid(1, "x"), expected=ANY)
    with pytest.raises(ProjectionFailed, match=r"an? int, or None|is nan"):
        store.catch_up(Wrong)


def test_a_tuple_is_no_list(connect_sync: Connect) -> None:
    class Wrong(Notes):
        @handles(Paid)
        def paid(self, notes: list[str] | None, event: RecordedEvent) -> list[str]:
            return ("x",)  # type: ignore[return-value]

    store = connect_sync(events=EVENTS)
    store.append("a-1", Paid(1, "x"), expected=ANY)
    with pytest.raises(ProjectionFailed, match=r"returned a tuple: return the document, a list"):
        store.catch_up(Wrong)


def test_lists_of_instances_and_indexes_of_numbers_are_refused(connect_sync: Connect) -> None:
    class Lists(DocumentProjection[list[Account]]):
        name = "lists"

        @handles(Paid)
        def paid(self, document: object, event: RecordedEvent) -> list[Account]:
            return []

    class Indexed(Total):
        indexes = ("amount",)

    store = connect_sync(events=EVENTS)
    with pytest.raises(InvalidInput, match="put a list of instances into a field"):
        store.project(Lists)
    with pytest.raises(InvalidInput, match="its documents have none"):
        store.project(Indexed)


def test_an_index_that_was_chosen_is_used(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS, inline=[Accounts]) as store:
        store.append_many(
            [StreamAppend(f"account-{n}", Opened(f"owner-{n}"), NO_STREAM) for n in range(2_000)]
        )
        connection.execute(f"ANALYZE {schema}.documents_1")
        plan = connection.execute(
            f"EXPLAIN (FORMAT JSON) SELECT key FROM {schema}.projection_documents AS documents"
            " WHERE projection_id = 1 AND document -> 'owner' = '\"owner-7\"'::jsonb"
        ).fetchone()
        assert "documents_1_expr_idx" in str(plan)
        assert list(store.documents(Accounts).find({"owner": "owner-7"})) == ["account-7"]


def test_documents_can_be_read_with_sql(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS, inline=[Accounts]) as store:
        write_some(store)
    rows = connection.execute(
        f"SELECT key, document ->> 'owner' FROM {schema}.documents WHERE projection = 'accounts'"
        " ORDER BY key"
    ).fetchall()
    assert rows == [("account-1", "ann"), ("account-2", "cid")]


# Inline: with every kind of append -----------------------------------------------------------


def test_whatever_appends_brings_inline_projections_up_to_date(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Receipts])
    marker = store.read_matching(Query(tags="a:b")).marker

    store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
    store.append(
        "a-1", Paid(10, "x"), expected=0, condition=AppendCondition(Query(tags="a:b"), marker)
    )
    store.append(None, Paid(100, "x"))
    with store.transaction() as transaction:
        transaction.append("a-1", Paid(1_000, "x"), expected=1)
        assert transaction.documents(Receipts).read("x") == {"cents": 1_111}
    assert store.documents(Receipts).read("x") == {"cents": 1_111}


def test_a_transaction_that_is_undone_undoes_the_documents(connect_sync: Connect) -> None:
    store = connect_sync(events=EVENTS, inline=[Receipts])

    with pytest.raises(RuntimeError):
        with store.transaction() as transaction:
            transaction.append("a-1", Paid(1, "x"), expected=ANY)
            raise RuntimeError
    assert store.documents(Receipts).find().documents == {}


def test_an_inline_projection_that_fails_undoes_the_append(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Broken])

    with pytest.raises(ProjectionFailed, match="unlucky") as failure:
        store.append("a-1", [Paid(1, "x"), Paid(13, "x")], expected=NO_STREAM)
    assert (failure.value.projection, failure.value.event_type) == ("broken", "Paid")
    with store.transaction() as transaction:  # which stays usable
        with pytest.raises(ProjectionFailed):
            transaction.append("a-1", Paid(13, "x"), expected=NO_STREAM)
        transaction.append("a-1", Paid(2, "x"), expected=NO_STREAM)

    assert [event.data for event in store.read("a-1")] == [Paid(2, "x")]
    assert store.documents(Broken).read("x") == {"cents": 2}


def test_a_retried_append_is_folded_once(connect_sync: Connect) -> None:
    store = connect_sync(events=EVENTS, inline=[Receipts])
    event = NewEvent("Paid", Paid(5, "x"), id=uuid4())

    store.append("a-1", event, expected=NO_STREAM)
    assert store.append("a-1", event, expected=NO_STREAM).idempotent
    with pytest.raises(WrongExpectedVersion):
        store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
    assert store.documents(Receipts).read("x") == {"cents": 5}


def test_an_inline_projection_that_is_new_to_its_events_has_to_be_built(
    connect_sync: Connect,
) -> None:
    first = connect_sync(events=EVENTS)
    first.append("a-1", Paid(1, "x"), expected=NO_STREAM)
    store = connect_sync(events=EVENTS, inline=[Receipts, Accounts])
    store.append("a-1", Paid(2, "x"), expected=0)

    with pytest.raises(ProjectionNotReady, match="projections rebuild receipts --app"):
        store.documents(Receipts).read("x")
    with pytest.raises(ProjectionNotReady):
        store.wait_for("receipts", 1)


@contextmanager
def strict_transaction(
    store: EventStore, url: str, level: psycopg.IsolationLevel
) -> Iterator[EventStore]:
    """A store bound to a connection of the caller's, whose transaction sees one moment."""
    if not isinstance(store, SyncAdapter):
        with psycopg.connect(url) as connection:
            connection.isolation_level = level
            connection.execute("SELECT 1")
            yield store.bind(connection)
        return
    run = store._runner.run
    own = run(psycopg.AsyncConnection.connect(url))
    try:
        run(own.set_isolation_level(level))
        run(own.execute("SELECT 1"))
        yield store.bind(own)
        run(own.commit())
    finally:
        run(own.close())


@contextmanager
def idle_connection(
    store: EventStore, url: str, *, autocommit: bool = False
) -> Iterator[tuple[EventStore, Callable[[], None]]]:
    """A store bound to a connection of the caller's that was never used, and its rollback."""
    if not isinstance(store, SyncAdapter):
        with psycopg.connect(url, autocommit=autocommit) as connection:
            yield store.bind(connection), connection.rollback
        return
    run = store._runner.run
    own = run(psycopg.AsyncConnection.connect(url, autocommit=autocommit))
    try:
        yield store.bind(own), lambda: run(own.rollback())
    finally:
        run(own.close())


def _append(bound: EventStore) -> None:
    bound.append("a-1", Paid(1, "x"), expected=ANY)


def _append_in_a_block(bound: EventStore) -> None:
    with bound.transaction() as transaction:
        _append(transaction)


def _append_after_a_read(bound: EventStore) -> None:
    bound.documents(Receipts).read("x")
    _append(bound)


def _append_after_a_refusal(bound: EventStore) -> None:
    with pytest.raises(WrongExpectedVersion):
        bound.append("a-1", Paid(1, "x"), expected=7)
    _append(bound)


def _append_to_two(bound: EventStore) -> None:
    bound.append_many(
        [
            StreamAppend("a-1", [Paid(1, "x")], expected=ANY),
            StreamAppend("b-1", [Paid(1, "x")], expected=ANY),
        ]
    )


@pytest.mark.parametrize(
    "write",
    [
        _append,
        _append_in_a_block,
        _append_after_a_read,
        _append_after_a_refusal,
        _append_to_two,
    ],
)
def test_what_begins_the_transaction_of_a_caller_does_not_end_it(
    connect: Connect, url: str, write: Callable[[EventStore], None]
) -> None:
    store = connect(events=EVENTS, inline=[Receipts])
    with idle_connection(store, url) as (bound, rollback):
        write(bound)
        assert store.stream("a-1") is None
        rollback()
        assert bound.stream("a-1") is None
        assert bound.documents(Receipts).read("x") is None
    with idle_connection(store, url, autocommit=True) as (bound, rollback):
        write(bound)
        rollback()
    assert store.stream("a-1") is not None
    assert store.documents(Receipts).read("x") is not None


@pytest.mark.parametrize(
    "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]
)
def test_an_inline_projection_is_not_folded_in_a_snapshot_older_than_a_removal(
    connect: Connect, url: str, level: psycopg.IsolationLevel
) -> None:
    class UntilNothing(Receipts):
        name = "until-nothing"

        @handles(Paid)
        def paid(self, receipt: dict | None, event: RecordedEvent) -> Any:
            return super().paid(receipt, event) if event.data.cents else None

    store = connect(events=EVENTS, inline=[UntilNothing])
    store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
    with pytest.raises(
        UnsupportedIsolationLevel, match=r"inline projection until-nothing .*READ COMM"
    ):
        with strict_transaction(store, url, level) as transaction:
            store.append("a-2", Paid(0, "x"), expected=NO_STREAM)
            transaction.append("a-3", Paid(1, "x"), expected=NO_STREAM)
    assert store.documents(UntilNothing).find().documents == {}
    assert store.verify(UntilNothing).holds


@pytest.mark.parametrize("kind", ["documents", "tables"])
def test_an_inline_projection_is_not_folded_in_a_snapshot_older_than_a_swap(
    connect: Connect, ledger: str, connection: psycopg.Connection, schema: str, kind: str
) -> None:
    tables = Ledger if connect.variant == "sync" else AsyncLedger
    projection = Receipts if kind == "documents" else tables
    store = connect(ledger, events=EVENTS, inline=[projection], pool_size=8)
    store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
    strict = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(UnsupportedIsolationLevel, match="inline projection"):
        with strict_transaction(store, ledger, strict) as transaction:
            if kind == "documents":
                store.rebuild(projection)
            transaction.append("a-2", Paid(1, "x"), expected=NO_STREAM)
    if kind == "documents":
        assert store.documents(projection).read("x") == {"cents": 1}
    else:
        assert ledger_of(connection, schema) == [1]


def test_an_append_that_no_inline_projection_takes_is_not_refused_for_its_isolation(
    connect: Connect, url: str
) -> None:
    store = connect(events=EVENTS, inline=[Receipts])
    strict = psycopg.IsolationLevel.REPEATABLE_READ
    with strict_transaction(store, url, strict) as transaction:
        transaction.append("a-1", Opened("ann"), expected=NO_STREAM)
    assert store.stream("a-1") is not None


def test_an_import_beside_inline_projections_is_refused(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Receipts])
    with pytest.raises(InvalidInput, match="connect without inline="):
        store.import_events([])


def test_an_import_of_what_an_inline_projection_takes_is_refused_or_told(connect: Connect) -> None:
    connect(events=EVENTS, inline=[Receipts]).append("a-1", Paid(1, "x"), expected=NO_STREAM)
    store = connect(events=EVENTS)
    events = [ImportEvent("b-1", Opened("ann"), id=uuid4())]
    assert store.import_events(events) == ImportResult(1, 0, 2)
    events.append(ImportEvent("b-1", Paid(2, "x"), id=uuid4()))

    with pytest.raises(InvalidInput, match="projections rebuild receipts --app") as refused:
        store.import_events(events)
    assert str(refused.value).startswith("event 2: inline projection 'receipts' handles 'Paid'")
    assert store.stats().events == 2

    assert store.import_events(events, past_inline=True).stale == ("receipts",)
    assert store.documents(Receipts).read("x") == {"cents": 1}
    store.rebuild(Receipts)
    assert store.documents(Receipts).read("x") == {"cents": 3}


def test_an_inline_projection_is_run_by_nobody_and_another_is_not_made_inline(
    connect: Connect,
) -> None:
    store = connect(events=EVENTS, inline=[Receipts])
    with pytest.raises(
        ProjectionDefinitionChanged, match=r"is inline, .* projections rebuild receipts"
    ):
        store.catch_up(Receipts)
    store.catch_up(Accounts)
    with pytest.raises(ProjectionDefinitionChanged, match="is async and cannot be inline"):
        connect(events=EVENTS, inline=[Accounts])


# Async -----------------------------------------------------------------------------------------


def test_what_fails_stores_nothing_and_comes_again(connect: Connect) -> None:
    store = connect(events=EVENTS)
    store.append("a-1", [Paid(1, "x"), Paid(13, "x"), Paid(2, "y")], expected=NO_STREAM)
    with store.projector(Broken) as projector:
        assert projector.take_over()
        for _ in range(2):
            with pytest.raises(ProjectionFailed) as failure:
                projector.step()
            assert failure.value.position == 2
        assert store.documents(Broken).find().documents == {}
        assert projector.position == 0


def test_a_projector_that_was_taken_for_dead_stores_nothing(connect: Connect) -> None:
    store = connect(events=EVENTS)
    write_some(store)
    first, second = store.projector(Accounts, lease=0.001), store.projector(Accounts)
    assert first.take_over()
    while not second.take_over():
        pass

    with pytest.raises(LeaseLost):
        first.step()
    with pytest.raises(LeaseLost):
        first.heartbeat()
    assert store.documents(Accounts).find().documents == {}
    second.step()
    assert dict(store.documents(Accounts).find()) == ACCOUNTS


def test_a_partition_is_one_projectors_until_it_gives_it_back(connect_sync: Connect) -> None:
    store = connect_sync(events=EVENTS)
    with store.projector(Accounts, name="first") as first:
        assert first.take_over()
        (build,) = store.projections("accounts")
        assert build.partitions[0].owner == "first"
        assert not store.projector(Accounts).take_over()
    assert store.projector(Accounts).take_over()


def test_partitions_keep_up_the_same_documents_as_one(connect_sync: Connect) -> None:
    class Split(Receipts):
        name = "split"
        partitions = 3

    class SplitByStream(Accounts):
        name = "split-by-stream"
        partitions = 2

    store = connect_sync(events=EVENTS)
    write_some(store)
    store.append("b-1", [Opened("x"), *(Paid(n, f"to-{n % 7}") for n in range(100))], expected=ANY)
    for projection, one in ((Split, Receipts), (SplitByStream, Accounts)):
        store.catch_up(projection)
        assert dict(store.documents(projection).find()) == store.project(one).documents


def test_erased_and_archived_events_do_not_make_a_projection_stumble(connect_sync: Connect) -> None:
    store = connect_sync(events=EVENTS)
    write_some(store)
    store.erase_stream("account-1", reason="asked to")
    store.close_stream("account-2", expected=2)
    store.archive_stream("account-2")

    store.catch_up(Accounts)

    assert dict(store.documents(Accounts).find()) == {"account-2": Account("cid", -8)}
    assert store.verify(Accounts).holds


def test_an_event_that_does_not_fit_its_class_is_named(connect_sync: Connect) -> None:
    untyped = connect_sync()
    untyped.append("a-1", NewEvent("Paid", {"cents": 1, "to": "x"}), expected=ANY)
    untyped.append("a-1", NewEvent("Paid", {"cents": "many"}), expected=ANY)
    store = connect_sync(events=EVENTS)
    with store.projector(Receipts) as projector:
        projector.take_over()
        with pytest.raises(ProjectionFailed, match="Paid") as failure:
            projector.step()
        assert failure.value.position == 2


def test_a_projector_follows_the_log_until_it_is_stopped(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS) as store:
        stop = threading.Event()
        with store.projector(Accounts) as projector:
            assert projector.take_over()
            thread = threading.Thread(target=projector.run, args=[stop])
            thread.start()
            for number in range(3):
                result = store.append("a-1", Opened(f"owner-{number}"), expected=ANY)
                store.wait_for("accounts", result.position)
                assert store.documents(Accounts).read("a-1") == Account(f"owner-{number}")
            stop.set()
            thread.join(5)
            assert not thread.is_alive()


def test_an_async_projector_follows_the_log_until_it_is_stopped(
    sync_store: EventStore, url: str, schema: str
) -> None:
    async def follow() -> None:
        async with AsyncEventStore.connect(url, schema=schema, events=EVENTS) as store:
            stop = asyncio.Event()
            async with store.projector(Accounts) as projector:
                assert await projector.take_over()
                task = asyncio.create_task(projector.run(stop))
                for number in range(3):
                    result = await store.append("a-1", Opened(f"owner-{number}"), expected=ANY)
                    await store.wait_for("accounts", result.position)
                    found = await store.documents(Accounts).read("a-1")
                    assert found == Account(f"owner-{number}")
                stop.set()
                await asyncio.wait_for(task, 5)

    asyncio.run(follow())


# Tables, external state, lookups ---------------------------------------------------------------


class Ledger(TableProjection):
    name = "ledger"

    @handles(Paid)
    def paid(self, event: RecordedEvent, connection: psycopg.Connection) -> None:
        connection.execute("INSERT INTO ledger VALUES (%s)", [event.data.cents])
        if event.data.cents == 13:
            raise ValueError("an unlucky number")


class AsyncLedger(Ledger):
    @handles(Paid)
    async def paid(self, event: RecordedEvent, connection: Any) -> None:  # type: ignore[override]
        await connection.execute("INSERT INTO ledger VALUES (%s)", [event.data.cents])
        if event.data.cents == 13:
            raise ValueError("an unlucky number")


@pytest.fixture
def ledger(url: str, schema: str, connection: psycopg.Connection) -> str:
    """The URL, with the store's schema on the search path, where there is a table `ledger`."""
    connection.execute(f"CREATE TABLE {schema}.ledger (cents int)")
    return psycopg.conninfo.make_conninfo(url, options=f"-csearch_path={schema}")


def ledger_of(connection: psycopg.Connection, schema: str) -> list[int]:
    return [cents for (cents,) in connection.execute(f"SELECT cents FROM {schema}.ledger")]


def test_a_table_is_written_in_the_transaction_of_the_checkpoint(
    connect: Connect, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    store = connect(ledger, events=EVENTS)
    projection = of_variant(store, Ledger, AsyncLedger)
    store.append("a-1", [Paid(1, "x"), Paid(2, "x")], expected=ANY)
    store.catch_up(projection)
    assert ledger_of(connection, schema) == [1, 2]

    store.append("a-1", [Paid(3, "x"), Paid(13, "x")], expected=ANY)
    with pytest.raises(ProjectionFailed):
        store.catch_up(projection)
    assert ledger_of(connection, schema) == [1, 2]


class Made(Ledger):
    name = "made"
    ddl = "CREATE TABLE ledger (cents int); CREATE INDEX ON ledger (cents)"


class AsyncMade(AsyncLedger):
    name = "made"
    ddl = Made.ddl


@pytest.mark.parametrize("lifecycle", ["async", "inline"])
def test_the_tables_of_a_projection_are_created_once_with_its_version(
    connect: Connect, connection: psycopg.Connection, url: str, schema: str, lifecycle: str
) -> None:
    found = psycopg.conninfo.make_conninfo(url, options=f"-csearch_path={schema}")
    projection = Made if connect.variant == "sync" else AsyncMade
    inline = [projection] if lifecycle == "inline" else []
    for cents in (1, 2):
        store = connect(found, events=EVENTS, inline=inline)
        store.append("a-1", Paid(cents, "x"), expected=ANY)
        if lifecycle == "async":
            store.catch_up(projection)
    assert ledger_of(connection, schema) == [1, 2]
    (index,) = connection.execute(
        "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = 'ledger'", [schema]
    )
    assert index == ("ledger_cents_idx",)


def test_a_projection_whose_tables_cannot_be_created_is_not_registered(
    connect: Connect, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    """A table of an earlier life would add its rows to those of this one."""
    store = connect(ledger, events=EVENTS)
    projection = Made if connect.variant == "sync" else AsyncMade
    store.append("a-1", Paid(1, "x"), expected=ANY)
    with pytest.raises(DatabaseError, match='"ledger" already exists'):
        store.catch_up(projection)
    assert store.projections() == []
    connection.execute(f"DROP TABLE {schema}.ledger")
    store.catch_up(projection)
    assert ledger_of(connection, schema) == [1]


def test_processes_that_start_together_create_tables_once(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    found = psycopg.conninfo.make_conninfo(url, options=f"-csearch_path={schema}")
    with ExitStack() as opened:
        stores = [
            opened.enter_context(EventStore.connect(found, schema=schema, events=EVENTS))
            for _ in range(4)
        ]
        stores[0].append("a-1", Paid(1, "x"), expected=ANY)
        pool = opened.enter_context(ThreadPoolExecutor(4))
        projectors = [opened.enter_context(store.projector(Made)) for store in stores]
        taken = list(pool.map(lambda projector: projector.take_over(), projectors))
        assert sorted(taken) == [False, False, False, True]
        projectors[taken.index(True)].step()
    assert ledger_of(connection, schema) == [1]


def test_ddl_is_text(connect_sync: Connect) -> None:
    class Odd(Ledger):
        ddl = b"CREATE TABLE ledger ()"  # type: ignore[assignment]

    with pytest.raises(InvalidInput, match="ddl of projection 'ledger' must be text"):
        connect_sync(events=EVENTS).projector(Odd)


def test_what_was_written_under_a_lease_that_ended_meanwhile_is_undone(
    sync_store: EventStore, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    class Superseded(Ledger):
        @handles(Paid)
        def paid(self, event: RecordedEvent, own: psycopg.Connection) -> None:
            super().paid(event, own)
            connection.execute(f"UPDATE {schema}.projection_partitions SET token = token + 1")

    with EventStore.connect(ledger, schema=schema, events=EVENTS) as store:
        store.append("a-1", Paid(1, "x"), expected=ANY)
        projector = store.projector(Superseded)
        projector.take_over()
        with pytest.raises(LeaseLost):
            projector.step()
    assert ledger_of(connection, schema) == []


def test_a_batch_of_which_it_is_not_known_whether_it_was_stored_is_not_taken_in_again(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS) as store:
        write_some(store)
        projector = store.projector(Receipts)
        projector.take_over()
        engine: Any = store._engine
        execute = engine._execute

        def execute_and_lose(statement: Statement, **options: Any) -> Rows:
            rows: Rows = execute(statement, **options)
            if statement.name == "projections.commit":
                raise ConnectionLost("in the middle of the answer")
            return rows

        engine._execute = execute_and_lose
        with pytest.raises(ConnectionLost):
            projector.step()
        engine._execute = execute
        write_some(store)
        projector.step()

        assert store.documents(Receipts).read("all") == {"cents": 46}
        assert store.projections("receipts")[0].partitions[0].handled == 8


def test_a_handler_whose_transaction_was_undone_by_the_database_has_not_failed(
    sync_store: EventStore, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    """A deadlock, as the server tells it: an append is repeated, a step says what happened."""

    class Deadlocked(Ledger):
        times = 0

        @handles(Paid)
        def paid(self, event: RecordedEvent, own: psycopg.Connection) -> None:
            super().paid(event, own)
            self.times += 1
            if self.times == 1:
                own.execute("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$")

    class Inline(Deadlocked):
        name = "inline-ledger"

    with EventStore.connect(ledger, schema=schema, events=EVENTS, inline=[Inline]) as store:
        store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
        projector = store.projector(Deadlocked)
        projector.take_over()
        with pytest.raises(TransactionConflict):
            projector.step()
        projector.step()
    assert ledger_of(connection, schema) == [1, 1]


def test_a_projection_may_take_a_batch_at_once_and_name_its_query(
    sync_store: EventStore, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    class Batched(TableProjection):
        name = "batched"
        query = Query(stream_prefix="a-")

        @handles(Paid)
        def project(self, events: Sequence[RecordedEvent], own: psycopg.Connection) -> None:
            with own.cursor() as cursor:
                rows = [[event.data.cents] for event in events]
                cursor.executemany("INSERT INTO ledger VALUES (%s)", rows)

    class Inline(Batched):
        name = "inline-batched"

    with EventStore.connect(ledger, schema=schema, events=EVENTS, inline=[Inline]) as store:
        store.append("a-1", [Opened("x"), Paid(1, "x"), Paid(2, "x")], expected=NO_STREAM)
        store.append("b-1", Paid(4, "x"), expected=NO_STREAM)
        assert ledger_of(connection, schema) == [1, 2]
        store.catch_up(Batched)
    assert ledger_of(connection, schema) == [1, 2, 1, 2]


def test_a_batch_whose_answer_was_lost_is_counted_once(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS) as store:
        write_some(store)
        projector = store.projector(Receipts)
        projector.take_over()
        engine: Any = store._engine
        execute = engine._execute

        def execute_twice(statement: Statement, **options: Any) -> Rows:
            if statement.name == "projections.commit":
                execute(statement, **options)
            result: Rows = execute(statement, **options)
            return result

        engine._execute = execute_twice
        projector.step()
        assert dict(store.documents(Receipts).find()) == RECEIPTS
        assert store.projections("receipts")[0].partitions[0].handled == 4


def test_a_table_is_written_in_the_transaction_of_the_append(
    connect: Connect, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    projection = Ledger if connect.variant == "sync" else AsyncLedger
    store = connect(ledger, events=EVENTS, inline=[projection])
    store.append("a-1", Paid(1, "x"), expected=ANY)
    with pytest.raises(ProjectionFailed):
        store.append("a-1", [Paid(3, "x"), Paid(13, "x")], expected=ANY)
    assert ledger_of(connection, schema) == [1]


# Lost answers to commits ----------------------------------------------------------------------


def waits_for_a_row(connection: psycopg.Connection) -> bool:
    waiting = "SELECT pid FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
    return connection.execute(waiting).fetchone() is not None


@pytest.mark.parametrize("is_under_way", [False, True], ids=["committed", "under_way"])
def test_a_table_takes_each_event_once_when_the_answer_to_the_commit_is_lost(
    connect: Connect,
    ledger: str,
    connection: psycopg.Connection,
    schema: str,
    is_under_way: bool,
) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(ledger))
        thread = stack.enter_context(ThreadPoolExecutor(1))
        store = connect(proxy.url, events=EVENTS)
        connect(events=EVENTS).append("a-1", [Paid(1, "x"), Paid(2, "x")], expected=ANY)
        projector = store.projector(of_variant(store, Ledger, AsyncLedger))
        assert projector.take_over()
        if is_under_way:
            at_commit = stopped_at(
                ledger, schema, "projection_partitions", "UPDATE", at_commit=True
            )
            place = stack.enter_context(at_commit)
            step = thread.submit(projector.step)
            place.wait_until_reached()
            proxy.cut()
            with pytest.raises(ConnectionLost):
                step.result(30)
            step = thread.submit(projector.step)
            wait_until(lambda: waits_for_a_row(connection))
            place.release()
            step.result(30)
        else:
            proxy.cut_after(b"COMMIT\0")
            with pytest.raises(ConnectionLost):
                projector.step()
            proxy.cut_after(None)
            projector.step()
        assert ledger_of(connection, schema) == [1, 2]
        assert projector.position == store.head()


def test_a_table_without_events_in_a_batch_keeps_its_lease_when_the_answer_is_lost(
    connect: Connect, ledger: str
) -> None:
    with Proxy(ledger) as proxy, ThreadPoolExecutor(1) as thread:
        store = connect(proxy.url, events=EVENTS)
        connect(events=EVENTS).append("a-1", Opened("x"), expected=ANY)
        projector = store.projector(of_variant(store, Ledger, AsyncLedger))
        assert projector.take_over()
        proxy.cut_after(b"projection_advance")
        step = thread.submit(projector.step)
        wait_until(lambda: proxy.cuts)
        proxy.cut_after(None)
        assert step.result(30).events == ()
        assert projector.is_holding


@pytest.mark.parametrize("is_under_way", [False, True], ids=["committed", "under_way"])
def test_an_inline_projection_takes_an_append_once_when_the_answer_to_its_commit_is_lost(
    connect: Connect,
    ledger: str,
    connection: psycopg.Connection,
    schema: str,
    is_under_way: bool,
) -> None:
    tables = Ledger if connect.variant == "sync" else AsyncLedger
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(ledger))
        thread = stack.enter_context(ThreadPoolExecutor(1))
        store = connect(proxy.url, events=EVENTS, inline=[tables, Receipts])
        if is_under_way:
            at_commit = stopped_at(ledger, schema, "events", at_commit=True)
            place = stack.enter_context(at_commit)
            appending = thread.submit(store.append, "a-1", Paid(5, "x"), expected=NO_STREAM)
            place.wait_until_reached()
            proxy.cut()
            wait_until(lambda: waits_for_a_row(connection))
            place.release()
        else:
            proxy.cut_after(b"COMMIT\0")
            appending = thread.submit(store.append, "a-1", Paid(5, "x"), expected=NO_STREAM)
            wait_until(lambda: proxy.cuts)
            proxy.cut_after(None)
        assert appending.result(30).idempotent
        assert ledger_of(connection, schema) == [5]
        assert store.documents(Receipts).read("x") == {"cents": 5}


def test_what_is_elsewhere_gets_each_event_at_least_once(connect: Connect) -> None:
    seen = []

    class Elsewhere(ExternalProjection):
        name = "elsewhere"
        fails = True

        @handles(Paid)
        def paid(self, event: RecordedEvent) -> None:
            seen.append(event.data.cents)
            if event.data.cents == 2 and self.fails:
                raise OSError("it is not there")

    class AsyncElsewhere(Elsewhere):
        @handles(Paid)
        async def paid(self, event: RecordedEvent) -> None:  # type: ignore[override]
            Elsewhere.paid(self, event)

    store = connect(events=EVENTS)
    projection = of_variant(store, Elsewhere, AsyncElsewhere)()
    store.append("a-1", [Paid(1, "x"), Paid(2, "x"), Paid(3, "x")], expected=ANY)
    with pytest.raises(ProjectionFailed, match="not there"):
        store.catch_up(projection)
    projection.fails = False
    store.catch_up(projection)
    assert seen == [1, 2, 1, 2, 3]

    store.renew_epoch()
    with pytest.raises(EpochMismatch):
        store.catch_up(projection)
    store.catch_up(Receipts)  # was restored together with its checkpoint


def test_a_batch_looks_up_what_it_needs_at_once(
    connect: Connect, ledger: str, connection: psycopg.Connection, schema: str
) -> None:
    looked_up = []

    class Named(DocumentProjection[dict]):
        name = "named"

        def enrich(self, events: Sequence[RecordedEvent], connection: Any) -> dict[int, str]:
            looked_up.append(len(events))
            rows = connection.execute("SELECT cents, 'name ' || cents FROM ledger").fetchall()
            return dict(rows)

        @handles(Paid)
        def paid(self, found: dict | None, event: RecordedEvent, known: dict[int, str]) -> dict:
            return {"name": known[event.data.cents]}

    class AsyncNamed(Named):
        async def enrich(  # type: ignore[override]
            self, events: Sequence[RecordedEvent], connection: Any
        ) -> dict[int, str]:
            looked_up.append(len(events))
            rows = await connection.execute("SELECT cents, 'name ' || cents FROM ledger")
            return dict(await rows.fetchall())

    connection.execute(f"INSERT INTO {schema}.ledger VALUES (1), (2)")
    store = connect(ledger, events=EVENTS)
    projection = of_variant(store, Named, AsyncNamed)
    store.append("a-1", [Paid(1, "x"), Paid(2, "x")], expected=ANY)

    store.catch_up(projection)

    assert store.documents(projection).read("a-1") == {"name": "name 2"}
    assert store.project(projection, "a-1").document == {"name": "name 2"}
    assert store.verify(projection).holds
    assert looked_up == [2, 2, 2]


# Waiting, verifying ----------------------------------------------------------------------------


def test_waiting_for_a_projection_ends_when_it_is_as_far(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Receipts])
    result = store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
    with store.projector(Accounts) as projector:
        projector.take_over()
        with pytest.raises(WaitTimeout):
            store.wait_for("accounts", result.position, timeout=0.02)
        projector.step()
    assert store.wait_for("accounts", result.position) == result.position
    with pytest.raises(GroupNotFound) as missing:
        store.wait_for("nobody", 1)
    assert "'accounts', 'receipts'" in missing.value.__notes__[0]
    with pytest.raises(ProjectionNotFound, match="'accounts', 'receipts'"):
        store.projections("nobody")


def test_waiting_for_an_inline_projection_waits_for_no_head(
    sync_store: EventStore, url: str, schema: str
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS, inline=[Receipts]) as store:
        with sync_store.transaction() as holding:
            holding.append("b-1", NewEvent("Other", {}), expected=ANY)
            result = store.append("a-1", Paid(1, "x"), expected=NO_STREAM)
            assert store.head() < result.position
            assert store.wait_for("receipts", result.position, timeout=0) == result.position


def test_a_document_that_is_not_what_its_events_say_is_found(
    connect_sync: Connect, connection: psycopg.Connection, schema: str
) -> None:
    store = connect_sync(events=EVENTS)
    write_some(store)
    store.catch_up(Accounts)
    store.append("account-1", Paid(1, "x"), expected=ANY)  # beyond the checkpoint
    assert store.verify(Accounts).holds

    connection.execute(
        f"UPDATE {schema}.projection_documents SET document = '{{}}' WHERE key = 'account-1'"
    )
    connection.execute(
        f"UPDATE {schema}.projection_documents SET key = 'account-9' WHERE key = 'account-2'"
    )
    found = store.verify(Accounts)

    assert (found.holds, found.documents, found.differing) == (False, 2, 3)
    assert [(each.key, each.kept, each.folded) for each in found.differences] == [
        ("account-1", {}, {"owner": "ann", "cents": -15}),
        ("account-2", None, {"owner": "cid", "cents": -8}),
        ("account-9", {"owner": "cid", "cents": -8}, None),
    ]


def test_an_event_whose_key_could_not_be_told_is_left_out_of_the_verification(
    connect: Connect, connection: psycopg.Connection, schema: str
) -> None:
    class Owners(DocumentProjection[dict]):
        name = "owners"

        def key(self, event: RecordedEvent) -> str:
            return str(event.data["owner"])

        @handles("Opened")
        def opened(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"count": (document or {"count": 0})["count"] + 1}

    store = connect()
    with store.projector(Owners) as projector:
        assert projector.take_over()
        store.append("a", NewEvent("Opened", {"owner": "ann"}), expected=ANY)
        projector.step()
        position = store.append("a", NewEvent("Opened", {}), expected=ANY).position
        with pytest.raises(ProjectionFailed):
            projector.step()
    connection.execute(
        f"INSERT INTO {schema}.projection_parked (projection_id, position, partition, error)"
        f" SELECT id, %s, 0, 'no' FROM {schema}.projections",
        [position],
    )
    connection.execute(f"UPDATE {schema}.projection_partitions SET position = %s", [position])
    found = store.verify(Owners)
    assert (found.holds, found.events, found.checkpoint) == (True, 1, position)


def test_a_store_whose_appends_pass_by_inline_projections_says_which(
    connect: Connect, url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    with EventStore.connect(url, schema=schema, events=EVENTS, inline=[Accounts, Receipts]):
        assert caplog.messages == []
    connect(events=EVENTS, inline=[Accounts])
    (told,) = caplog.messages
    assert "receipts (version 1)" in told
    assert "accounts" not in told


def test_an_inline_projection_is_what_its_events_say(connect: Connect) -> None:
    store = connect(events=EVENTS, inline=[Accounts])
    write_some(store)
    assert store.verify(Accounts).holds


# Errors ----------------------------------------------------------------------------------------


def test_another_projection_under_the_same_version_is_refused(connect: Connect) -> None:
    class Other(Receipts):
        indexes = ("cents",)

    class Newer(Other):
        version = 2

    store = connect(events=EVENTS)
    store.catch_up(Receipts)
    with pytest.raises(ProjectionDefinitionChanged, match="increase its version"):
        store.catch_up(Other)
    with pytest.raises(ProjectionDefinitionChanged):
        connect(events=EVENTS, inline=[Receipts])
    projector = store.projector(Newer)
    assert projector.take_over()
    projector.close()
    assert [build.state for build in store.projections("receipts")] == ["serving", "building"]
    store.append("a-1", Paid(1, "x"), expected=ANY)
    assert store.catch_up(Newer) == store.head()  # although the older one has not caught up


def test_a_projection_that_is_none_is_refused(sync_store: EventStore, connect: Connect) -> None:
    class Nameless(DocumentProjection[dict]):
        @handles("Paid")
        def paid(self, document: object, event: RecordedEvent) -> dict:
            return {}

    class Idle(DocumentProjection[dict]):
        name = "idle"

    class Untold(DocumentProjection):  # type: ignore[type-arg]
        name = "untold"

        @handles("Paid")
        def paid(self, document: object, event: RecordedEvent) -> dict:
            return {}

    store = connect(events=EVENTS)
    for wrong, told in (
        (Nameless, "projection must be text"),
        (Idle, "has no handlers"),
        (Untold, "does not name the class of its documents"),
        (object(), "a projection must be a DocumentProjection"),
    ):
        with pytest.raises(InvalidInput, match=told):
            store.project(wrong)
    with pytest.raises(InvalidInput, match="live"):
        store.project(of_variant(store, Ledger, AsyncLedger))
    with pytest.raises(InvalidInput, match="no documents"):
        store.documents(of_variant(store, Ledger, AsyncLedger))
    with pytest.raises(InvalidInput, match=r"must be a (coroutine|plain)"):
        store.projector(of_variant(store, AsyncLedger, Ledger))
    with pytest.raises(InvalidInput, match="partition must be from 0 to 0"):
        store.projector(Receipts, partition=1)
    with pytest.raises(InvalidInput, match="lease"):
        store.projector(Receipts, lease=0)
    with pytest.raises(UnregisteredEventClass):
        connect(inline=[Receipts])
    with pytest.raises(InvalidInput, match="two methods"):

        class Twice(Receipts):
            @handles(Paid)
            def again(self, document: object, event: RecordedEvent) -> dict:
                return {}

            @handles(Paid)
            def once_more(self, document: object, event: RecordedEvent) -> dict:
                return {}


def test_a_document_that_does_not_fit_its_class_says_what_to_do(connect_sync: Connect) -> None:
    @dataclass(frozen=True)
    class Addressed:
        street: str

    class Moved(DocumentProjection[Addressed]):
        name = "accounts"
        indexes = ("owner",)

        @handles(Opened, Paid, Closed)
        def handled(self, document: Addressed | None, event: RecordedEvent) -> Addressed:
            return Addressed("some street")

    store = connect_sync(events=EVENTS)
    write_some(store)
    store.catch_up(Accounts)
    with pytest.raises(InvalidInput, match="increase the version of the projection"):
        store.documents(Moved).read("account-1")
    store.append("account-1", Paid(1, "x"), expected=ANY)
    with pytest.raises(ProjectionFailed, match="increase the version of the projection"):
        store.catch_up(Moved)
