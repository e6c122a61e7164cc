"""A store that was dumped and restored into another cluster with smaller transaction ids."""

from __future__ import annotations

import subprocess
from pathlib import Path
from uuid import uuid4

from indelible import ANY, EventStore, NewEvent
from tests.support.servers import SystemServer, wheel_binaries


def event(number: int) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def test_a_restored_store_goes_on_where_it_was(
    sync_store: EventStore, url: str, schema: str, server_folder: Path
) -> None:
    """No event becomes invisible or changes its place, for old readers and for new ones."""
    for number in range(5):
        sync_store.append(f"a-{number % 2}", event(number), expected=ANY)
    group = sync_store.group("mails")
    group.create()
    with group.consume() as consumer:
        for _ in range(3):
            delivery = consumer.take(20)
            assert delivery is not None
            delivery.ack()
    checkpoint = group.info().checkpoint
    subscription = sync_store.subscribe()
    read = [next(subscription) for _ in range(3)]

    binaries = wheel_binaries()
    dump = subprocess.run(
        [str(binaries / "pg_dump"), f"--schema={schema}", url], check=True, capture_output=True
    )
    with SystemServer(server_folder / f"restored-{uuid4().hex}", binaries) as server:
        subprocess.run(
            [str(binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", server.url],
            input=dump.stdout,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with EventStore.connect(server.url, schema=schema) as restored:
            assert list(restored.read_all()) == list(sync_store.read_all())
            assert restored.head() == sync_store.head()
            last = restored.append("a-1", event(5), expected=1)
            assert last.position == sync_store.head() + 1
            rest = restored.subscribe(after=subscription.checkpoint)
            assert [e.data["number"] for e in [*read, *(next(rest) for _ in range(3))]] == [
                *range(6)
            ]
            group = restored.group("mails")
            assert group.info().checkpoint == checkpoint
            with group.consume() as consumer:
                while group.info().checkpoint < last.position:
                    delivery = consumer.take(20)
                    assert delivery is not None
                    delivery.ack()
                    assert group.wait_for(delivery.position, timeout=20)
