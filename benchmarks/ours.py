"""Indelible as a contender."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from uuid import uuid4

from benchmarks import samples
from benchmarks.harness import Role, Turn, in_tasks, in_threads
from benchmarks.machine import Bench
from indelible import AppendResult, AsyncEventStore, EventStore

Versions = dict[str, int]


def migrated(bench: Bench, schema: str) -> str:
    """Make a store in a schema of its own."""
    EventStore.connect(bench.url, schema=bench.fresh(schema), migrate=True).close()
    return schema


def orders(times: int, size: int) -> list[samples.OrderCreated]:
    return [samples.order(times + number) for number in range(size)]


class Threads:
    """Appends from threads (or from one), `size` events at a time, with expected versions."""

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, writers: int, size: int) -> None:
        self.name = "Indelible" if writers == 1 else f"Indelible, {writers} threads"
        self._writers, self._size = writers, size
        self._store = EventStore.connect(
            bench.url, schema=migrated(bench, "bench_threads"), events=[samples.OrderCreated]
        )
        self._versions: Versions = {}
        self._run = uuid4().hex[:8]

    def turn(self, bench: Bench) -> Turn:
        return in_threads(self._writers, bench.seconds, self._append)

    def _append(self, writer: int, times: int) -> int:
        stream = f"order-{self._run}-{writer}-{times % samples.STREAMS}"
        result = self._store.append(
            stream, orders(times, self._size), expected=self._versions.get(stream, -1)
        )
        self._versions[stream] = result.version
        return self._size

    def close(self) -> None:
        self._store.close()


class Tasks:
    """Appends from tasks of one event loop, with expected versions."""

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, writers: int, size: int) -> None:
        self.name = f"Indelible, {writers} tasks"
        self._writers, self._size = writers, size
        self._runner = asyncio.Runner()
        self._store = self._runner.run(self._connect(bench))
        self._versions: Versions = {}
        self._run = uuid4().hex[:8]

    async def _connect(self, bench: Bench) -> AsyncEventStore:
        schema = migrated(bench, "bench_tasks")
        return await AsyncEventStore.connect(
            bench.url, schema=schema, events=[samples.OrderCreated]
        )

    def turn(self, bench: Bench) -> Turn:
        return self._runner.run(in_tasks(self._writers, bench.seconds, self._append))

    async def _append(self, writer: int, times: int) -> int:
        stream = f"order-{self._run}-{writer}-{times % samples.STREAMS}"
        result: AppendResult = await self._store.append(
            stream, orders(times, self._size), expected=self._versions.get(stream, -1)
        )
        self._versions[stream] = result.version
        return self._size

    def close(self) -> None:
        self._runner.run(self._store.close())
        self._runner.close()


class Processes:
    """Appends from processes, one thread each."""

    role: Role = "indelible"

    def __init__(self, bench: Bench, *, writers: int) -> None:
        self.name = f"Indelible, {writers} processes"
        schema = migrated(bench, "bench_processes")
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.ours", bench.url, schema],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(writers)
        ]
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()

    def turn(self, bench: Bench) -> Turn:
        for process in self._processes:
            assert process.stdin is not None
            print(bench.seconds, file=process.stdin, flush=True)
        turns = []
        for process in self._processes:
            assert process.stdout is not None
            seconds, *latencies = process.stdout.readline().split()
            turns.append((float(seconds), [int(latency) for latency in latencies]))
        latencies_of_all = [latency for _, latencies in turns for latency in latencies]
        return Turn(len(latencies_of_all), max(seconds for seconds, _ in turns), latencies_of_all)

    def close(self) -> None:
        for process in self._processes:
            process.communicate("")


def append_in_this_process(url: str, schema: str) -> None:
    """What each of the processes does: a line of seconds in, a line of latencies out."""
    with EventStore.connect(url, schema=schema, events=[samples.OrderCreated]) as store:
        versions: Versions = {}
        run = uuid4().hex[:8]

        def append(writer: int, times: int) -> int:
            stream = f"order-{run}-{times % samples.STREAMS}"
            result = store.append(stream, samples.order(times), expected=versions.get(stream, -1))
            versions[stream] = result.version
            return 1

        print("ready", flush=True)
        for line in sys.stdin:
            done = in_threads(1, float(line), append)
            print(done.seconds, *done.latencies, flush=True)


def in_one_thread(*, size: int = 1) -> Callable[[Bench], Threads]:
    return lambda bench: Threads(bench, writers=1, size=size)


def threads(writers: int) -> Callable[[Bench], Threads]:
    return lambda bench: Threads(bench, writers=writers, size=1)


def tasks(writers: int) -> Callable[[Bench], Tasks]:
    return lambda bench: Tasks(bench, writers=writers, size=1)


def processes(writers: int) -> Callable[[Bench], Processes]:
    return lambda bench: Processes(bench, writers=writers)


if __name__ == "__main__":
    append_in_this_process(*sys.argv[1:])
