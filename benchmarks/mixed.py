"""A mixed load: seven reads of a stream to three appends, from threads."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from benchmarks import ours, samples
from benchmarks.harness import Role, Turn, Work, in_threads
from benchmarks.machine import Bench
from benchmarks.peers import eventsourcing
from indelible import ANY, EventStore

_WRITERS = 16
_LENGTH = 20
"""Events that a stream has at first."""
_STREAMS = 200


class Mixed:
    role: Role = "indelible"

    def __init__(self, bench: Bench) -> None:
        self.name = f"Indelible, {_WRITERS} threads"
        schema = ours.migrated(bench, "bench_mixed")
        self._store = EventStore.connect(bench.url, schema=schema, events=[samples.OrderCreated])
        for number in range(_STREAMS):
            self._store.append(f"order-{number}", ours.orders(0, _LENGTH), expected=-1)

    def turn(self, bench: Bench) -> Turn:
        return in_threads(_WRITERS, bench.seconds, self._act)

    def _act(self, writer: int, times: int) -> int:
        stream = f"order-{random.randrange(_STREAMS)}"
        if random.random() < 0.7:
            assert [event.data for event in self._store.read(stream, limit=_LENGTH)]
        else:
            self._store.append(stream, samples.order(times), expected=ANY)
        return 1

    def close(self) -> None:
        self._store.close()


class EventSourcingMixed(eventsourcing.EventSourcing):
    """Each writer has streams of its own, since the peer appends at known versions only."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, writers=_WRITERS)
        self._own: list[dict[UUID, int]] = []
        for _ in range(_WRITERS):
            streams = {uuid4(): _LENGTH for _ in range(_STREAMS // _WRITERS)}
            self._own.append(streams)
            for stream in streams:
                self.recorder.insert_events(
                    [
                        eventsourcing.StoredEvent(
                            stream, number, eventsourcing.TOPIC, samples.DATA.encode()
                        )
                        for number in range(_LENGTH)
                    ]
                )

    def _append(self, writer: int, times: int) -> int:
        streams = self._own[writer]
        stream = random.choice(list(streams))
        if random.random() < 0.7:
            found = self.recorder.select_events(stream, limit=_LENGTH)
            assert [samples.decode(event.state) for event in found]
        else:
            event = eventsourcing.StoredEvent(
                stream,
                streams[stream],
                eventsourcing.TOPIC,
                samples.encode(samples.order(times)),
            )
            self.recorder.insert_events([event])
            streams[stream] += 1
        return 1


WORKS = (
    Work(
        "7 reads of a stream to 3 appends, 16 threads", "operations/s", (Mixed, EventSourcingMixed)
    ),
)
