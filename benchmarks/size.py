"""What events take: bytes on disk, memory to read them, and what the next costs among many."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from uuid import uuid4

from benchmarks import ours, reads, samples
from benchmarks.harness import NotHere
from benchmarks.machine import Bench
from benchmarks.peers import eventsourcing
from indelible import EventStore

_GROWING = "bench_growth"
_STREAMS = 10_000


@dataclass(frozen=True)
class Figure:
    """A single figure, and what it is held against.

    Attributes:
        work: what was measured.
        ours: what Indelible had, with its unit.
        against: the name of the other, and what it had.
        ratio: ours divided by the other's.
        at_most: the budget of the ratio; None where there is none.
    """

    work: str
    ours: str
    against: str
    ratio: float
    at_most: float | None


def bytes_per_event(bench: Bench) -> list[Figure]:
    """Append the same events one by one to the same number of streams."""
    events = 2_000 if bench.is_quick else 40_000
    streams = events // 20
    schema = ours.migrated(bench, "bench_bytes")
    with EventStore.connect(bench.url, schema=schema, events=[samples.OrderCreated]) as store:
        for first in range(0, events, streams):
            for number in range(streams):
                store.append(
                    f"order-{number}", samples.order(number), expected=first // streams - 1
                )
    own = bench.number(f"SELECT pg_total_relation_size('{schema}.events')") / events
    whole = own + bench.number(f"SELECT pg_total_relation_size('{schema}.streams')") / events
    try:
        peer = eventsourcing.EventSourcing(bench)
    except NotHere as reason:
        return [Figure("bytes an event of 180 bytes", f"{own:.0f} B", str(reason), 0, None)]
    ids = [uuid4() for _ in range(streams)]
    for version in range(events // streams):
        for stream in ids:
            peer.recorder.insert_events(
                [
                    eventsourcing.StoredEvent(
                        stream, version, eventsourcing.TOPIC, samples.DATA.encode()
                    )
                ]
            )
    theirs = bench.number(f"SELECT pg_total_relation_size('{peer.table}')") / events
    peer.close()
    against = f"eventsourcing {theirs:.0f} B"
    return [
        Figure(
            "bytes an event of 180 bytes, with indexes", f"{own:.0f} B", against, own / theirs, 1.0
        ),
        Figure("… with the table of streams", f"{whole:.0f} B", against, whole / theirs, None),
    ]


def growth(bench: Bench) -> list[Figure]:
    """Append to, and load from, a store of 10 thousand, 1 million and 10 million events."""
    sizes = [10_000, 100_000] if bench.is_quick else [10_000, 1_000_000, 10_000_000]
    figures = []
    base: tuple[float, float] | None = None
    reads.fill(bench, _GROWING, streams=_STREAMS, events=sizes[0])
    for before, size in zip([0, *sizes], sizes, strict=False):
        if before:
            reads.extend(bench, _GROWING, streams=_STREAMS, first=before, last=size)
        found = _costs(bench, size)
        base = base or found
        for what, now, then in zip(("append", "load 1 event"), found, base, strict=True):
            if size == sizes[0]:
                continue
            figures.append(
                Figure(
                    f"{what} at {size:,} events",
                    f"{now:.3f} ms",
                    f"at {sizes[0]:,} events {then:.3f} ms",
                    now / then,
                    1.2 if what == "append" else None,
                )
            )
    events, mebibytes = reads.memory(bench, _GROWING)
    figures.append(
        Figure(
            f"memory to read {events:,} events",
            f"{mebibytes:.0f} MiB",
            "200 MiB",
            mebibytes / 200,
            1.0,
        )
    )
    return figures


def _costs(bench: Bench, size: int) -> tuple[float, float]:
    """Milliseconds of an append, and of a read of the last event of a stream."""
    appends, loads = [], []
    times = 200 if bench.is_quick else 3_000
    classes = {"OrderCreated": samples.OrderCreated, "Rare": samples.OrderCreated}
    # To streams of their own, so that those of the fill stay as the next fill expects them.
    with EventStore.connect(bench.url, schema=_GROWING, events=classes) as store:
        for number in range(times):
            stream = f"order-{number * 7919 % _STREAMS + 1}"
            begun = time.perf_counter()
            (last,) = store.read(stream, backwards=True, limit=1)
            read = time.perf_counter()
            store.append(
                f"fresh-{size}-{number % 100}", samples.order(number), expected=number // 100 - 1
            )
            loads.append(read - begun)
            appends.append(time.perf_counter() - read)
            assert last.version == size // _STREAMS - 1
    return statistics.median(appends) * 1e3, statistics.median(loads) * 1e3
