"""Is anything missed? Writers with slow commits and rollbacks, and a reader that follows.

Each contender gets the same: writers that append several events in a transaction, some of which are
slow to commit and some of which are undone, as far as its API lets a caller do that; and a reader
that goes on from the last position that it saw, as the contender's documentation says. Afterwards
the log is read whole: what the reader lacks is lost, what it had twice is doubled, and what came
after a higher position of its own log is out of order.

    python -m benchmarks.correctness [--events 20000]
"""

from __future__ import annotations

import argparse
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks import ours
from benchmarks.harness import NotHere
from benchmarks.machine import Bench, durable_server, facts
from benchmarks.peers import eventsourcing
from indelible import ANY, EventStore, NewEvent

_WRITERS = 12
_SLOW, _UNDONE = 0.1, 0.2
"""Parts of the transactions that are slow to commit, and that are rolled back."""


class Store(Protocol):
    """A store under test.

    Attributes:
        name: it, its mode, and how its reader follows.
    """

    name: str

    def write(self, writer: int, number: int, events: int, chance: random.Random) -> None:
        """Append some events in one transaction, maybe slowly, maybe in vain."""

    def read_after(self, position: int) -> Sequence[tuple[int, str]]:
        """What a reader that follows gets next: positions and ids."""

    def everything(self) -> Sequence[tuple[int, str]]:
        """What the log holds in the end."""

    def close(self) -> None: ...


@dataclass
class Verdict:
    stored: int
    lost: int
    doubled: int
    out_of_order: int
    seconds: float


