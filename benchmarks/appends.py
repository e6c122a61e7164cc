"""Appends: alone, from many at once, in batches, and against each other."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks import ours, samples
from benchmarks.harness import Budget, Role, Turn, Work, in_threads
from benchmarks.machine import Bench
from benchmarks.peers import emmett, eventsourcing, limits, message_db, umadb
from indelible import EventStore, WrongExpectedVersion


class Conflicts:
    """Threads that read the version of a hot stream (Zipf), append, and retry when refused."""

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, writers: int) -> None:
        self.name = f"Indelible, {writers} threads"
        self._writers = writers
        self._store = EventStore.connect(
            bench.url, schema=ours.migrated(bench, "bench_conflicts"), events=[samples.OrderCreated]
        )

    def turn(self, bench: Bench) -> Turn:
        return in_threads(self._writers, bench.seconds, self._append)

    def _append(self, writer: int, times: int) -> int:
        stream = f"order-{hot_stream()}"
        found = self._store.stream(stream)
        version = found.version if found else -1
        while True:
            try:
                self._store.append(stream, samples.order(times), expected=version)
                return 1
            except WrongExpectedVersion as conflict:
                version = conflict.actual

    def close(self) -> None:
        self._store.close()


class EventSourcingConflicts(eventsourcing.EventSourcing):
    """The same with the peer: the latest version is read, and read again after a refusal."""

    def _append(self, writer: int, times: int) -> int:
        stream = _STREAM_IDS[hot_stream()]
        while True:
            last = self.recorder.select_events(stream, desc=True, limit=1)
            version = last[0].originator_version + 1 if last else 0
            event = eventsourcing.StoredEvent(
                stream, version, eventsourcing.TOPIC, samples.encode(samples.order(times))
            )
            try:
                self.recorder.insert_events([event])
                return 1
            except eventsourcing.IntegrityError:
                continue


_HOT = 50
_WEIGHTS = [1 / rank for rank in range(1, _HOT + 1)]
_STREAM_IDS = [samples.order(0).order_id for _ in range(_HOT)]


def hot_stream() -> int:
    """Choose a stream: the first is chosen 50 times as often as the last."""
    return random.choices(range(_HOT), _WEIGHTS)[0]


def conflicts(writers: int) -> Callable[[Bench], Conflicts]:
    return lambda bench: Conflicts(bench, writers=writers)


def eventsourcing_conflicts(writers: int) -> Callable[[Bench], EventSourcingConflicts]:
    return lambda bench: EventSourcingConflicts(bench, writers=writers)


WORKS = (
    Work(
        "append 1 event, 1 writer",
        "events/s",
        (
            ours.in_one_thread(),
            ours.tasks(1),
            eventsourcing.appending(),
            eventsourcing.appending(functions=True),
            message_db.appending(),
            emmett.appending(),
            umadb.appending(),
            limits.same_call,
            limits.bare_insert(),
        ),
        (Budget("eventsourcing", 3.0), Budget("pgbench, same call", 0.6)),
    ),
    Work(
        "append 1 event, 4 writers",
        "events/s",
        (
            ours.tasks(4),
            ours.threads(4),
            ours.processes(4),
            eventsourcing.appending(writers=4),
            message_db.appending(writers=4),
            emmett.appending(writers=4),
            umadb.appending(writers=4),
            limits.bare_insert(clients=4),
        ),
    ),
    Work(
        "append 1 event, 16 writers",
        "events/s",
        (
            ours.tasks(16),
            ours.threads(16),
            eventsourcing.appending(writers=16),
            eventsourcing.appending(writers=16, functions=True),
            message_db.appending(writers=16),
            emmett.appending(writers=16),
            umadb.appending(writers=16),
            limits.bare_insert(clients=16),
        ),
        (Budget("UmaDB, 16 threads", 1.0),),
    ),
    Work(
        "append 1 event, 64 writers",
        "events/s",
        (
            ours.tasks(64),
            ours.threads(64),
            umadb.appending(writers=64),
            limits.bare_insert(clients=16),
        ),
    ),
    Work(
        "append 1 event, 100 writers",
        "events/s",
        (
            ours.tasks(100),
            eventsourcing.appending(writers=16),
            umadb.appending(writers=100),
            limits.bare_insert(clients=16),
        ),
        (
            Budget("eventsourcing, 16 threads", 20.0),
            Budget("pgbench INSERT, 16 clients", 1.3),
            Budget("UmaDB, 100 threads", 1.0),
        ),
    ),
    Work(
        "append 1 event, 500 writers",
        "events/s",
        (
            ours.tasks(500),
            eventsourcing.appending(writers=16),
            umadb.appending(writers=128),
            limits.bare_insert(clients=16),
        ),
        (
            Budget("eventsourcing, 16 threads", 20.0),
            Budget("pgbench INSERT, 16 clients", 1.3),
            Budget("UmaDB, 128 threads", 1.0),
        ),
    ),
    *(
        Work(
            f"append {size} events, 1 writer",
            "events/s",
            (
                ours.in_one_thread(size=size),
                eventsourcing.appending(size=size),
                eventsourcing.appending(size=size, functions=True),
                umadb.appending(size=size),
            ),
            (Budget("eventsourcing", 2.0),) if size == 100 else (),
        )
        for size in (10, 100, 1_000)
    ),
    Work(
        "append with conflicts on hot streams, 16 writers",
        "events/s",
        (conflicts(16), eventsourcing_conflicts(16)),
    ),
)
