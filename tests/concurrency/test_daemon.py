"""Daemons that are killed: others take over, and every sum is right."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack

from indelible import ANY, DocumentProjection, EventStore, NewEvent, RecordedEvent, handles
from tests.waiting import wait_until

_LEASE = 1.0

_DAEMON = f"""
import sys, threading
from indelible import EventStore
from tests.concurrency.test_daemon import Cents
url, schema, name = sys.argv[1:]
with EventStore.connect(url, schema=schema) as store:
    store.daemon([Cents], lease={_LEASE}, name=name).run(threading.Event())
"""


class Cents(DocumentProjection[dict]):
    """By receiver, each of which has events of many streams."""

    name = "cents"
    partitions = 4

    def key(self, event: RecordedEvent) -> str:
        return str(event.data["to"])

    @handles("Paid")
    def paid(self, document: dict | None, event: RecordedEvent) -> dict:
        return {"cents": (document or {"cents": 0})["cents"] + event.data["cents"]}


def pay(store: EventStore, receivers: Counter[str], count: int) -> int:
    position = 0
    for _ in range(count):
        paid = []
        for _ in range(random.randint(1, 5)):
            to, cents = f"r-{random.randint(1, 20)}", random.randint(1, 999)
            receivers[to] += cents
            paid.append(NewEvent("Paid", {"to": to, "cents": cents}))
        stream = f"account-{random.randint(1, 30)}"
        position = store.append(stream, paid, expected=ANY).position
    return position


def owners(store: EventStore) -> Counter[str]:
    found = [build for build in store.projections() if build.name == "cents"]
    return Counter(
        part.owner for build in found for part in build.partitions if part.owner is not None
    )


def test_a_killed_daemon_is_taken_over_within_its_lease_and_a_beat_and_nothing_counts_twice(
    sync_store: EventStore, url: str, schema: str
) -> None:
    sums: Counter[str] = Counter()
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                subprocess.Popen([sys.executable, "-c", _DAEMON, url, schema, name])
            )
            for name in ("first", "second")
        }
        for process in processes.values():
            stack.callback(process.kill)
        wait_until(lambda: owners(sync_store) == {"first": 2, "second": 2})
        pay(sync_store, sums, random.randint(20, 200))
        processes["first"].kill()
        killed_at = time.monotonic()
        pay(sync_store, sums, 50)
        wait_until(lambda: owners(sync_store) == {"second": 4})
        # Its lease, a beat, and what a busy machine needs.
        assert time.monotonic() - killed_at < _LEASE + _LEASE / 3 + 1.5
        position = pay(sync_store, sums, 50)
        sync_store.wait_for("cents", position)
        found = sync_store.documents(Cents).find(limit=100)
        assert {key: document["cents"] for key, document in found.items()} == sums
