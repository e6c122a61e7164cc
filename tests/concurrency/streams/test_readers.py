"""Readers under load, with lost connections, restarted servers and poolers: no event is missed."""

from __future__ import annotations

import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from indelible import (
    ANY,
    ConnectionLost,
    DocumentProjection,
    EventStore,
    NewEvent,
    Query,
    RecordedEvent,
    handles,
)
from indelible.errors import DatabaseUnreachable
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from tests.support.daemons import Running
from tests.support.servers import PgBouncer, SystemServer, system_binaries, wheel_binaries
from tests.support.waiting import wait_until


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


class Crew:
    """Threads whose failures fail the test."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self, work: Callable[..., Any], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._failures.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def is_well(self) -> bool:
        assert self._failures == []
        return True

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        self.is_well()


def follow(subscription: Any, seen: list[tuple[int, str, int]]) -> None:
    with subscription:
        seen.extend((found.position, found.stream, found.version) for found in subscription)


def work(consumer: Any, seen: list[tuple[int, str, int]], random: Random | None = None) -> None:
    while (delivery := consumer.take()) is not None:
        seen.append((delivery.position, delivery.stream, delivery.version))
        if random is not None and random.random() < 0.05:
            delivery.nack("now and then")
        else:
            delivery.ack()


def assert_in_order(seen: list[tuple[int, str, int]], *, once: bool) -> None:
    """In each stream no event comes for the first time before one that is lower."""
    highest: dict[str, int] = defaultdict(lambda: -1)
    for _, stream, version in seen:
        assert version <= highest[stream] + 1, (stream, version)
        assert not once or version == highest[stream] + 1
        highest[stream] = max(highest[stream], version)


def test_nothing_is_missed_under_load_with_backends_ended_at_random(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """Writers with savepoints and rollbacks; an unrelated transaction stays open all the time."""
    writers, rounds = 12, 25
    crew = Crew()
    random = Random(7)
    group = sync_store.group("stress")
    group.create(lease=2, retry_after=0.01, max_attempts=50)
    ended = threading.Event()

    def write(number: int) -> None:
        mine = Random(number)
        for round_ in range(rounds):
            with suppress(ConnectionLost, psycopg.OperationalError, DatabaseUnreachable):
                try:
                    with sync_store.transaction() as transaction:
                        for chosen in sorted(mine.sample(range(20), mine.randint(1, 3))):
                            transaction.append(f"s-{chosen:02}", event(round_), expected=ANY)
                            if mine.random() < 0.3:
                                with suppress(ValueError), transaction.transaction() as inner:
                                    inner.append(f"undone-{number}", event(), expected=ANY)
                                    raise ValueError("undo")
                        if mine.random() < 0.2:
                            raise RuntimeError("roll back")
                except RuntimeError:
                    continue

    def terminate() -> None:
        with psycopg.connect(url, autocommit=True, application_name="test") as admin:
            while not ended.wait(0.15):
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
                    " WHERE application_name = 'indelible' AND datname = current_database()"
                    " AND pid <> pg_backend_pid() ORDER BY random() LIMIT %s) AS chosen",
                    [random.randint(1, 3)],
                )

    followed: list[list[tuple[int, str, int]]] = [[] for _ in range(4)]
    worked: list[tuple[int, str, int]] = []
    stores = [EventStore.connect(url, schema=schema, pool_size=4) for _ in range(3)]
    with psycopg.connect(url, application_name="unrelated") as unrelated:
        unrelated.execute(f"CREATE TABLE {schema}.unrelated ()")
        subscriptions = [sync_store.subscribe() for _ in followed]
        consumers = [store.group("stress").consume() for store in stores]
        for subscription, seen in zip(subscriptions, followed, strict=True):
            crew.start(follow, subscription, seen)
        for number, consumer in enumerate(consumers):
            crew.start(work, consumer, worked, Random(number))
        killer = crew.start(terminate)
        writing = [crew.start(write, number) for number in range(writers)]
        for thread in writing:
            thread.join(120)
        ended.set()
        killer.join()

        committed = [(e.position, e.stream, e.version) for e in sync_store.read_all()]
        assert len(committed) > rounds
        wait_until(lambda: crew.is_well() and all(len(s) >= len(committed) for s in followed), 60)
        group.wait_for(committed[-1][0], timeout=60)
        for subscription in subscriptions:
            subscription.stop()
        for consumer in consumers:
            consumer.close()
        crew.join()
        unrelated.rollback()
    for store in stores:
        store.close()

    assert all(seen == committed for seen in followed)
    assert set(worked) == set(committed)
    assert_in_order(worked, once=False)


def test_workers_come_and_go_and_every_stream_stays_in_order(
    sync_store: EventStore, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitioned delivery turns round the order of one stream when workers come or go."""
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", 0.1)
    crew = Crew()
    seen: list[tuple[int, str, int]] = []
    group = sync_store.group("moving")
    group.create()
    total = last = 0
    with group.consume() as first:
        crew.start(work, first, seen)
        for round_ in range(6):
            for number in range(15):
                two = [event(round_), event(round_)]
                last = sync_store.append(f"s-{number}", two, expected=ANY).position
                total += 2
            with EventStore.connect(url, schema=schema, pool_size=3) as other:
                with other.group("moving").consume() as guest:
                    crew.start(work, guest, seen)
                    if round_ % 2:
                        wait_until(lambda guest=guest: guest.slices > 0)  # type: ignore[misc]
                    guest.stop()
        group.wait_for(last, timeout=30)
        first.stop()
        crew.join()

    assert len(seen) >= total
    assert len(set(seen)) == total
    assert_in_order(seen, once=False)


