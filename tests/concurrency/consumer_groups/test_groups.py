"""Groups when connections break, processes stop and handlers are cancelled."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import psycopg
import pytest

from indelible import ANY, ConnectionLost, EventStore, LeaseLost, NewEvent, Query
from indelible.consumer_groups.worker import finish
from tests.conftest import Connect
from tests.support.interleavings import Proxy, paused, stopped_at
from tests.support.waiting import wait_until

LONG = 30.0
"""Seconds after which a test gives up."""


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look more often, so that no test waits for a second."""
    monkeypatch.setattr("indelible.consumer_groups.fetch._RETRIES_PAUSE", 0.05)
    for module in ("lease", "dispatch"):
        monkeypatch.setattr(f"indelible.consumer_groups.{module}.CONTENTION_PAUSE", 0.1)
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", 0.1)


@pytest.fixture
def connection(url: str, schema: str) -> Iterator[psycopg.Connection]:
    """A connection as the owner of the store, which finds its tables by name."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema}")
        yield connection


def append(store: EventStore, stream: str, *numbers: int) -> int:
    """Append events with these numbers; return the position of the last."""
    events = [NewEvent("Happened", {"number": number}) for number in numbers]
    return store.append(stream, events, expected=ANY).position


def taken(consumer: Any) -> Any:
    delivery = consumer.take(LONG)
    assert delivery is not None, "nothing came"
    return delivery


def numbers(store: EventStore, stream: str) -> list[int]:
    return [event.data["number"] for event in store.read(stream)]


def write(delivery: Any, stream: str = "out-1") -> None:
    """Handle an event in a transaction of its own."""
    with delivery, delivery.transaction() as transaction:
        append(transaction, stream, delivery.data["number"])


def waits(connection: psycopg.Connection, schema: str, function: str) -> bool:
    """Whether a session waits for a row in a function of the store."""
    found = connection.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND wait_event <> 'advisory' AND query LIKE %s",
        [f"%{schema}%{function}%"],
    ).fetchone()
    return found is not None


@contextmanager
def joined(connection: psycopg.Connection, group: str = "mails") -> Iterator[tuple[Any, ...]]:
    """A worker by hand, that has all slices: its group and its token."""
    lease = connection.execute(
        "SELECT group_id, token FROM group_join(%s, 'hand', gen_random_uuid())", [group]
    ).fetchone()
    assert lease is not None
    connection.execute(
        "SELECT group_rebalance(%s, %s, 0, '{}', '{}', '{}', '{}', '{}', 1024)", lease
    )
    yield lease


# Exactly once ------------------------------------------------------------------------------------


def test_an_event_whose_commit_outlives_its_connection_is_not_handled_again(
    connect: Connect, connection: psycopg.Connection, url: str, schema: str
) -> None:
    """The server is at the commit when the connection breaks, and the handler can only nack."""
    with Proxy(url) as proxy:
        store = connect(proxy.url)
        group = store.group("mails")
        group.create(Query(channel="a"), retry_after=0)
        append(store, "a-1", 1)
        again: list[Any] = []
        with group.consume() as consumer:

            def work() -> None:
                write(taken(consumer))
                while (delivery := consumer.take(1.5)) is not None:
                    again.append((delivery.stream, delivery.data, delivery.attempt))
                    delivery.ack()

            with stopped_at(url, schema, "events", at_commit=True) as place:
                working = Thread(target=work)
                working.start()
                place.wait_until_reached()
                proxy.cut()
                wait_until(lambda: waits(connection, schema, "group_record_failure"))
                place.release()
            working.join(LONG)
            assert not working.is_alive()
    assert again == []
    with EventStore.connect(url, schema=schema) as reader:
        assert numbers(reader, "out-1") == [1]
        assert reader.group("mails").info().retrying == 0


def test_a_handler_that_runs_its_transaction_again_after_a_commit_in_doubt_is_refused(
    store: EventStore, sync_store: EventStore
) -> None:
    """The first one was committed, and the handler only heard that the connection was lost."""
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(Query(channel="a"), retry_after=0)
    with group.consume() as consumer:
        for is_tracked in (False, True):
            delivery = taken(consumer)
            if is_tracked:
                delivery.nack()
                delivery = taken(consumer)
            with sync_store.transaction() as transaction:
                append(transaction, "out-1", delivery.data["number"])
                transaction._engine.run(finish(consumer._worker, delivery._item))
            with (
                pytest.raises(LeaseLost, match="already finished"),
                delivery.transaction() as transaction,
            ):
                append(transaction, "out-1", 99)
            delivery.nack()
        assert consumer.take(0.3) is None
    assert numbers(sync_store, "out-1") == [1, 2]


def test_a_statement_that_comes_late_does_not_bring_a_finished_event_back(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    """Its first copy was lost with its connection, and is carried out after the second."""
    append(sync_store, "a-1", 1, 2)
    sync_store.group("mails").create()
    event = "SELECT group_{}(%s, %s, 1, slice_of('a-1'), 'a-1', "
    late = [
        event.format("record_attempt") + "{}, 2, NULL, 1, NULL, 0)",
        event.format("record_failure") + "{}, 'retry', 1, 0, '', '', NULL, 1, NULL, 0)",
        event.format("enqueue") + "NULL, 1, NULL, 0)",
    ]
    with joined(connection) as lease:
        finished = "SELECT group_ack(%s, %s, 1, slice_of('a-1'), false, NULL, 1, NULL, 0)"
        assert connection.execute(finished, lease).fetchone() == (True,)
        # A later event of the stream waits for its retry: others would be queued behind it.
        connection.execute(
            "SELECT group_record_failure(%s, %s, 2, slice_of('a-1'), 'a-1', false, 'retry', 1, 0,"
            " '', '',"
            " NULL, 2, NULL, 0)",
            lease,
        )
        assert connection.execute(finished, lease).fetchone() == (False,)
        for statement in late:
            for is_tracked in ("false", "true"):
                connection.execute(statement.format(is_tracked), lease)
        left = connection.execute("SELECT position FROM group_events").fetchall()
        assert left == [(2,)]


# Stopped and cut off ---------------------------------------------------------------------------

_STOPPED = """
import sys
import indelible.consumer_groups.delivery
from indelible import ANY, EventStore, NewEvent
url, schema = sys.argv[1:]
real = indelible.consumer_groups.delivery.finish
def finish(worker, item):
    yield from real(worker, item)
    print("finished", flush=True)
    sys.stdin.readline()
