"""The control connection: leases while all other connections are in use; errors and readers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from indelible import (
    ANY,
    AsyncEventStore,
    Delivery,
    DocumentProjection,
    EventStore,
    ExternalProjection,
    IndelibleError,
    NewEvent,
    RecordedEvent,
    handles,
)
from indelible.subscriptions.head_watcher import HeadWatcher
from tests.conftest import Connect
from tests.support.daemons import Running
from tests.support.interleavings import paused
from tests.support.waiting import wait_until

LEASE = 1.0
LONG = 2.5 * LEASE


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


@pytest.fixture
def work(sync_store: EventStore) -> EventStore:
    """A store with a group and three events, of three slices."""
    sync_store.group("mails").create(lease=LEASE)
    for number in range(3):
        sync_store.append(f"s-{number}", event(number), expected=ANY)
    return sync_store


def one(connection: psycopg.Connection, query: str, *values: object) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def bounded(subscription: Any) -> Iterator[Any]:
    """A subscription that ends by itself where nobody wakes it."""
    giving_up = threading.Timer(20, subscription.stop)
    giving_up.start()
    try:
        with subscription:
            yield subscription
    finally:
        giving_up.cancel()


@contextmanager
def rival(store: EventStore) -> Iterator[list[int]]:
    """Another worker of the group, which takes over what anybody loses; give what it got."""
    taken: list[int] = []
    with store.group("mails").consume() as consumer:

        def work() -> None:
            for delivery in consumer:
                taken.append(delivery.data["number"])
                delivery.ack()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield taken
        finally:
            consumer.stop()
            thread.join()


# Leases while all connections are in use ----------------------------------------------------------


def test_handlers_that_hold_all_connections_longer_than_the_lease_lose_nothing(
    work: EventStore, url: str, schema: str
) -> None:
    begun, handled = threading.Barrier(4), list[int]()

    def handle(delivery: Delivery) -> None:
        with delivery, delivery.transaction():
            begun.wait(20)
            time.sleep(LONG)
            handled.append(delivery.data["number"])

    with (
        EventStore.connect(url, schema=schema, pool_size=3) as store,
        store.group("mails").consume() as consumer,
    ):
        deliveries = [consumer.take(20) for _ in range(3)]
        threads = [threading.Thread(target=handle, args=(d,)) for d in deliveries]
        for thread in threads:
            thread.start()
        begun.wait(20)
        with rival(work) as taken:
            for thread in threads:
                thread.join()
            work.group("mails").wait_for(work.head(), timeout=20)
    assert sorted(handled) == [0, 1, 2]
    assert taken == []


def test_tasks_that_hold_all_connections_longer_than_the_lease_lose_nothing(
    work: EventStore, url: str, schema: str
) -> None:
    handled: list[int] = []

    async def main() -> None:
        begun = asyncio.Barrier(4)

        async def handle(delivery: Any) -> None:
            with delivery:
                async with delivery.transaction():
                    await begun.wait()
                    await asyncio.sleep(LONG)
                    handled.append(delivery.data["number"])

        async with (
            AsyncEventStore.connect(url, schema=schema, pool_size=3) as store,
            store.group("mails").consume() as consumer,
        ):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(handle(await consumer.take(20)))
                await begun.wait()
                all_begun.set()
            await asyncio.to_thread(work.group("mails").wait_for, work.head(), timeout=20)

    all_begun = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert all_begun.wait(20)
    with rival(work) as taken:
        thread.join()
    assert sorted(handled) == [0, 1, 2]
    assert taken == []


def test_a_blocked_event_loop_keeps_its_lease_for_a_while(
    work: EventStore, url: str, schema: str
) -> None:
    blocked, handled = threading.Event(), list[int]()

    async def main() -> None:
        async with (
            AsyncEventStore.connect(url, schema=schema) as store,
            store.group("mails").consume() as consumer,
        ):
            for _ in range(3):
                delivery = await consumer.take(20)
                assert delivery is not None
                with delivery:
                    if not handled:
                        blocked.set()
                        time.sleep(1.5 * LEASE)  # noqa: ASYNC251 - what is not to be done
                    handled.append(delivery.data["number"])

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert blocked.wait(20)
    with rival(work) as taken:
        thread.join()
    assert sorted(handled) == [0, 1, 2]
    assert taken == []


class Slow(ExternalProjection):
    """Takes longer than its lease for a batch."""

    name = "slow"

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.calls = 0

    @handles("Happened")
    def happened(self, event: RecordedEvent) -> None:
        self.calls += 1
        self.begun.set()
        assert self.may_end.wait(60)


class AsyncSlow(ExternalProjection):
    """The same, awaiting."""

    name = "slow"

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.calls = 0

    @handles("Happened")
    async def happened(self, event: RecordedEvent) -> None:
        self.calls += 1
        self.begun.set()
        assert await asyncio.to_thread(self.may_end.wait, 60)


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_daemon_whose_connections_are_all_in_use_keeps_its_partitions(
    variant: str, sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    position = sync_store.append("s-1", event(), expected=ANY).position
    slow = Slow() if variant == "sync" else AsyncSlow()
    other = Slow() if variant == "sync" else AsyncSlow()
    first = Running(variant, url, schema, [slow], lease=LEASE)
    try:
        assert slow.begun.wait(20)
        with first.all_connections():
            second = Running(variant, url, schema, [other], lease=LEASE)
            try:
                wait_until(
                    lambda: (
                        one(connection, f"SELECT count(*) FROM {schema}.projection_workers") == 2
                    )
                )
                time.sleep(LONG)  # without renewals the lease would expire, and `second` take over
            finally:
                second.stop()
        # Only now: a batch that finds no connection to commit with is handled again.
        slow.may_end.set()
        sync_store.wait_for("slow", position, timeout=20)
    finally:
        slow.may_end.set()
        first.stop()
    assert (slow.calls, other.calls) == (1, 0)
    assert first.failure is None


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_projector_at_rest_keeps_its_lease_and_learns_that_it_lost_it(
    variant: str, sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    class Sums(DocumentProjection[dict]):
        name = "sums"

        @handles("Happened")
        def happened(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"sum": (document or {"sum": 0})["sum"] + 1}

    def run() -> None:
        with EventStore.connect(url, schema=schema) as store, store.projector(Sums, lease=0.5) as p:
            p.run(stop)

    async def run_async() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.set = lambda: loop.call_soon_threadsafe(stopped.set)  # type: ignore[method-assign, assignment]
        async with (
            AsyncEventStore.connect(url, schema=schema) as store,
            store.projector(Sums, lease=0.5) as projector,
        ):
            await projector.run(stopped)

    stop = threading.Event()
    thread = threading.Thread(target=run if variant == "sync" else lambda: asyncio.run(run_async()))
    thread.start()

    def token(where: str) -> int:
        query = f"SELECT coalesce(max(token), 0) FROM {schema}.projection_partitions WHERE {where}"
        return int(one(connection, query))

    try:
        wait_until(lambda: token("expires_at > clock_timestamp()") == 1)
        time.sleep(1.5)
        assert token("expires_at > clock_timestamp()") == 1
        # Another worker takes over, and gives the partition back.
        connection.execute(
            f"UPDATE {schema}.projection_partitions SET token = 2, expires_at = '-infinity'"
        )
        wait_until(lambda: token("expires_at > clock_timestamp()") == 3)
    finally:
        stop.set()
        thread.join()


# Lost leases ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_worker_that_hangs_loses_its_lease(
    variant: str, work: EventStore, url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread, or its task, comes to no end with what it does."""
    hangs, over = threading.Event(), threading.Event()

    def main() -> None:
        with (
            EventStore.connect(url, schema=schema) as store,
            store.group("mails").consume() as consumer,
        ):
            assert consumer.take(20) is not None

            def hang() -> float:
                hangs.set()
                over.wait(60)
                return 0.0

            consumer._turn = hang  # type: ignore[method-assign]
            over.wait(60)

    async def main_async() -> None:
        async with (
            AsyncEventStore.connect(url, schema=schema) as store,
            store.group("mails").consume() as consumer,
        ):
            assert await consumer.take(20) is not None

            async def hang() -> float:
                hangs.set()
                await asyncio.to_thread(over.wait, 60)
                return 0.0

            consumer._turn = hang  # type: ignore[method-assign]
            await asyncio.to_thread(over.wait, 60)

    thread = threading.Thread(
        target=main if variant == "sync" else lambda: asyncio.run(main_async())
    )
    thread.start()
    try:
        assert hangs.wait(20)
        hung_at = time.monotonic()
        with rival(work) as taken:
            wait_until(lambda: len(taken) == 3)
        assert time.monotonic() - hung_at < 10 * LEASE
        assert "its worker does not respond" in caplog.text
    finally:
        over.set()
        thread.join()


