"""Projections while processes are killed or paused, and during concurrent appends."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import psycopg.conninfo
import pytest

from indelible import (
    ANY,
    AppendResult,
    DocumentProjection,
    EventStore,
    LeaseLost,
    StreamAppend,
    handles,
)
from tests.support.interleavings import stopped_in
from tests.support.projection_runner import Balance, Journal, Moved, Movements
from tests.support.waiting import wait_until

one_server = pytest.mark.parametrize("server_url", ["embedded"], indirect=True, scope="session")
"""For a test of processes, which say the same whatever server they are on."""

_ROOT = Path(__file__).parents[3]
_LEASE = 0.4


@pytest.fixture
def journal_url(url: str, schema: str, connection: psycopg.Connection) -> str:
    """The URL, with the store's schema on the search path, where there is a table `journal`."""
    connection.execute(f"CREATE TABLE {schema}.journal (position bigint, cents int)")
    return psycopg.conninfo.make_conninfo(url, options=f"-csearch_path={schema}")


@contextmanager
def runner_process(
    url: str, schema: str, *, lease: float = _LEASE, pause: float = 0
) -> Iterator[subprocess.Popen[str]]:
    """A process that keeps the projections of `projection_runner` up to date."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.projection_runner",
            url,
            schema,
            str(lease),
            str(pause),
        ],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def move_some(store: EventStore, rng: random.Random, count: int) -> list[Moved]:
    """Append transfers between a few accounts."""
    moved = [
        Moved(rng.randrange(1, 10_000), f"a-{rng.randrange(30)}", f"a-{rng.randrange(30)}")
        for _ in range(count)
    ]
    store.append_many([StreamAppend(event.payer, event, ANY) for event in moved])
    return moved


def handled(store: EventStore) -> int:
    """How many events all projections have taken in."""
    return sum(part.handled for build in store.projections() for part in build.partitions)


@one_server
def test_every_cent_is_counted_once_whenever_processes_are_killed(
    journal_url: str, schema: str, connection: psycopg.Connection
) -> None:
    rng = random.Random(8)
    moved: list[Moved] = []
    with EventStore.connect(journal_url, schema=schema, events=[Moved]) as store:
        for _ in range(3):
            with runner_process(journal_url, schema), runner_process(journal_url, schema):
                begun_with = handled(store)
                while handled(store) <= begun_with:
                    moved += move_some(store, rng, 40)
                until = time.monotonic() + rng.uniform(0, 0.2)
                while time.monotonic() < until:
                    moved += move_some(store, rng, 40)
            # both are killed here, at a random point
        head = store.head()
        for projection in (Movements, Journal):
            for partition in range(projection.partitions):
                with store.projector(projection, partition=partition) as projector:
                    wait_until(projector.take_over, seconds=5)
                    while projector.position < head:
                        projector.step()

        expected: dict[str, Balance] = {}
        for event in moved:
            before = expected.get(event.payer, Balance())
            expected[event.payer] = Balance(before.cents + event.cents, before.moves + 1)
        assert dict(store.documents(Movements).find()) == expected
        assert store.verify(Movements).holds
        assert handled(store) == 2 * len(moved)
    rows = connection.execute(f"SELECT position, cents FROM {schema}.journal").fetchall()
    assert len({position for position, _ in rows}) == len(rows) == len(moved)
    assert Counter(cents for _, cents in rows) == Counter(event.cents for event in moved)


@one_server
def test_a_process_paused_in_its_transaction_is_passed_by_and_commits_nothing(
    journal_url: str, schema: str, connection: psycopg.Connection
) -> None:
    with EventStore.connect(journal_url, schema=schema, events=[Moved]) as store:
        move_some(store, random.Random(1), 3)
        with runner_process(journal_url, schema, lease=1, pause=0.3) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)  # between its statements, with the row locked
            with store.projector(Journal, lease=5) as projector:
                wait_until(projector.take_over, seconds=10)
                projector.step()
                process.send_signal(signal.SIGCONT)
                # it continues after it has found out, or is rejected: no event is counted twice
                move_some(store, random.Random(2), 3)
                while projector.position < store.head():
                    projector.step()
    rows = connection.execute(f"SELECT position FROM {schema}.journal").fetchall()
    assert sorted(position for (position,) in rows) == [1, 2, 3, 4, 5, 6]


def test_whoever_has_passed_the_fence_is_not_taken_over_before_its_commit(
    journal_url: str, schema: str
) -> None:
    """Its lease is over, and the one who wants to take over sees that it is at the commit."""
    taken = []

    class Watched(Journal):
        def moved(self, event, connection):
            time.sleep(0.05)
            taken.append(second.take_over())
            super().moved(event, connection)

    with EventStore.connect(journal_url, schema=schema, events=[Moved]) as store:
        move_some(store, random.Random(1), 2)
        first, second = store.projector(Watched, lease=0.01), store.projector(Journal)
        assert first.take_over()
        first.step()
        assert taken == [False, False]
        time.sleep(0.02)
        wait_until(second.take_over)
        assert second.position == first.position
        with pytest.raises(LeaseLost):
            move_some(store, random.Random(1), 1)
            first.step()


def test_appends_that_meet_at_one_inline_document_lose_nothing(url: str, schema: str) -> None:
    class Everything(Movements):
        name = "everything"

        def key(self, event):
            return ["all", event.data.payer, event.data.payee]

    with EventStore.connect(url, schema=schema, events=[Moved], inline=[Everything]) as store:

        def write(writer: int) -> int:
            rng = random.Random(writer)
            alone = Moved(rng.randrange(100), f"b-{writer}", "a-1")  # may share a commit
            for _ in range(15):
                store.append(alone.payer, alone, expected=ANY)
            many = [event.cents for _ in range(10) for event in move_some(store, rng, 3)]
            return 15 * alone.cents + sum(many)

        with ThreadPoolExecutor(8) as threads:
            cents = sum(threads.map(write, range(8)))
        assert store.documents(Everything).read("all") == Balance(cents, 8 * (15 + 10 * 3))
        assert store.verify(Everything).holds


class Purses(DocumentProjection[Balance]):
    """What came to each account; gone with a payment of nothing."""

    name = "purses"

    def key(self, event):
        return event.data.payee.split()

    @handles(Moved)
    def moved(self, balance, event):
        found = balance or Balance()
        if event.data.cents:
            return Balance(found.cents + event.data.cents, found.moves + 1)
        return None


def blocked(connection: psycopg.Connection) -> int:
    """How many sessions wait for a lock."""
    waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    row = connection.execute(waiting).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("end", ["commit", "rollback", "removal"])
@pytest.mark.parametrize("is_there", [True, False], ids=["there", "new"])
def test_an_append_that_meets_an_open_one_at_a_document_waits_and_takes_what_it_has_left(
    url: str, schema: str, connection: psycopg.Connection, is_there: bool, end: str
) -> None:
    with EventStore.connect(url, schema=schema, events=[Moved], inline=[Purses]) as store:
        if is_there:
            store.append("a-1", Moved(1, "", "x"), expected=ANY)
        later: list[Future[AppendResult]] = []
        with ThreadPoolExecutor(2) as threads, suppress(InterruptedError):
            with store.transaction() as first:
                first.append("a-1", Moved(10 * (end != "removal"), "", "y x"), expected=ANY)
                later += [
                    threads.submit(store.append, stream, Moved(100, "", "x y"), expected=ANY)
                    for stream in ("a-2", "a-3")
                ]
                wait_until(lambda: blocked(connection) == 2)
                found = store.documents(Purses).read("x")
                assert found == (Balance(1, 1) if is_there else None)
                if end == "rollback":
                    raise InterruptedError
        for append in later:
            append.result()
        before = {
            "commit": Balance(10 + is_there, 1 + is_there),
            "rollback": Balance(int(is_there), int(is_there)),
            "removal": Balance(),
        }[end]
        found = Balance(before.cents + 200, before.moves + 2)
        assert store.documents(Purses).read("x") == found
        assert store.verify(Purses).holds


def test_a_transaction_of_very_many_inline_documents_needs_no_room_in_the_lock_table(
    url: str, schema: str, connection: psycopg.Connection
) -> None:
    with EventStore.connect(url, schema=schema, events=[Moved], inline=[Purses]) as store:
        with store.transaction() as transaction:
            for part in range(3):
                keys = " ".join(f"x-{part}-{number}" for number in range(700))
                transaction.append("a-1", Moved(1, "", keys), expected=ANY)
            held = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'advisory'",
                [transaction._engine.connection.info.backend_pid],
            ).fetchone()
            assert held == (2,)  # the lock of the head, and that of the projection
        assert len(store.documents(Purses).find()) == 3 * 700


@one_server
def test_documents_are_never_older_than_the_checkpoint_that_is_told_with_them(
    url: str, schema: str
) -> None:
    class Last(DocumentProjection[dict]):
        name = "last"

        def key(self, event):
            return "all"

        @handles(Moved)
        def moved(self, last, event):
            return {"position": event.position}

    with EventStore.connect(url, schema=schema, events=[Moved]) as store:
        rng = random.Random(1)
        move_some(store, rng, 1)
        store.catch_up(Last)
        is_over = threading.Event()

        def read() -> int:
            documents, reads = store.documents(Last), 0
            while not is_over.is_set():
                found = documents.read_many(["all"])
                assert found["all"]["position"] >= found.checkpoint
                reads += 1
            return reads

        with ThreadPoolExecutor(2) as threads, store.projector(Last) as projector:
            readers = [threads.submit(read) for _ in range(2)]
            projector.take_over()
            for _ in range(100):
                move_some(store, rng, 1)
                projector.step()
            is_over.set()
            assert all(reader.result() > 10 for reader in readers)


class Last(DocumentProjection[dict]):
    """The position of the last event."""

    name = "last"

    def key(self, event):
        return "all"

    @handles(Moved)
    def moved(self, last, event):
        return {"position": event.position, "payer": event.data.payer}


@pytest.mark.parametrize("lifecycle", ["inline", "async"])
@pytest.mark.parametrize(
    "read",
    [
        lambda documents: documents.read_many(["all"]),
        lambda documents: documents.find({"payer": "a-1"}),
        lambda documents: documents.find(),
    ],
    ids=["read", "find", "all"],
)
def test_an_event_that_comes_before_the_head_is_asked_for_is_in_the_documents_told_with_it(
    url: str, schema: str, lifecycle: str, read: Callable[[Any], Any]
) -> None:
    """The reader stops where it asks for the head, and an append goes by."""
    inline = [Last] if lifecycle == "inline" else []
    with EventStore.connect(url, schema=schema, events=[Moved], inline=inline) as store:

        def move() -> int:
            position = store.append("a-1", Moved(1, "a-1", "a-2"), expected=ANY).position
            if not inline:
                projector.take_over()
                while projector.position < position:
                    projector._run.read_up_to(position)  # without querying the head
                    projector.step()
            return position

        with store.projector(Last) as projector, ThreadPoolExecutor(1) as threads:
            move()
            with stopped_in(url, schema, "head", "bigint") as place:
                reading = threads.submit(read, store.documents(Last))
                place.wait_until_reached()
                position = move()
                place.release()
                found = reading.result(30)
            assert found.checkpoint == position
            assert found["all"]["position"] == position
            assert found.is_current
