"""Killed workers: others take over, and an event that kills its workers is parked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from indelible import ANY, EventStore, NewEvent
from tests.support.waiting import wait_until

_WORKER = """
import os, signal, sys
from indelible import EventStore
url, schema, acked, deadly = sys.argv[1:]
kept = []
with EventStore.connect(url, schema=schema, pool_size=2) as store:
    with store.group("mails").consume() as consumer:
        for count, delivery in enumerate(consumer):
            print(delivery.position, flush=True)
            if delivery.data["number"] == int(deadly):
                os.kill(os.getpid(), signal.SIGKILL)
            if count >= int(acked):
                kept.append(delivery)
                continue
            delivery.ack()
"""


@contextmanager
def worker_process(
    url: str, schema: str, *, acked: int, deadly: int = -1
) -> Iterator[subprocess.Popen[str]]:
    """A worker that acks the first events that it gets, and keeps the others."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, url, schema, str(acked), str(deadly)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def event(number: int) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def test_another_worker_takes_over_from_a_killed_one_and_only_unacked_events_come_again(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    lease = 1.5
    positions = [
        sync_store.append(f"s-{number}", event(number), expected=ANY).position
        for number in range(12)
    ]
    group = sync_store.group("mails")
    group.create(lease=lease)
    with worker_process(url, schema, acked=8) as process:
        assert process.stdout is not None
        given = [int(process.stdout.readline()) for _ in range(12)]
        assert sorted(given) == positions

        def are_saved() -> bool:
            row = connection.execute(
                f"SELECT count(*) FROM {schema}.group_slices JOIN {schema}.group_workers"
                " USING (group_id, token) WHERE greatest(position, checkpoint) >= 8"
            ).fetchone()
            return row is not None and row[0] > 0

        wait_until(are_saved)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_at = time.monotonic()

        with group.consume() as consumer:
            again = []
            for _ in range(4):
                delivery = consumer.take(20)
                assert delivery is not None
                if not again:
                    assert time.monotonic() - killed_at < lease + 3
                assert delivery.attempt == 2
                again.append(delivery.position)
                delivery.ack()
            assert consumer.take(0.5) is None
    assert sorted(again) == sorted(given[8:])


def test_acks_above_an_event_that_is_long_in_progress_outlive_their_worker(
    sync_store: EventStore, url: str, schema: str, connection: psycopg.Connection
) -> None:
    """The first event is never acked, and keeps the checkpoint down."""
    last = 0
    for number in range(6):
        last = sync_store.append(f"s-{number}", event(number), expected=ANY).position
    group = sync_store.group("mails")
    group.create(lease=1)
    worker = group.consume()
    first = worker.take(20)
    for _ in range(5):
        delivery = worker.take(20)
        assert delivery is not None
        delivery.ack()

    def are_saved() -> bool:
        row = connection.execute(
            f"SELECT count(*) FROM {schema}.group_slices WHERE position BETWEEN 2 AND %s", [last]
        ).fetchone()
        return row == (5,)

    wait_until(are_saved)
    assert first is not None
    # As if it died: its lease expires, and it gives nothing back.
    connection.execute(f"UPDATE {schema}.group_workers SET expires_at = '-infinity'")
    with group.consume() as consumer:
        delivery = consumer.take(20)
        assert delivery is not None
        assert delivery.position == first.position
        delivery.ack()
        assert consumer.take(0.3) is None
    worker.close()


def test_an_event_that_kills_its_workers_is_parked_and_the_others_are_handled(
    sync_store: EventStore, url: str, schema: str
) -> None:
    """Attempts are counted before the handler runs."""
    for number in range(10):
        sync_store.append(f"s-{number}", event(number), expected=ANY)
    sync_store.append("s-4", event(99), expected=ANY)
    group = sync_store.group("mails")
    group.create(lease=0.5, max_attempts=3)
    deaths = 0
    while not group.parked():
        with worker_process(url, schema, acked=1000, deadly=4) as process:
            wait_until(lambda p=process: p.poll() is not None or group.parked())  # type: ignore[misc]
            deaths += process.poll() == -signal.SIGKILL
        assert deaths <= 3

    (parked,) = group.parked()
    assert (parked.stream, parked.version) == ("s-4", 0)
    assert parked.reason == "the worker died at attempt 3"
    assert deaths == 3
    with group.consume() as consumer:

        def is_done() -> bool:
            if delivery := consumer.take(0.1):
                delivery.ack()
            info = group.info()
            return (info.queued, info.checkpoint) == (1, sync_store.head())

        wait_until(is_done)
    assert group.info().parked == 1