_WORKER = """
import sys
from indelible import EventStore
url, schema = sys.argv[1:]
with EventStore.connect(url, schema=schema) as store, store.group("mails").consume() as consumer:
    consumer.take()
    print("taken", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_stopped_loses_its_lease(work: EventStore, url: str, schema: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, url, schema],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        with paused(process.pid), rival(work) as taken:
            wait_until(lambda: len(taken) == 3)
    finally:
        process.kill()
        process.communicate()


def test_what_was_given_back_is_not_renewed(
    sync_store: EventStore, schema: str, connection: psycopg.Connection
) -> None:
    """A renewal that comes late: nobody would work for as long as the lease."""
    wakeup = sync_store._wakeup
    assert wakeup is not None
    daemon = sync_store.daemon([Slow()])
    daemon._engine.run(daemon._duty.turn())
    daemon._engine.run(daemon._duty.leave())
    daemon._engine.run(_only(daemon._duty.renewal()))
    assert one(connection, f"SELECT count(*) FROM {schema}.projection_workers") == 0
    with sync_store.projector(Slow()) as projector:
        assert projector.take_over()
        renewal = projector._run.renewal()
    assert renewal is not None
    assert sync_store._engine.run(_only(renewal)) == [(False,)]
    with sync_store.projector(Slow()) as projector:
        assert projector.take_over()


def _only(call: Any) -> Any:
    return (yield call)


# One connection ---------------------------------------------------------------------------------


def test_a_store_has_one_connection_beside_its_pool(
    connect: Connect, url: str, connection: psycopg.Connection
) -> None:
    name = f"counted {time.time_ns()}"
    store = connect(psycopg.conninfo.make_conninfo(url, application_name=name), pool_size=2)
    store.append("s-1", event(), expected=ANY)
    store.group("mails").create(lease=LEASE)
    with store.group("mails").consume() as consumer, store.subscribe() as subscription:
        next(subscription)
        delivery = consumer.take(20)
        assert delivery is not None
        delivery.ack()
        store.append("s-1", event(1), expected=ANY)
        next(subscription)
        with store.transaction(), store.transaction():
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            assert one(connection, query, name) == 3


# Errors that end no reader ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("too many open files"), RuntimeError("no thread")])
def test_an_error_that_nobody_foresaw_ends_no_reader(
    error: Exception,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    look, errors = HeadWatcher._look, [error]

    def fail_once(watch: HeadWatcher, session: Any) -> None:
        if errors and watch.state:
            raise errors.pop()
        look(watch, session)

    monkeypatch.setattr(HeadWatcher, "_look", fail_once)
    with bounded(store.subscribe()) as subscription:
        for number in range(3):
            store.append("s-1", event(number), expected=ANY)
            assert next(subscription).data["number"] == number
    assert not errors
    assert str(error) in caplog.text


def test_a_reader_that_cannot_be_woken_keeps_no_other_from_it(sync_store: EventStore) -> None:
    wakeup = sync_store._wakeup
    assert wakeup is not None

    def fail() -> None:
        raise RuntimeError("the loop is closed")

    wakeup.watch.join("first", fail)
    with bounded(sync_store.subscribe()) as subscription:
        for number in range(2):
            sync_store.append("s-1", event(number), expected=ANY)
            assert next(subscription).data["number"] == number


def test_a_thread_that_cannot_be_started_is_tried_again_and_fails_no_append(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, refusals = threading.Thread.start, list[str]()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "indelible-control" and len(refusals) < 3:
            refusals.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store.append("s-1", event(0), expected=ANY)
    assert len(refusals) == 1
    with store.subscribe() as subscription:
        assert next(subscription).data["number"] == 0
        threading.Timer(0.3, lambda: refusals.append("")).start()
        waiting = threading.Timer(1.0, subscription.stop)
        waiting.start()
        assert list(subscription) == []
        waiting.join()
    assert len(refusals) >= 3
    assert "can't start new thread" in caplog.text


_CANCEL = """
    SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'indelible' AND wait_event_type = 'Lock'