def test_slices_are_shared_evenly(sync_store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", 0.1)
    group = sync_store.group("shared")
    group.create()
    with group.consume() as one, group.consume() as two, group.consume() as three:
        workers = (one, two, three)
        shares = ([340, 342, 342], [341, 341, 342])
        wait_until(lambda: sorted(worker.slices for worker in workers) in shares)
        three.close()
        wait_until(lambda: (one.slices, two.slices) == (512, 512))


# Lost servers ------------------------------------------------------------------------------------


@pytest.fixture(params=["embedded", "system"])
def server(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[SystemServer]:
    """A server of the test's own, to be stopped and started."""
    binaries = wheel_binaries() if request.param == "embedded" else system_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL is installed on this machine")
    with SystemServer(server_folder / f"restarted-{uuid4().hex}", binaries) as server:
        yield server


def test_readers_go_on_by_themselves_after_the_server_was_stopped_and_started(
    server: SystemServer,
) -> None:
    """Also: kill -9 of the server under load leaves a gap at most, and positions go on upward."""
    migrate_store(Settings(server.url))
    crew = Crew()
    ended = threading.Event()
    committed: set[int] = set()
    followed: list[tuple[int, str, int]] = []
    worked: list[tuple[int, str, int]] = []

    def write(store: EventStore, number: int) -> None:
        count = 0
        while not ended.is_set():
            try:
                result = store.append(f"s-{number}", event(count), expected=ANY)
            except (ConnectionLost, DatabaseUnreachable):
                continue
            committed.add(result.position)
            count += 1

    with EventStore.connect(server.url, pool_size=8, timeout=20) as store:
        group = store.group("restart")
        group.create(lease=2)
        subscription = store.subscribe()
        crew.start(follow, subscription, followed)
        with group.consume() as consumer:
            crew.start(work, consumer, worked)
            writing = [crew.start(write, store, number) for number in range(3)]
            for crash in (server.kill, lambda: server.stop("immediate")):
                before = len(worked)
                wait_until(lambda before=before: len(worked) > before + 50)  # type: ignore[misc]
                crash()
                server.start()
            before = len(worked)
            wait_until(lambda: crew.is_well() and len(worked) > before + 50, 60)
            ended.set()
            for thread in writing:
                thread.join(60)

            stored = [(e.position, e.stream, e.version) for e in store.read_all()]
            assert committed <= {position for position, _, _ in stored}
            steps = [after[0] - before[0] for before, after in pairwise(stored)]
            # The append in progress of each writer, and the gap of the sequence.
            assert max(steps) <= 1 + len(writing) + 32
            assert sum(step > 1 for step in steps) <= 2 * (1 + len(writing))
            wait_until(lambda: crew.is_well() and len(followed) >= len(stored), 60)
            group.wait_for(stored[-1][0], timeout=60)
            subscription.stop()
            consumer.stop()
            crew.join()

    assert followed == stored
    assert set(worked) == set(stored)
    assert_in_order(worked, once=False)
    for _, stream, _ in stored:
        versions = [version for _, name, version in stored if name == stream]
        assert versions == list(range(len(versions)))
        break


def test_what_is_written_after_a_crash_stands_above_what_readers_have_passed(
    server_folder: Path,
) -> None:
    """Also of positions of a transaction that was undone: the sequence is not on disk yet."""
    folder = server_folder / f"crashed-{uuid4().hex}"
    with SystemServer(folder, wheel_binaries(), wal_writer_delay="10s") as server:
        migrate_store(Settings(server.url))
        with EventStore.connect(server.url, timeout=20) as store:
            last = store.append("s-1", event(), expected=ANY).position
            with suppress(ValueError), store.transaction() as transaction:
                transaction.append("s-2", [event() for _ in range(100)], expected=ANY)
                raise ValueError("undo")
            assert store.head() == last
            subscription = store.subscribe(after="head")
            server.kill()
            server.start()
            result = store.append("s-3", event(), expected=ANY)
            assert next(subscription).position == result.position > last
            subscription.stop()


def test_a_reader_of_history_waits_for_a_server_that_is_away(
    server: SystemServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("indelible.streams.paging._FIRST_PAGE", 10)
    monkeypatch.setattr("indelible.streams.paging._LARGEST_PAGE", 10)
    for variant in ("", "_async"):
        monkeypatch.setattr(f"indelible.postgres.engine{variant}._IMPATIENCE", 0.1)
    migrate_store(Settings(server.url))
    crew = Crew()
    with EventStore.connect(server.url) as store:
        store.append("s-1", [event(number) for number in range(100)], expected=ANY)
        subscription = store.subscribe()
        seen = [next(subscription).position for _ in range(10)]
        server.stop("immediate")
        rest: list[tuple[int, str, int]] = []
        crew.start(follow, subscription, rest)
        wait_until(lambda: "a subscription waits" in caplog.text)
        server.start()
        wait_until(lambda: crew.is_well() and len(rest) == 90)
        subscription.stop()
        crew.join()
    assert [*seen, *(position for position, _, _ in rest)] == list(range(1, 101))


# Poolers -----------------------------------------------------------------------------------------


@pytest.fixture
def bouncer(url: str, server_folder: Path) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode before the test's server."""
    if shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/bin") is None:
        pytest.skip("pgbouncer is not installed on this machine (Debian: apt install pgbouncer)")
    with PgBouncer(server_folder / f"bouncer-{uuid4().hex}", url) as bouncer:
        yield bouncer


def test_everything_works_behind_a_pooler_in_transaction_mode(
    bouncer: PgBouncer, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """LISTEN does not work, prepared statements are another session's, sessions are shared."""
    store = connect(bouncer.url)
    neighbour = connect(bouncer.url)
    group = store.group("behind")
    group.create(Query(channel="a"), lease=2, retry_after=0.01)
    for number in range(20):
        store.append(f"a-{number % 4}", event(number), expected=ANY)
        neighbour.append(f"b-{number % 4}", event(number), expected=ANY)
    with store.transaction() as transaction:
        transaction.append("a-0", event(20), expected=ANY)

    assert len(list(store.read("a-0"))) == 6
    assert len(list(neighbour.read_all())) == 41
    with store.subscribe(Query(channel="a")) as subscription:
        assert len([next(subscription) for _ in range(21)]) == 21
        neighbour.append("a-1", event(21), expected=ANY)
        assert next(subscription).data["number"] == 21
    with group.consume() as consumer:
        seen = []
        for number in range(22):
            delivery = consumer.take(20)
            assert delivery is not None
            seen.append(delivery.event.position)
            if number == 3:
                delivery.nack("once")
                delivery = consumer.take(20)
                assert delivery is not None
            if number % 2:
                delivery.ack()
            else:
                with delivery.transaction() as tx:
                    tx.append("c-1", event(number), expected=ANY)
    assert any("LISTEN does not work" in record.message for record in caplog.records)


class Numbers(DocumentProjection[dict]):
    name = "numbers"
    partitions = 4

    @handles("Happened")
    def happened(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"sum": (document or {"sum": 0})["sum"] + event.data["number"]}


def test_daemons_and_rebuilds_work_behind_a_pooler_in_transaction_mode(
    bouncer: PgBouncer, schema: str, sync_store: EventStore
) -> None:
    def owners() -> list[str]:
        return sorted(
            part.owner or "" for build in sync_store.projections() for part in build.partitions
        )

    daemons = [
        Running("sync", bouncer.url, schema, [Numbers], lease=0.6, name=name)
        for name in ("first", "second")
    ]
    try:
        wait_until(lambda: owners() == ["first", "first", "second", "second"])
        for number in range(20):
            sync_store.append(f"a-{number % 4}", event(number), expected=ANY)
        with EventStore.connect(bouncer.url, schema=schema) as store:
            store.rebuild(Numbers)
        last = sync_store.append("a-4", event(1), expected=ANY)
        sync_store.wait_for("numbers", last.position)
    finally:
        for daemon in daemons:
            daemon.stop()
    found = sync_store.documents(Numbers).find()
    assert sum(document["sum"] for document in found.values()) == sum(range(20)) + 1
