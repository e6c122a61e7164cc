"""The scale of a run: full, or everything once with little data, to check that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Rounds, seconds and sizes.

    Attributes:
        rounds: turns of each contender.
        seconds: the length of a turn, unless its work is fixed.
        warm_up: whether each contender gets a turn before the first round.
        streams_stored: the number of streams of ten events to measure bytes on disk with.
        filtered: the number of events in the store to measure filters with.
        slow_seconds: the seconds of appending one event per second.
        check_seconds: the seconds of writing in the correctness benchmark.
        check_patience: seconds without a new event that end the wait for the rest.
        growth: the numbers of events in the store to measure appends and loads with.
    """

    name: str
    rounds: int
    seconds: float
    warm_up: bool
    writers: tuple[int, ...]
    tasks: tuple[int, ...]
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    scanned: int
    followed: int
    latency_seconds: float
    latency_rate: float
    slow_seconds: float
    workers: tuple[int, ...]
    streams_stored: int
    imported: int
    growth: tuple[int, ...]
    filtered: int
    check_seconds: float
    check_patience: float


FULL = Scale(
    name="full",
    rounds=5,
    seconds=2,
    warm_up=True,
    writers=(4, 16, 64),
    tasks=(16, 100, 500),
    batches=(10, 100, 1000),
    lengths=(10, 100, 1_000, 10_000),
    scanned=200_000,
    followed=50_000,
    latency_seconds=5,
    latency_rate=1000,
    slow_seconds=12,
    workers=(1, 2, 4),
    streams_stored=2_000,
    imported=200_000,
    growth=(10_000, 1_000_000, 10_000_000),
    filtered=20_000_000,
    check_seconds=20,
    check_patience=5,
)
QUICK = Scale(
    name="quick",
    rounds=1,
    seconds=0.2,
    warm_up=False,
    writers=(4,),
    tasks=(16, 100),
    batches=(100,),
    lengths=(100,),
    scanned=5_000,
    followed=5_000,
    latency_seconds=0.5,
    latency_rate=500,
    slow_seconds=2,
    workers=(1, 2),
    streams_stored=100,
    imported=5_000,
    growth=(1_000, 10_000),
    filtered=50_000,
    check_seconds=1,
    check_patience=2,
)
