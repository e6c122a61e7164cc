"""Run writers as threads, processes or tasks; each runs one operation after the other."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Answer = dict[str, Any]
Operation = Callable[[], None]
"""One operation of a writer, which keeps its own state."""


def in_threads(operations: Sequence[Operation], seconds: float) -> Answer:
    """Repeat each operation in its own thread; a single one runs in this thread."""
    begun = time.perf_counter_ns()
    deadline = begun + int(seconds * 1e9)
    if len(operations) == 1:
        return _answer(_until(deadline, operations[0]), begun)
    latencies = array("q")
    with ThreadPoolExecutor(len(operations)) as pool:
        for done in [pool.submit(_until, deadline, each) for each in operations]:
            latencies.extend(done.result())
    return _answer(latencies, begun)


async def in_tasks(operations: Sequence[Callable[[], Awaitable[None]]], seconds: float) -> Answer:
    """Repeat each operation in its own task."""
    latencies = array("q")
    begun = time.perf_counter_ns()
    deadline = begun + int(seconds * 1e9)

    async def until(operation: Callable[[], Awaitable[None]]) -> None:
        while (before := time.perf_counter_ns()) < deadline:
            await operation()
            latencies.append((time.perf_counter_ns() - before) // 1000)

    await asyncio.gather(*(until(each) for each in operations))
    return _answer(latencies, begun)


def in_processes(
    open_store: Callable[[], Any],
    operation_of: Callable[[Any, int], Operation],
    writers: int,
    seconds: float,
) -> Answer:
    """Fork processes that open their own stores, and begin when all are ready."""
    context = multiprocessing.get_context("fork")
    opening = context.Lock()  # one by one: the first may create tables
    ready = context.Barrier(writers)
    answers: Any = context.SimpleQueue()

    def work(number: int) -> None:
        try:
            with opening:
                store = open_store()
            operation = operation_of(store, number)
            ready.wait(60)
            answers.put(in_threads([operation], seconds))
            store.close()
        except threading.BrokenBarrierError:
            answers.put("another one was not ready")
        except Exception as error:
            answers.put(f"{type(error).__name__}: {error}")
            ready.abort()

    processes = [
        context.Process(target=work, args=(number,), daemon=True) for number in range(writers)
    ]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join(30)
    if failed := [each for each in found if isinstance(each, str)]:
        raise RuntimeError(f"a writer failed: {failed[0]}")
    return {
        "operations": sum(each["operations"] for each in found),
        "seconds": max(each["seconds"] for each in found),
        "latencies": [latency for each in found for latency in each["latencies"]],
    }


def _until(deadline: int, operation: Operation) -> array[int]:
    """Repeat an operation until a deadline; return its durations in microseconds."""
    latencies = array("q")
    while (before := time.perf_counter_ns()) < deadline:
        operation()
        latencies.append((time.perf_counter_ns() - before) // 1000)
    return latencies


def _answer(latencies: array[int], begun: int) -> Answer:
    return {
        "operations": len(latencies),
        "seconds": (time.perf_counter_ns() - begun) / 1e9,
        "latencies": list(latencies),
    }
