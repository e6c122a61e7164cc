"""Projections of transfers between accounts, and a process that runs them."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from indelible import DocumentProjection, EventStore, RecordedEvent, TableProjection, handles


@dataclass(frozen=True)
class Moved:
    cents: int
    payer: str
    payee: str


@dataclass
class Balance:
    cents: int = 0
    moves: int = 0


class Movements(DocumentProjection[Balance]):
    """What has left each account."""

    name = "movements"
    partitions = 2

    def key(self, event: RecordedEvent) -> str:
        return str(event.data.payer)

    @handles(Moved)
    def moved(self, balance: Balance | None, event: RecordedEvent) -> Balance:
        found = balance or Balance()
        return Balance(found.cents + event.data.cents, found.moves + 1)


class Journal(TableProjection):
    """A row a movement, in a table without a key: what comes twice is there twice."""

    name = "journal"
    pause = 0.0

    @handles(Moved)
    def moved(self, event: RecordedEvent, connection: Any) -> None:
        connection.execute(
            "INSERT INTO journal VALUES (%s, %s)", [event.position, event.data.cents]
        )
        if self.pause:
            sys.stdout.write("paused\n")
            sys.stdout.flush()
            time.sleep(self.pause)


def main(url: str, schema: str, lease: str, pause: str) -> None:
    """Run them until the process is killed."""
    journal = Journal()
    journal.pause = float(pause)
    stop = threading.Event()
    with EventStore.connect(url, schema=schema, events=[Moved]) as store:
        threads = []
        for projection, partition in ((Movements, 0), (Movements, 1), (journal, 0)):
            projector = store.projector(projection, partition=partition, lease=float(lease))
            threads.append(threading.Thread(target=projector.run, args=(stop,), daemon=True))
            threads[-1].start()
        threads[0].join()


if __name__ == "__main__":
    main(*sys.argv[1:])