"""


def cancel_until(
    connection: psycopg.Connection, caplog: pytest.LogCaptureFixture, message: str, times: int = 2
) -> None:
    """Cancel whatever waits for a lock, until a reader has said so often that it waits."""

    def is_said() -> bool:
        connection.execute(_CANCEL)
        return sum(message in record.getMessage() for record in caplog.records) >= times

    wait_until(is_said)


def test_a_look_at_the_head_that_is_cancelled_ends_no_reader(
    store: EventStore,
    url: str,
    schema: str,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.group("mails").create(lease=10)
    with store.subscribe() as subscription, store.group("mails").consume() as consumer:
        store.append("s-1", event(0), expected=ANY)
        assert next(subscription).data["number"] == 0
        delivery = consumer.take(20)
        assert delivery is not None
        delivery.ack()
        with psycopg.connect(url) as locking:
            locking.execute(f"LOCK TABLE {schema}.events IN ACCESS EXCLUSIVE MODE")
            cancel_until(connection, caplog, "the log cannot be watched")
        store.append("s-1", event(1), expected=ANY)
        assert next(subscription).data["number"] == 1
        delivery = consumer.take(20)
        assert delivery is not None
        assert delivery.data["number"] == 1


def test_a_read_that_is_cancelled_ends_no_subscription(
    store: EventStore,
    url: str,
    schema: str,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.append("s-1", [event(number) for number in range(2_500)], expected=ANY)
    with store.subscribe() as subscription, psycopg.connect(url) as locking:
        assert next(subscription).data["number"] == 0
        locking.execute(f"LOCK TABLE {schema}.events IN ACCESS EXCLUSIVE MODE")

        def cancel() -> None:
            cancel_until(connection, caplog, "a subscription waits")
            locking.rollback()

        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        for number in range(1, 2_500):
            assert next(subscription).data["number"] == number
        cancelling.join()


def _is_at(store: EventStore, name: str, position: int) -> bool:
    with suppress(IndelibleError):
        return store.wait_for(name, position, timeout=0.1) >= position
    return False


@pytest.mark.parametrize("variant", ["sync", "async"])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("group_workers", "a worker waits"),
        ("projection_partitions", "a projection waits"),
        ("projection_workers", "projections wait"),
    ],
)
def test_a_statement_that_is_cancelled_ends_no_worker_and_no_daemon(
    variant: str,
    table: str,
    message: str,
    sync_store: EventStore,
    url: str,
    schema: str,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handled: list[int] = []

    class Sums(DocumentProjection[dict]):
        name = "sums"

        @handles("Happened")
        def happened(self, document: dict | None, event: RecordedEvent) -> dict:
            return {"sum": (document or {"sum": 0})["sum"] + 1}

    def work() -> None:
        with (
            EventStore.connect(url, schema=schema) as store,
            store.group("mails").consume() as consumer,
        ):
            for _ in range(2):
                delivery = consumer.take(30)
                assert delivery is not None
                delivery.ack()
                handled.append(delivery.data["number"])

    async def work_async() -> None:
        async with (
            AsyncEventStore.connect(url, schema=schema) as store,
            store.group("mails").consume() as consumer,
        ):
            for _ in range(2):
                delivery = await consumer.take(30)
                assert delivery is not None
                delivery.ack()
                handled.append(delivery.data["number"])

    sync_store.group("mails").create(lease=10)
    position = sync_store.append("s-1", event(7), expected=ANY).position
    with psycopg.connect(url) as locking:
        daemon = Running(variant, url, schema, [Sums], lease=10)
        try:
            worker = threading.Thread(
                target=work if variant == "sync" else lambda: asyncio.run(work_async())
            )
            worker.start()
            wait_until(lambda: handled and _is_at(sync_store, "sums", position))
            locking.execute(f"LOCK TABLE {schema}.{table} IN ACCESS EXCLUSIVE MODE")
            if table == "projection_partitions":  # only a batch writes to this table
                sync_store.append("s-2", event(8), expected=ANY)
            cancel_until(connection, caplog, message)
            locking.rollback()
            if table != "projection_partitions":
                sync_store.append("s-2", event(8), expected=ANY)
            position = sync_store.head()
            worker.join()
            sync_store.wait_for("sums", position, timeout=20)
        finally:
            locking.rollback()
            daemon.stop()
    assert handled == [7, 8]
    assert daemon.failure is None
