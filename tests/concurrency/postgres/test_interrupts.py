"""Threads that are interrupted anywhere: by Ctrl-C or by a time limit that a signal enforces.

Other threads never wait for an interrupted one, and no connection is lost.
"""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack

import pytest

from indelible import ANY, EventStore, NewEvent
from tests.support.interrupts import Interrupt, interrupted_at

_SOON = 10
_FILES = (
    "indelible/postgres/group_commit.py",
    "indelible/postgres/commit_queue.py",
    "indelible/postgres/engine.py",
    "indelible/postgres/pool.py",
    "indelible/postgres/connection.py",
    "indelible/postgres/direct.py",
    "indelible/core/gc.py",
    "indelible/subscriptions/notifier.py",
    "indelible/subscriptions/head_watcher.py",
    "psycopg_pool/pool.py",
    "psycopg/connection.py",
    "psycopg/transaction.py",
    "contextlib.py",
    "queue.py",
    "threading.py",
)
_CONNECTIONS = 2


@pytest.fixture
def neighbours() -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(8)
    yield threads
    threads.shutdown(cancel_futures=True)


@pytest.fixture
def small_store(url: str, schema: str) -> Iterator[EventStore]:
    with EventStore.connect(url, schema=schema, pool_size=_CONNECTIONS, timeout=_SOON) as store:
        store.append("a-1", event(), expected=ANY)
        yield store


def event() -> NewEvent:
    return NewEvent("Happened", {})


def append(store: EventStore, stream: str = "a-1") -> None:
    store.append(stream, event(), expected=ANY)


def read(store: EventStore) -> None:
    assert list(store.read("a-1", limit=1))


def append_in_a_transaction(store: EventStore) -> None:
    with store.transaction() as transaction:
        transaction.append("a-1", event(), expected=ANY)


def append_to_two_streams(store: EventStore) -> None:
    append_in_a_transaction(store)
    append(store, "b-1")


def outcomes(futures: list[Future[None]], told: object) -> None:
    _, late = wait(futures, timeout=_SOON)
    assert not late, f"{told}: neighbours wait"
    for future in futures:
        future.result()


@pytest.mark.parametrize("work", [append, read, append_in_a_transaction])
def test_wherever_a_thread_is_interrupted_its_neighbours_go_on(
    work: Callable[[EventStore], None],
    small_store: EventStore,
    neighbours: ThreadPoolExecutor,
) -> None:
    place = 1
    while True:
        with interrupted_at(place, *_FILES) as interrupted:
            work(small_store)
        assert gc.isenabled(), place
        if not interrupted.happened:
            break
        streams = ["a-1", "a-1", "b-1", "c-1"]
        futures = [neighbours.submit(append, small_store, stream) for stream in streams]
        futures.append(neighbours.submit(read, small_store))
        outcomes(futures, place)
        place += 1
    assert place > 20
    all_connections_are_there(small_store)


def test_wherever_one_that_waits_for_a_connection_is_interrupted_others_have_it(
    small_store: EventStore, neighbours: ThreadPoolExecutor
) -> None:
    place = 1
    while True:
        with ExitStack() as held:
            for _ in range(_CONNECTIONS):
                held.enter_context(small_store.transaction())
            ahead = [neighbours.submit(read, small_store)]
            release = threading.Timer(0.02, held.pop_all().close)
            release.start()
            with interrupted_at(place, *_FILES) as interrupted:
                read(small_store)
            outcomes([*ahead, neighbours.submit(read, small_store)], place)
            release.join()
        if not interrupted.happened:
            break
        place += 1
    assert place > 20
    all_connections_are_there(small_store)


def all_connections_are_there(store: EventStore) -> None:
    with ExitStack() as held:
        for _ in range(_CONNECTIONS):
            held.enter_context(store.transaction())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in __del__
def test_a_storm_of_interrupts_harms_nobody_else(url: str, schema: str) -> None:
    acknowledged: list[tuple[str, int]] = []
    errors: list[BaseException] = []
    ends = time.monotonic() + 6
    chosen = random.Random(32)

    def interrupt(signum: int, frame: object) -> None:
        nonlocal is_exposed
        signal.setitimer(signal.ITIMER_REAL, chosen.uniform(0.0001, 0.004))
        if is_exposed:
            is_exposed = False
            raise Interrupt

    def go_on(number: int) -> None:
        try:
            count = 0
            while time.monotonic() < ends:
                count += 1
                stream = f"s-{(number + count) % 6}"
                result = store.append(stream, event(), expected=ANY)
                acknowledged.append((stream, result.position))
        except BaseException as error:
            errors.append(error)

    is_exposed = False
    interrupts = 0
    with EventStore.connect(url, schema=schema, pool_size=4, timeout=20) as store:
        threads = [
            threading.Thread(target=go_on, args=[number], daemon=True) for number in range(5)
        ]
        append(store)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            for thread in threads:
                thread.start()
            count = 0
            while time.monotonic() < ends:
                count += 1
                try:
                    is_exposed = True
                    if count % 3:
                        append(store, f"s-{count % 6}")
                    elif count % 2:
                        read(store)
                    else:
                        append_to_two_streams(store)
                    is_exposed = False
                except Interrupt:
                    interrupts += 1
        finally:
            is_exposed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads), "neighbours wait for ever"
        assert errors == []
        assert interrupts > 50
        for number in range(6):
            append(store, f"s-{number}")
        stored = {(found.stream, found.position) for found in store.read_all()}
        assert set(acknowledged) <= stored