def judge(store: Store, events: int) -> Verdict:
    """Write and follow at the same time, then compare."""
    seen: list[tuple[int, str]] = []
    done = threading.Event()
    failures: list[BaseException] = []

    def guarded(act: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                act()
            except BaseException as error:
                failures.append(error)
                done.set()

        return run

    def follow() -> None:
        position, quiet = 0, 0
        while quiet < 3:
            found = store.read_after(position)
            seen.extend(found)
            position = found[-1][0] if found else position
            # Whatever was committed is there: three more looks after the last writer has ended.
            quiet = quiet + 1 if done.is_set() and not found else 0

    def write(writer: int) -> None:
        chance = random.Random(writer)
        left, number = events // _WRITERS, 0
        while left > 0 and not failures:
            size = min(left, chance.randint(1, 5))
            store.write(writer, number, size, chance)
            left, number = left - size, number + 1

    begun = time.monotonic()
    reader = threading.Thread(target=guarded(follow))
    writers = [
        threading.Thread(target=guarded(lambda w=writer: write(w)))  # type: ignore[misc]
        for writer in range(_WRITERS)
    ]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    if failures:
        raise failures[0]
    stored = {event_id for _, event_id in store.everything()}
    counts = Counter(event_id for _, event_id in seen)
    positions = [position for position, _ in seen]
    return Verdict(
        len(stored),
        sum(event_id not in counts for event_id in stored),
        sum(count - 1 for count in counts.values()),
        sum(later < earlier for earlier, later in itertools.pairwise(positions)),
        time.monotonic() - begun,
    )


def _dawdle(chance: random.Random) -> None:
    if chance.random() < _SLOW:
        time.sleep(chance.uniform(0.005, 0.05))


class Undone(Exception):
    """Rolls a transaction back."""


class Indelible:
    """Transactions with several appends each; the reader takes `read_all(after=…)`."""

    def __init__(self, bench: Bench) -> None:
        self.name = "Indelible, transactions; reader: read_all(after)"
        schema = ours.migrated(bench, "correct_indelible")
        self._store = EventStore.connect(bench.url, schema=schema, pool_size=_WRITERS + 2)

    def write(self, writer: int, number: int, events: int, chance: random.Random) -> None:
        try:
            with self._store.transaction() as transaction:
                for _ in range(events):
                    transaction.append(
                        f"order-{chance.randrange(1_000)}-{writer}",
                        NewEvent("Happened", {}),
                        expected=ANY,
                    )
                    _dawdle(chance)
                if chance.random() < _UNDONE:
                    raise Undone
        except Undone:
            pass

    def read_after(self, position: int) -> Sequence[tuple[int, str]]:
        return [
            (event.position, str(event.id))
            for event in self._store.read_all(after=position, limit=1_000)
        ]

    def everything(self) -> Sequence[tuple[int, str]]:
        return [(event.position, str(event.id)) for event in self._store.read_all()]

    def close(self) -> None:
        self._store.close()


class IndelibleShared(Indelible):
    """Plain appends, which share commits; the reader takes a subscription's place."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.name = "Indelible, group commit; reader: read_all(after)"

    def write(self, writer: int, number: int, events: int, chance: random.Random) -> None:
        self._store.append(
            f"order-{chance.randrange(1_000)}-{writer}",
            [NewEvent("Happened", {}) for _ in range(events)],
            expected=ANY,
        )


class EventSourcing:
    """Its recorder's `insert_events`; the reader takes `select_notifications(start)`.

    The recorder commits by itself, so that a caller cannot dawdle in its transaction.
    """

    def __init__(self, bench: Bench, *, functions: bool) -> None:
        mode = "with DB functions" if functions else "by default"
        self.name = f"eventsourcing, {mode}; reader: select_notifications(start)"
        self._peer = eventsourcing.EventSourcing(bench, writers=_WRITERS + 2, functions=functions)

    def write(self, writer: int, number: int, events: int, chance: random.Random) -> None:
        stream = uuid4()
        self._peer.recorder.insert_events(
            [
                eventsourcing.StoredEvent(stream, version, eventsourcing.TOPIC, b"{}")
                for version in range(events)
            ]
        )

    def read_after(self, position: int) -> Sequence[tuple[int, str]]:
        return [
            (found.id, f"{found.originator_id}/{found.originator_version}")
            for found in self._peer.recorder.select_notifications(position + 1, 1_000)
        ]

    def everything(self) -> Sequence[tuple[int, str]]:
        return self._all(1)

    def _all(self, start: int) -> Sequence[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        while page := self.read_after(found[-1][0] if found else start - 1):
            found += page
        return found

    def close(self) -> None:
        self._peer.close()


class EventSourcingDCB:
    """Its DCB recorder's `append` without a condition; the reader takes `read(after)`."""

    def __init__(self, bench: Bench) -> None:
        self.name = "eventsourcing DCB, appends without condition; reader: read(after)"
        try:
            from eventsourcing.dcb.api import DCBEvent
            from eventsourcing.dcb.postgres_tt import PostgresDCBRecorderTT
        except ImportError as error:
            raise NotHere("the package eventsourcing has no DCB recorder") from error
        self._event = DCBEvent
        self._datastore = eventsourcing.datastore(bench, connections=_WRITERS + 2, functions=False)
        self._recorder = PostgresDCBRecorderTT(
            self._datastore, events_table_name=f"dcb_{uuid4().hex[:8]}"
        )
        self._recorder.create_table()

    def write(self, writer: int, number: int, events: int, chance: random.Random) -> None:
        self._recorder.append(
            [
                self._event(type="Happened", data=uuid4().bytes, tags=[f"order:{writer}"])
                for _ in range(events)
            ]
        )

    def read_after(self, position: int) -> Sequence[tuple[int, str]]:
        return [
            (found.position, found.event.data.hex())
            for found in self._recorder.read(after=position or None, limit=1_000)
        ]

    def everything(self) -> Sequence[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        while page := self.read_after(found[-1][0] if found else 0):
            found += page
        return found

    def close(self) -> None:
        self._datastore.close()


class AfterTheLast:
    """No store: a table with a sequence, and a reader that asks for what stands after the last row.

    What many hand-written outboxes do; the same transactions as Indelible's.
    """

    def __init__(self, bench: Bench) -> None:
        self.name = "a bare table; reader: WHERE position > last"
        bench.execute(
            "DROP TABLE IF EXISTS correct_bare;"
            " CREATE TABLE correct_bare (position bigserial PRIMARY KEY, id uuid NOT NULL)"
        )
        self._connections = [
            psycopg.connect(bench.url, autocommit=True) for _ in range(_WRITERS + 1)
        ]

    def write(self, writer: int, number: int, events: int, chance: random.Random) -> None:
        connection = self._connections[writer]
        try:
            with connection.transaction():
                for _ in range(events):
                    connection.execute("INSERT INTO correct_bare (id) VALUES (gen_random_uuid())")
                    _dawdle(chance)
                if chance.random() < _UNDONE:
                    raise Undone
        except Undone:
            pass

    def read_after(self, position: int) -> Sequence[tuple[int, str]]:
        return [
            (found, str(event_id))
            for found, event_id in self._connections[-1].execute(
                "SELECT position, id FROM correct_bare WHERE position > %s ORDER BY position"
                " LIMIT 1000",
                [position],
            )
        ]

    def everything(self) -> Sequence[tuple[int, str]]:
        return [
            (position, str(event_id))
            for position, event_id in self._connections[-1].execute(
                "SELECT position, id FROM correct_bare"
            )
        ]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


STORES: tuple[Callable[[Bench], Store], ...] = (
    Indelible,
    IndelibleShared,
    lambda bench: EventSourcing(bench, functions=False),
    lambda bench: EventSourcing(bench, functions=True),
    EventSourcingDCB,
    AfterTheLast,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.correctness", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--events", type=int, default=20_000)
    given = parser.parse_args()
    console = Console()
    table = Table(box=None)
    for heading in ("", "stored", "lost", "doubled", "out of order", "seconds"):
        table.add_column(heading, justify="right" if heading else "left")
    lost_by_us = 0
    with durable_server() as (url, folder):
        known = facts(url)
        console.print(
            f"{_WRITERS} writers, {given.events:,} events; eventsourcing {known['eventsourcing']},"
            f" PostgreSQL {known['server_version']}"
        )
        bench = Bench(url=url, folder=folder, rounds=1, seconds=0, is_quick=False)
        for make in STORES:
            try:
                store = make(bench)
            except NotHere as reason:
                table.add_row(f"not run: {reason}")
                continue
            try:
                found = judge(store, given.events)
            finally:
                store.close()
            if isinstance(store, Indelible):
                lost_by_us += found.lost + found.doubled + found.out_of_order
            table.add_row(
                store.name,
                f"{found.stored:,}",
                f"{found.lost:,}",
                f"{found.doubled:,}",
                f"{found.out_of_order:,}",
                f"{found.seconds:.1f}",
            )
    console.print(table)
    if lost_by_us:
        raise SystemExit("Indelible lost, doubled or misplaced events")


if __name__ == "__main__":
    main()
