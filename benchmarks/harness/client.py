"""The driver of stores with a Python client: `python -m benchmarks.harness.client CLASS`.

It reads the options of the class from the first line, then one command per line. Each command is a
method below, and its answer is one line. A command that needs no thread starts none, so that
writers can be forked.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import itertools
import json
import operator
import random
import sys
import time
import traceback
from array import array
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.competitors import AsyncStore, Conflict, Store, Stream, new_stream
from benchmarks.events import FIRST_MOMENT, FIRST_NUMBER, Event, log_lines, placed, reviewed

from .writers import Answer, Operation, in_processes, in_tasks, in_threads

_STREAMS = 500
"""The number of streams that the writers of a turn share."""


@dataclass
class _Place:
    """A stream of a writer, and its last version."""

    stream: Stream
    version: int = -1

    @classmethod
    def some(cls, writers: int) -> list[_Place]:
        """Make the new streams of one writer."""
        return [cls(new_stream()) for _ in range(max(1, _STREAMS // writers))]


class Session:
    """The commands of a driver, which opens its store when a command first needs it."""

    def __init__(self, open_store: Callable[[], Any]) -> None:
        self._open = open_store
        self._opened: Any = None
        self._runner = asyncio.Runner()
        self._stop: Callable[[], None] = lambda: None
        self._late = array("q")
        self._seen: list[tuple[str, int]] = []
        self._versions: dict[str, int] = {}

    @property
    def store(self) -> Any:
        """The store: sync or async."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def close(self) -> None:
        """Close the store."""
        self._stop()
        if self._opened is not None:
            closing = self._opened.close()
            if closing is not None:
                self._runner.run(closing)
        self._runner.close()

    def open(self) -> Answer:
        """Open the store, and create its tables if they are missing."""
        self.store  # noqa: B018
        return {}

    # Writing -----------------------------------------------------------------------------------

    def append(
        self, how: str, writers: int, seconds: float, batch: int = 1, anyway: bool = False
    ) -> Answer:
        """Append events: each writer uses its own streams in turn."""
        if how == "tasks":
            return self._runner.run(self._append_in_tasks(writers, seconds))

        def operation_of(store: Store, _number: int) -> Operation:
            streams = itertools.cycle(_Place.some(writers))

            def append() -> None:
                place = next(streams)
                events = [placed(each, order_id=place.stream.id) for each in range(batch)]
                if anyway:
                    store.append_anyway(place.stream, events)
                else:
                    store.append(place.stream, events, place.version)
                    place.version += batch

            return append

        answer = self._write(how, writers, seconds, operation_of)
        answer["operations"] *= batch
        return answer

    async def _append_in_tasks(self, writers: int, seconds: float) -> Answer:
        if self._opened is None:
            self._opened = await self._open()
        store: AsyncStore = self._opened

        def operation_of() -> Callable[[], Awaitable[None]]:
            streams = itertools.cycle(_Place.some(writers))

            async def append() -> None:
                place = next(streams)
                event = placed(0, order_id=place.stream.id)
                await store.append(place.stream, [event], place.version)
                place.version += 1

            return append

        return await in_tasks([operation_of() for _ in range(writers)], seconds)

    def append_to(self, streams: list[str], version: int, seconds: float) -> Answer:
        """Append to existing streams, which have the same version at the first call."""
        versions = self._versions or dict.fromkeys(streams, version)
        self._versions = versions
        order = itertools.cycle(list(versions))

        def operation_of(store: Store, number: int) -> Operation:
            def append() -> None:
                name = next(order)
                store.append(Stream(UUID(name)), [placed(0)], versions[name])
                versions[name] += 1

            return append

        return self._write("threads", 1, seconds, operation_of)

    def contend(self, writers: int, seconds: float, streams: list[str], skew: float) -> Answer:
        """Append to hot streams with an expected version; retry conflicts with a new version."""
        hot = [Stream(UUID(name)) for name in streams]
        weights = [1 / (place + 1) ** skew for place in range(len(hot))]
        conflicts = [0] * writers

        def operation_of(store: Store, number: int) -> Operation:
            chance = random.Random(number)

            def append() -> None:
                stream = chance.choices(hot, weights)[0]
                while True:
                    version = store.last_version(stream)
                    try:
                        store.append(stream, [placed(version)], version)
                    except Conflict:
                        conflicts[number] += 1
                    else:
                        return

            return append

        answer = self._write("threads", writers, seconds, operation_of)
        answer["figures"] = {"conflicts per append": sum(conflicts) / max(answer["operations"], 1)}
        return answer

    def append_if_none(self, writers: int, seconds: float) -> Answer:
        """Append with conditions: each writer uses its own tags."""

        def operation_of(store: Store, number: int) -> Operation:
            orders = [new_stream().id for _ in range(max(1, _STREAMS // writers))]
            tags = [f"order:{order}" for order in orders]
            after: list[int | None] = [None] * len(tags)
            count = 0

            def append() -> None:
                nonlocal count
                place = count % len(tags)
                event = placed(count, order_id=orders[place])
                after[place] = store.append_if_none(tags[place], event, after[place])
                count += 1

            return append

        return self._write("threads", writers, seconds, operation_of)

    def mixed(self, writers: int, seconds: float, streams: list[str]) -> Answer:
        """Mix seven loads of a stream of ten events with three appends, in random order."""
        loaded = [Stream(UUID(name)) for name in streams]

        def operation_of(store: Store, number: int) -> Operation:
            chance = random.Random(number)
            own = _Place.some(writers)

            def work() -> None:
                if chance.random() < 0.7:
                    if len(store.load(chance.choice(loaded))) != 10:
                        raise AssertionError(
                            "a stream of ten events has a different number of events"
                        )
                else:
                    place = chance.choice(own)
                    store.append(place.stream, [placed(0)], place.version)
                    place.version += 1

            return work

        return self._write("threads", writers, seconds, operation_of)

    def fill(self, events: int, length: int, rare: bool = False) -> Answer:
        """Append streams of one length up to a number of events."""
        streams = []
        for first in range(0, events, length):
            stream = new_stream()
            streams.append(str(stream.id))
            for version in range(0, length, 1000):
                numbers = range(version, min(length, version + 1000))
                made = [
                    reviewed(each) if rare and (first + each) % 100 == 0 else placed(each)
                    for each in numbers
                ]
                self.store.append(stream, made, version - 1)
        return {"streams": streams}

    def write_one_by_one(self, streams: int, length: int) -> Answer:
        """Append to all streams in turn, one event at a time, as applications do."""
        named = [new_stream() for _ in range(streams)]
        with ThreadPoolExecutor(4) as pool:
            for version in range(length):
                appends = [
                    pool.submit(self.store.append, stream, [placed(number)], version - 1)
                    for number, stream in enumerate(named)
                ]
                for done in appends:
                    done.result()
        return {"events": streams * length}

    def import_lines(self, events: int, at_a_time: int, ids: str) -> Answer:
        """Import a log in bulk from existing lines of NDJSON."""
        lines = log_lines(events, at_a_time=at_a_time, ids=ids)
        store = self.store
        begun = time.perf_counter()
        store.import_lines(lines)
        return {"operations": events, "seconds": time.perf_counter() - begun}

    def append_at_rate(self, rate: float, seconds: float) -> Answer:
        """Append one event at a time, with the time before its append."""
        streams = [new_stream() for _ in range(_STREAMS)]
        begun = time.monotonic()
        total = int(rate * seconds)
        for number in range(total):
            while (ahead := begun + number / rate - time.monotonic()) > 0:
                time.sleep(ahead)
            event = placed(number, time.monotonic_ns())
            place = number % _STREAMS
            self.store.append(streams[place], [event], number // _STREAMS - 1)
        return {"events": total, "seconds": time.monotonic() - begun}

    def write_for_check(self, writers: int, seconds: float, slow: float, fail: float) -> Answer:
        """Append lists of events, some slowly, some rolled back; return the committed ones."""
        committed: list[tuple[str, int]] = []
        undone: list[int] = []
        deadline = time.monotonic() + seconds

        def work(number: int) -> None:
            chance = random.Random(number)
            stream = new_stream()
            count = 0
            while time.monotonic() < deadline:
                size = chance.choice((1, 2, 5, 20))
                events = [placed(count + each, order_id=stream.id) for each in range(size)]
                if self.store.write(
                    stream, events, slow=chance.random() < slow, fail=chance.random() < fail
                ):
                    committed.extend((str(stream.id), count + each) for each in range(size))
                    count += size
                else:
                    undone.append(size)

        with ThreadPoolExecutor(writers) as pool:
            for done in [pool.submit(work, number) for number in range(writers)]:
                done.result()
        return {"committed": committed, "undone": sum(undone)}

    # Reading -----------------------------------------------------------------------------------

    def load(self, streams: list[str], seconds: float) -> Answer:
        """Load streams in turn; the operations are events."""
        loaded = [Stream(UUID(name)) for name in streams]
        latencies = array("q")
        count = events = 0
        begun = time.perf_counter_ns()
        deadline = begun + int(seconds * 1e9)
        while (before := time.perf_counter_ns()) < deadline:
            events += len(self.store.load(loaded[count % len(loaded)]))
            count += 1
            latencies.append((time.perf_counter_ns() - before) // 1000)
        taken = (time.perf_counter_ns() - begun) / 1e9
        return {"operations": events, "seconds": taken, "latencies": list(latencies)}

    def head(self, seconds: float) -> Answer:
        """Query the head repeatedly."""
        return self._write("threads", 1, seconds, lambda store, _number: store.head)

    def scan(self, how: str) -> Answer:
        """Read the log once; the operations are events."""
        self.open()
        gc.collect()
        begun = time.perf_counter()
        found = self.store.scan(how)
        return {"operations": found, "seconds": time.perf_counter() - begun}

    def peak_memory(self) -> Answer:
        """Return the peak memory of this process in MiB."""
        # Not getrusage: its value includes the memory of the parent process.
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return {"mebibytes": int(line.split()[1]) / 1024}
        raise OSError("this system does not report the peak memory: run it on Linux")

    # Following ---------------------------------------------------------------------------------

    def follow(self, at_end: bool) -> Answer:
        """Begin to follow; record each event and its latency."""
        self._late = late = array("q")
        self._seen = seen = []

        def note(event: Event) -> None:
            late.append((time.monotonic_ns() - (event.at - FIRST_MOMENT)) // 1000)
            seen.append((str(event.order_id), event.number - FIRST_NUMBER))

        self._stop = self.store.follow(note, at_end=at_end)
        return {}

    def followed(self, events: int, patience: float) -> Answer:
        """Wait for a number of events, with a timeout for each new one, and stop."""
        begun = time.monotonic()
        count, changed = -1, begun
        while len(self._late) < events and time.monotonic() - changed < patience:
            if len(self._late) != count:
                count, changed = len(self._late), time.monotonic()
            time.sleep(0.002)
        taken = time.monotonic() - begun
        self._stop()
        self._stop = lambda: None
        return {"operations": len(self._late), "seconds": taken, "latencies": list(self._late)}

    def followed_so_far(self) -> Answer:
        """Return the number of events that were seen."""
        return {"events": len(self._late)}

    def seen(self) -> Answer:
        """Return the events that were seen, in order."""
        return {"seen": self._seen}

    def catch_up(self, events: int) -> Answer:
        """Follow from the beginning until a number of events was seen."""
        self.open()
        begun = time.monotonic()
        self.follow(at_end=False)
        answer = self.followed(events, 10)
        if answer["operations"] < events:
            raise AssertionError(f"{answer['operations']} of {events} events were received")
        return {"operations": events, "seconds": time.monotonic() - begun}

    # How writers run ---------------------------------------------------------------------------

    def _write(
        self, how: str, writers: int, seconds: float, operation_of: Callable[[Any, int], Operation]
    ) -> Answer:
        if how == "processes":
            return in_processes(self._open, operation_of, writers, seconds)
        return in_threads([operation_of(self.store, each) for each in range(writers)], seconds)


def main() -> None:
    """Run the commands in the lines of the standard input."""
    module, _, name = sys.argv[1].partition(":")
    client = operator.attrgetter(name)(importlib.import_module(module))
    options = json.loads(sys.stdin.readline())
    session = Session(lambda: client(**options))
    try:
        for line in sys.stdin:
            command = json.loads(line)
            try:
                answer = getattr(session, command.pop("do"))(**command)
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        session.close()


if __name__ == "__main__":
    main()
