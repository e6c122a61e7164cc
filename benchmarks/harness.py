"""Contenders take turns, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hdrh.histogram import HdrHistogram

from benchmarks.machine import Bench

Role = Literal["indelible", "peer", "limit"]
PERCENTILES = (50.0, 95.0, 99.0, 99.9)


@dataclass
class Turn:
    """What a contender did in its turn.

    Attributes:
        operations: how many.
        seconds: in how long.
        latencies: nanoseconds that each took, where each was timed.
    """

    operations: int
    seconds: float
    latencies: list[int] = field(default_factory=list)


class Contender(Protocol):
    """Who does the work: Indelible, a peer, or a limit that nobody can pass."""

    name: str
    role: Role

    def turn(self, bench: Bench) -> Turn: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Budget:
    """How many times as fast as another contender Indelible has to be."""

    against: str
    at_least: float


@dataclass(frozen=True)
class Bound:
    """How many milliseconds a percentile of Indelible's latencies may have at most."""

    percentile: float
    milliseconds: float


@dataclass(frozen=True)
class Work:
    """A kind of work, who does it, and what is asked of Indelible.

    Attributes:
        name: what is done.
        unit: what is counted.
        contenders: makes them; the first is Indelible as it is compared with the others. One that
            cannot run here is left out with its reason (`NotHere`).
        budgets, bounds: what is asked.
    """

    name: str
    unit: str
    contenders: Sequence[Callable[[Bench], Contender]]
    budgets: tuple[Budget, ...] = ()
    bounds: tuple[Bound, ...] = ()


class NotHere(Exception):
    """A peer cannot be run on this machine."""


@dataclass
class Result:
    """How one contender did in all its turns."""

    name: str
    role: Role
    rates: list[float]
    percentiles: dict[str, float]

    @property
    def rate(self) -> float:
        """Operations a second, the median of the turns."""
        return statistics.median(self.rates)


@dataclass
class Comparison:
    """How all contenders did one kind of work."""

    work: Work
    results: list[Result]
    absent: dict[str, str]

    def result(self, name: str) -> Result | None:
        return next((found for found in self.results if found.name == name), None)


def compare(work: Work, bench: Bench) -> Comparison:
    """Give every contender its turns, in alternation, after one that does not count."""
    contenders: list[Contender] = []
    absent = {}
    for make in work.contenders:
        try:
            contenders.append(make(bench))
        except NotHere as reason:
            absent[getattr(make, "__name__", repr(make))] = str(reason)
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    histograms = {
        contender.name: HdrHistogram(1_000, 100_000_000_000, 3) for contender in contenders
    }
    try:
        for round_ in range(-1, bench.rounds):
            for contender in contenders:
                done = contender.turn(bench)
                if round_ < 0 and bench.rounds > 1:
                    continue
                rates[contender.name].append(done.operations / done.seconds)
                for nanoseconds in done.latencies:
                    histograms[contender.name].record_value(nanoseconds)
    finally:
        for contender in contenders:
            contender.close()
    results = [
        Result(
            contender.name,
            contender.role,
            rates[contender.name],
            {
                f"p{percentile:g}": histograms[contender.name].get_value_at_percentile(percentile)
                / 1e6
                for percentile in PERCENTILES
                if histograms[contender.name].get_total_count()
            },
        )
        for contender in contenders
    ]
    return Comparison(work, results, absent)


# Ways to keep many at work for the length of a turn -----------------------------------------------


def in_threads(writers: int, seconds: float, act: Callable[[int, int], int]) -> Turn:
    """Let threads act again and again.

    Args:
        writers: how many.
        seconds: for how long.
        act: what to do, given the writer's number and how often it did before; returns how many
            operations that was.
    """
    latencies: list[list[int]] = [[] for _ in range(writers)]
    counts = [0] * writers
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            own, times = latencies[writer], 0
            while (begun := time.perf_counter_ns()) < end:
                counts[writer] += act(writer, times)
                own.append(time.perf_counter_ns() - begun)
                times += 1
        except BaseException as error:
            failures.append(error)

    begun = time.perf_counter_ns()
    end = begun + int(seconds * 1e9)
    if writers == 1:
        write(0)
    else:
        threads = [threading.Thread(target=write, args=[writer]) for writer in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    taken = (time.perf_counter_ns() - begun) / 1e9
    return Turn(sum(counts), taken, [found for own in latencies for found in own])


async def in_tasks(writers: int, seconds: float, act: Callable[[int, int], Awaitable[int]]) -> Turn:
    """Let tasks act again and again, as `in_threads` does."""
    latencies: list[int] = []
    count = 0

    async def write(writer: int) -> None:
        nonlocal count
        times = 0
        while (begun := time.perf_counter_ns()) < end:
            done = await act(writer, times)
            count += done  # in a step of its own: others have been at it meanwhile
            latencies.append(time.perf_counter_ns() - begun)
            times += 1

    begun = time.perf_counter_ns()
    end = begun + int(seconds * 1e9)
    async with asyncio.TaskGroup() as tasks:
        for writer in range(writers):
            tasks.create_task(write(writer))
    return Turn(count, (time.perf_counter_ns() - begun) / 1e9, latencies)
