"""Reads: a stream into objects, the whole log, and the few events of it that match a filter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks import ours, samples
from benchmarks.harness import Budget, Role, Turn, Work, in_threads
from benchmarks.machine import Bench
from benchmarks.peers import eventsourcing, limits
from indelible import EventStore, Query

_SCHEMA = "bench_reads"


def fill(bench: Bench, schema: str, *, streams: int, events: int, rare: int = 100) -> None:
    """Fill a store with a valid log, in the database itself; one in `rare` is of type Rare."""
    ours.migrated(bench, schema)
    bench.execute(
        f"INSERT INTO {schema}.streams (name, channel, version)"
        f" SELECT 'order-' || number, 'order', {events // streams - 1}"
        f" FROM generate_series(1, {streams}) AS numbers (number)"
    )
    extend(bench, schema, streams=streams, first=0, last=events, rare=rare)


def extend(
    bench: Bench, schema: str, *, streams: int, first: int, last: int, rare: int = 100
) -> None:
    """Add the events from `first` up to `last`: the versions of all streams grow in turn."""
    bench.execute(
        f"INSERT INTO {schema}.events"
        " (position, stream_id, version, recorded_at, id, type, data)"
        f" SELECT nextval('{schema}.events_position'), number % {streams} + 1, number / {streams},"
        "  clock_timestamp(), "
        # Ids that grow, as those of the library do.
        " (lpad(to_hex(number), 12, '0') || '70008' || substr(md5(number::text), 1, 15))::uuid,"
        f" CASE WHEN number % {rare} = 0 THEN 'Rare' ELSE 'OrderCreated' END, '{samples.DATA}'"
        f" FROM generate_series({first}::bigint, {last}::bigint - 1) AS numbers (number)"
    )
    bench.execute(f"UPDATE {schema}.streams SET version = {last // streams} - 1")
    bench.execute(f"VACUUM (FREEZE, ANALYZE) {schema}.events")
    bench.execute(f"VACUUM (ANALYZE) {schema}.streams")


class Reads:
    """Reads again and again, and counts the events."""

    role: Role = "indelible"

    def __init__(
        self,
        bench: Bench,
        *,
        name: str,
        typed: bool,
        read: Callable[[EventStore], int],
    ) -> None:
        self.name, self._read = name, read
        classes: Sequence[type] | dict[str, type] = ()
        if typed:
            classes = {"OrderCreated": samples.OrderCreated, "Rare": samples.OrderCreated}
        self._store = EventStore.connect(bench.url, schema=_SCHEMA, events=classes)

    def turn(self, bench: Bench) -> Turn:
        return in_threads(1, bench.seconds, lambda writer, times: self._read(self._store))

    def close(self) -> None:
        self._store.close()


def stream_load(length: int) -> Work:
    def indelible(bench: Bench) -> Reads:
        ours.migrated(bench, _SCHEMA)
        with EventStore.connect(bench.url, schema=_SCHEMA, events=[samples.OrderCreated]) as store:
            for first in range(0, length, 1_000):
                store.append(
                    "order-1", ours.orders(first, min(1_000, length - first)), expected=first - 1
                )

        def load(store: EventStore) -> int:
            found = [event.data for event in store.read("order-1")]
            assert len(found) == length
            return length

        return Reads(bench, name="Indelible", typed=True, read=load)

    def peer(bench: Bench) -> eventsourcing.EventSourcingReads:
        return eventsourcing.EventSourcingReads(bench, length=length, scans=False)

    peer.__name__ = "eventsourcing"
    return Work(f"load a stream of {length:,} events", "events/s", (indelible, peer))


def _scan(store: EventStore) -> int:
    return sum(1 for _ in store.read_all())


def log_scan(events: int) -> Work:
    def typed(bench: Bench) -> Reads:
        fill(bench, _SCHEMA, streams=1_000, events=events)
        return Reads(bench, name="Indelible, into classes", typed=True, read=_scan)

    def plain(bench: Bench) -> Reads:
        return Reads(bench, name="Indelible, plain data", typed=False, read=_scan)

    def peer(bench: Bench) -> eventsourcing.EventSourcingReads:
        return eventsourcing.EventSourcingReads(bench, length=events, scans=True)

    def copy(bench: Bench) -> limits.CopyOut:
        return limits.CopyOut(bench, schema=_SCHEMA, length=events)

    peer.__name__ = "eventsourcing"
    return Work(
        "read the log",
        "events/s",
        (typed, plain, peer, copy),
        (Budget("COPY out", 0.3),),
    )


def filtered_scan(events: int) -> Work:
    def indelible(bench: Bench) -> Reads:
        fill(bench, _SCHEMA, streams=1_000, events=events)

        def scan(store: EventStore) -> int:
            assert sum(1 for _ in store.read_all(Query(types="Rare"))) == events // 100
            return events

        return Reads(bench, name="Indelible, of type Rare", typed=True, read=scan)

    def everything(bench: Bench) -> Reads:
        def scan(store: EventStore) -> int:
            assert sum(event.type == "Rare" for event in store.read_all()) == events // 100
            return events

        return Reads(bench, name="Indelible, filtered in Python", typed=True, read=scan)

    return Work("look through the log for 1 %", "events looked at/s", (indelible, everything))


def works(*, is_quick: bool) -> list[Work]:
    lengths = (10, 100, 1_000, 10_000)
    events = 20_000 if is_quick else 300_000
    return [*map(stream_load, lengths), log_scan(events), filtered_scan(events)]


def memory(bench: Bench, schema: str) -> tuple[int, float]:
    """Read the whole log in a process of its own; give the events, and the largest size in MiB."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reads", bench.url, schema],
        capture_output=True,
        text=True,
        check=True,
    )
    events, mebibytes = done.stdout.split()
    return int(events), float(mebibytes)


def _scan_in_this_process(url: str, schema: str) -> None:
    import resource

    classes = {"OrderCreated": samples.OrderCreated, "Rare": samples.OrderCreated}
    with EventStore.connect(url, schema=schema, events=classes) as store:
        count = _scan(store)
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    _scan_in_this_process(*sys.argv[1:])