indelible.consumer_groups.delivery.finish = finish
with EventStore.connect(url, schema=schema, pool_size=4) as store:
    with store.group("mails").consume() as consumer:
        try:
            with next(consumer).transaction() as transaction:
                transaction.append("out-1", NewEvent("Happened", {"number": -1}), expected=ANY)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
"""


def test_a_process_stopped_before_its_commit_stops_nobody_for_longer_than_its_lease(
    sync_store: EventStore, url: str, schema: str
) -> None:
    lease = 2.0
    for number in range(20):
        append(sync_store, f"a-{number}", number)
    group = sync_store.group("mails")
    group.create(lease=lease)
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, url, schema],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "finished\n"
        with paused(process.pid), group.consume() as consumer:
            begun = time.monotonic()
            handled = set()
            while len(handled) < 20:
                delivery = consumer.take(5 * lease)
                assert delivery is not None, f"{len(handled)} of 20 came"
                handled.add(delivery.data["number"])
                delivery.ack()
            assert time.monotonic() - begun < 3 * lease + 2
        told, _ = process.communicate("\n", LONG)
        assert told.startswith("ConnectionLost the connection to")
        assert "nothing was stored" in told
    finally:
        process.kill()
        process.communicate()
    assert sync_store.stream("out-1") is None


def test_a_worker_goes_on_while_a_commit_of_its_own_never_arrives(
    connect: Connect, connection: psycopg.Connection, url: str
) -> None:
    """The connection of one handler is lost on its way: the server has the transaction open."""
    with Proxy(url) as proxy:
        store = connect(proxy.url)
        others = [f"b-{number}" for number in range(20)]
        append(store, "a-1", 1)
        for stream in others:
            append(store, stream, 2)
        group = store.group("mails")
        group.create(lease=4, retry_after=0)
        with group.consume() as consumer:
            first = taken(consumer)
            assert first.stream == "a-1"
            proxy.lose_at(b"COMMIT\0")
            begun = time.monotonic()
            with pytest.raises(ConnectionLost), first.transaction() as transaction:
                append(transaction, "a-2", 1)
            proxy.lose_at(None)
            first.nack()
            for _ in others:
                taken(consumer).ack()
            # The event follows when the server has rolled the open transaction back.
            assert connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
                " AND query LIKE '%group_ack%'"
            ).fetchone() == (1,)
            again = taken(consumer)
            assert (again.stream, again.attempt) == ("a-1", 2)
            assert time.monotonic() - begun < 4 + 4
            again.ack()
            assert consumer.take(0.3) is None
            assert group.info().workers[0].token == 1


def test_a_heartbeat_waits_for_no_handler_that_is_about_to_commit(
    sync_store: EventStore, connection: psycopg.Connection, url: str, schema: str
) -> None:
    append(sync_store, "a-1", 1)
    sync_store.group("mails").create()
    with joined(connection) as lease, psycopg.connect(url) as handler:
        handler.execute(f"SET search_path = {schema}")
        handler.execute(
            "SELECT group_ack(%s, %s, 1, slice_of('a-1'), false, NULL, 1, NULL, 0)", lease
        )
        given = "ARRAY[slice_of('a-1'), slice_of('b-1')], '{0, 1}', '{NULL, NULL}', '{NULL, NULL}'"
        connection.execute("SET lock_timeout = '10s'")
        connection.execute(
            f"SELECT group_heartbeat(%s, %s, 1, 0, NULL, 0, 1, NULL, 0, {given})", lease
        )
        # Nor do the other events of its slices when it gives some back.
        connection.execute(
            f"SELECT group_rebalance(%s, %s, 1, {given}, ARRAY[slice_of('b-1')], 0)", lease
        )
        handler.commit()
    stands = "SELECT position, token IS NULL FROM group_slices WHERE slice = slice_of(%s)"
    assert connection.execute(stands, ["a-1"]).fetchone() == (1, False)
    assert connection.execute(stands, ["b-1"]).fetchone() == (1, True)


# Acks sent twice -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "join",
        "heartbeat",
        "rebalance",
        "held",
        "again",
        "next",
        "record_attempt",
        "record_failure",
        "enqueue",
        "ack",
        "leave",
    ],
)
def test_a_statement_whose_answer_is_lost_is_repeated_without_harm(
    sync_store: EventStore,
    connection: psycopg.Connection,
    url: str,
    schema: str,
    statement: str,
) -> None:
    """Nothing is counted twice, and the worker keeps its lease."""
    append(sync_store, "a-1", 1, 2)
    group = sync_store.group("mails")
    group.create(lease=600, retry_after=0, max_attempts=3)
    text = (
        f"group_{statement}("
        if statement not in ("held", "again", "next")
        else {
            "held": "SELECT first.key",
            "again": "extract(epoch FROM first.not_before",
            "next": "group_fetch(",
        }[statement]
    )
    with Proxy(url) as proxy, EventStore.connect(proxy.url, schema=schema, pool_size=4) as store:
        # A prepared statement is sent in two messages; the first does nothing.
        store._engine._prepares = False  # type: ignore[union-attr]
        proxy.cut_after(text.encode())
        told: list[tuple[int, int]] = []
        counted: list[Any] = []

        def work() -> None:
            with store.group("mails").consume() as consumer:
                taken(consumer).nack()
                for _ in range(2):
                    delivery = taken(consumer)
                    told.append((delivery.data["number"], delivery.attempt))
                    if not counted:
                        attempts = "SELECT attempts FROM group_events WHERE position = 1"
                        counted.append(connection.execute(attempts).fetchone())
                    delivery.ack()
                while group.info().checkpoint < 2:
                    assert consumer.take(0.05) is None

        working = Thread(target=work)
        working.start()
        wait_until(lambda: proxy.cuts)
        proxy.cut_after(None)
        working.join(LONG)
        assert not working.is_alive()
    assert told == [(1, 2), (2, 1)]
    assert counted == [(2,)]
    assert connection.execute("SELECT 1 FROM group_events").fetchone() is None
    assert connection.execute("SELECT 1 FROM group_workers").fetchone() is None
    assert group.info().checkpoint == 2
    if statement != "join":
        assert connection.execute("SELECT last_token FROM groups").fetchone() == (1,)


def test_a_worker_that_joins_anew_frees_at_once_what_it_had(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    """Its earlier join, or the end of its lease, is something that it did not hear of."""
    sync_store.group("mails").create(lease=600)
    join = "SELECT group_id, token FROM group_join('mails', 'me', %s)"
    me = "00000000-0000-0000-0000-000000000001"
    first = connection.execute(join, [me]).fetchone()
    assert first is not None
    connection.execute(
        "SELECT group_rebalance(%s, %s, 0, '{}', '{}', '{}', '{}', '{}', 1024)", first
    )
    second = connection.execute(join, [me]).fetchone()
    assert connection.execute("SELECT group_id, token FROM group_workers").fetchall() == [second]
    owned = connection.execute("SELECT 1 FROM group_slices WHERE token IS NOT NULL").fetchone()
    assert owned is None


# Erased ----------------------------------------------------------------------------------------


def test_nothing_is_noted_of_an_event_that_is_erased_while_it_is_handled(
    store: EventStore, connection: psycopg.Connection
) -> None:
    """The text of an error may repeat what it held."""
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(retry_after=0)
    with group.consume() as consumer:
        for act in (lambda found: found.nack("secret"), lambda found: found.park("secret")):
            taken(consumer).nack()
            delivery = taken(consumer)
            store.erase_stream(delivery.stream, reason="asked")
            act(delivery)
            wait_until(lambda: consumer.take(0.01) is None and group.info().queued == 0)
            append(store, "b-1", 3)
            taken(consumer).ack()  # the outcome of the first event is recorded
            append(store, "a-1", 4)
    assert connection.execute("SELECT 1 FROM group_events").fetchone() is None


@pytest.mark.parametrize("first", ["erased", "noted"])
def test_an_erasure_and_a_note_of_the_same_event_leave_no_text(
    sync_store: EventStore, connection: psycopg.Connection, url: str, schema: str, first: str
) -> None:
    """Whichever comes first is stopped in the middle, before it commits."""
    append(sync_store, "a-1", 1)
    group = sync_store.group("mails")
    group.create(retry_after=600)
    erasing = Thread(target=sync_store.erase_stream, args=["a-1"], kwargs={"reason": "asked"})
    table, event = {"erased": ("events", "UPDATE"), "noted": ("group_events", "INSERT")}[first]
    with group.consume() as consumer:
        delivery = taken(consumer)
        with stopped_at(url, schema, table, event) as place:
            if first == "erased":
                erasing.start()
                place.wait_until_reached()
                delivery.nack("secret")
                wait_until(lambda: waits(connection, schema, "group_record_failure"))
            else:
                delivery.nack("secret")
                place.wait_until_reached()
                erasing.start()
                wait_until(lambda: waits(connection, schema, "erase_stream"))
            place.release()
            erasing.join(LONG)
        append(sync_store, "b-1", 2)
        taken(consumer).ack()
    assert connection.execute("SELECT 1 FROM group_events").fetchone() is None
