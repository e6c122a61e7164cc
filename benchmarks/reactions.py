"""Readers: how soon they react to an append at a steady rate, and how fast they catch up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import psycopg

from benchmarks import ours
from benchmarks.harness import Bound, Role, Turn, Work, in_threads
from benchmarks.machine import Bench
from benchmarks.reads import fill
from indelible import ANY, EventStore, NewEvent, Query

_SCHEMA = "bench_reactions"
_CATCH_UP = "bench_catch_up"
_RATE = 1_000

Note = Callable[[int], None]


class Reaction:
    """A reader at work while a process of its own appends at a steady rate.

    Each event carries the moment before its append; the handler looks at the clock.
    """

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, name: str, writer: str = "append") -> None:
        self.name = name
        self._writer = writer
        self._store = EventStore.connect(bench.url, schema=_SCHEMA)

    def turn(self, bench: Bench) -> Turn:
        wanted = int(_RATE * bench.seconds)
        late: list[int] = []
        all_came = threading.Event()

        def note(at: int) -> None:
            late.append(time.time_ns() - at)
            if len(late) == wanted:
                all_came.set()

        with ExitStack() as reading:
            reading.callback(self._react(bench, note))
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.reactions",
                    self._writer,
                    bench.url,
                    str(bench.seconds),
                ],
                check=True,
            )
            if not all_came.wait(30):
                raise RuntimeError(f"{self.name}: {len(late)} of {wanted} events came")
        return Turn(wanted, bench.seconds, late)

    def _react(self, bench: Bench, note: Note) -> Callable[[], None]:
        raise NotImplementedError

    def close(self) -> None:
        self._store.close()


class SubscriptionReaction(Reaction):
    """A subscription from the head on."""

    def _react(self, bench: Bench, note: Note) -> Callable[[], None]:
        subscription = self._store.subscribe(after="head")

        def read() -> None:
            for event in subscription:
                note(event.data["at"])

        thread = _started(read)

        def stop() -> None:
            subscription.stop()
            thread.join()

        return stop


class GroupReaction(Reaction):
    """A consumer group with one worker."""

    def _react(self, bench: Bench, note: Note) -> Callable[[], None]:
        group = self._store.group(f"reaction-{uuid4()}")
        group.create(Query(types="Reacted"), start="head")
        consumer = group.consume()

        def work() -> None:
            for delivery in consumer:
                note(delivery.data["at"])
                delivery.ack()

        thread = _started(work)
        while consumer.slices == 0:
            time.sleep(0.01)

        def stop() -> None:
            consumer.stop()
            thread.join()
            consumer.close()
            group.delete()

        return stop


class NotifyReaction(Reaction):
    """A NOTIFY in every commit, which serialises them, and a reader that may miss rows."""

    role: Role = "limit"

    def _react(self, bench: Bench, note: Note) -> Callable[[], None]:
        stopped = threading.Event()
        connection = psycopg.connect(bench.url, autocommit=True)
        connection.execute("LISTEN bench_limit")
        row = connection.execute("SELECT coalesce(max(id), 0) FROM bench_limit").fetchone()

        def read() -> None:
            last = row[0] if row else 0
            while not stopped.is_set():
                list(connection.notifies(timeout=0.1, stop_after=1))
                rows = connection.execute(
                    "SELECT id, at FROM bench_limit WHERE id > %s ORDER BY id", [last]
                ).fetchall()
                for row_id, at in rows:
                    last = row_id
                    note(at)
            connection.close()

        thread = _started(read)

        def stop() -> None:
            stopped.set()
            thread.join()

        return stop


class CatchUp:
    """Reads a log of old events to its end, through a subscription or a group."""

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, name: str, events: int, workers: int) -> None:
        self.name, self._events, self._workers = name, events, workers
        self._store = EventStore.connect(bench.url, schema=_CATCH_UP, pool_size=20)

    def turn(self, bench: Bench) -> Turn:
        begun = time.perf_counter()
        if self._workers:
            self._consume()
        else:
            with self._store.subscribe() as subscription:
                for count, _ in enumerate(subscription, 1):
                    if count == self._events:
                        break
        return Turn(self._events, time.perf_counter() - begun)

    def _consume(self) -> None:
        group = self._store.group(f"catch-up-{uuid4()}")
        group.create()
        handled = [0] * self._workers
        with ExitStack() as stack:
            consumers = [stack.enter_context(group.consume()) for _ in range(self._workers)]

            def work(number: int) -> None:
                for delivery in consumers[number]:
                    delivery.ack()
                    handled[number] += 1

            threads = [_started(lambda n=number: work(n)) for number in range(self._workers)]  # type: ignore[misc]
            while sum(handled) < self._events:
                time.sleep(0.005)
            for consumer in consumers:
                consumer.stop()
            for thread in threads:
                thread.join()
        group.delete()

    def close(self) -> None:
        self._store.close()


class Head:
    """Asks for the head, beside connections that do nothing."""

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, idle: int) -> None:
        self.name = f"head() beside {idle} idle connections"
        self._store = EventStore.connect(bench.url, schema=_SCHEMA)
        self._idle = [psycopg.connect(bench.url, autocommit=True) for _ in range(idle)]

    def turn(self, bench: Bench) -> Turn:
        return in_threads(1, bench.seconds / 2, lambda writer, times: bool(self._store.head()) or 1)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._store.close()


def _started(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def works(*, is_quick: bool) -> list[Work]:
    events = 5_000 if is_quick else 100_000

    def subscription(bench: Bench) -> Reaction:
        ours.migrated(bench, _SCHEMA)
        return SubscriptionReaction(bench, name="Indelible, subscription")

    def group(bench: Bench) -> Reaction:
        return GroupReaction(bench, name="Indelible, consumer group")

    def notify(bench: Bench) -> Reaction:
        bench.execute(
            "DROP TABLE IF EXISTS bench_limit;"
            " CREATE TABLE bench_limit (id bigserial PRIMARY KEY, at bigint NOT NULL)"
        )
        return NotifyReaction(bench, name="NOTIFY in every commit", writer="notify")

    def catching_up(bench: Bench) -> CatchUp:
        fill(bench, _CATCH_UP, streams=1_000, events=events)
        return CatchUp(bench, name="Indelible, subscription", events=events, workers=0)

    def consuming(workers: int) -> Callable[[Bench], CatchUp]:
        name = f"Indelible, group of {workers}"
        return lambda bench: CatchUp(bench, name=name, events=events, workers=workers)

    return [
        Work(
            f"append to handler at {_RATE:,} events/s",
            "events/s",
            (subscription, group, notify),
            bounds=(Bound(50, 5.0), Bound(99, 25.0)),
        ),
        Work("catch up", "events/s", (catching_up, *map(consuming, (1, 2, 4)))),
        Work(
            "ask for the head",
            "calls/s",
            (lambda bench: Head(bench, idle=0), lambda bench: Head(bench, idle=80)),
        ),
    ]


# The writers, each a process of its own -----------------------------------------------------------


def _paced(seconds: float) -> Iterator[int]:
    begun = time.perf_counter()
    for number in range(int(_RATE * seconds)):
        while (ahead := begun + number / _RATE - time.perf_counter()) > 0:
            time.sleep(ahead)
        yield number


def _append(url: str, seconds: float) -> None:
    with EventStore.connect(url, schema=_SCHEMA) as store:
        for number in _paced(seconds):
            event = NewEvent("Reacted", {"at": time.time_ns()})
            store.append(f"order-{number % 500}", event, expected=ANY)


def _notify(url: str, seconds: float) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in _paced(seconds):
            with connection.transaction():
                connection.execute("INSERT INTO bench_limit (at) VALUES (%s)", [time.time_ns()])
                connection.execute("NOTIFY bench_limit")


if __name__ == "__main__":
    how, database, length = sys.argv[1:]
    (_append if how == "append" else _notify)(database, float(length))
