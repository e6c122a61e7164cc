"""Archiving during appends (G4); docs/explanation/stream-lifecycle.md has the argument."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from indelible import ANY, NO_STREAM, DuplicateEvent, EventStore, NewEvent
from indelible.bulk_import import ImportEvent
from indelible.errors import TransactionConflict
from tests.support.interleavings import stopped_at
from tests.support.waiting import wait_until


def fact(event_id: UUID | None = None) -> NewEvent:
    return NewEvent("Happened", {}, id=event_id or uuid4())


def archive(store: EventStore, stream: str) -> None:
    store.close_stream(stream, expected=ANY)
    store.archive_stream(stream)


def stored(store: EventStore, event_id: UUID) -> list[str]:
    """The streams that have an event with the id."""
    return [event.stream for event in store.read_all() if event.id == event_id]


def batch(schema: str, stream: str, event_id: UUID) -> tuple[str, list[Any]]:
    event = {"id": str(event_id), "type": "Happened", "data": {}}
    entry = {"stream": stream, "expected": -1, "events": [event]}
    return f"SELECT outcome FROM {schema}.append_batch(%s)", [Jsonb([entry])]


@pytest.mark.parametrize("has_archive", [False, True])
def test_an_id_that_is_appended_and_archived_after_an_append_has_looked_for_it_is_refused(
    sync_store: EventStore, url: str, schema: str, has_archive: bool
) -> None:
    store = sync_store
    store.append("a-1", fact(), expected=NO_STREAM)
    store.append("old-1", fact(), expected=NO_STREAM)
    if has_archive:
        archive(store, "old-1")
    event_id = uuid4()
    with ThreadPoolExecutor(1) as thread:
        # Its row is created after the check of the ids.
        with stopped_at(url, schema, "streams", "INSERT") as place:
            running = thread.submit(store.append, "b-1", fact(event_id), expected=NO_STREAM)
            place.wait_until_reached()
            store.append("a-1", fact(event_id), expected=0)
            archive(store, "a-1")
            place.release()
            with pytest.raises(DuplicateEvent):
                running.result()

    assert stored(store, event_id) == ["a-1"]
    assert store.stream("b-1") is None


def test_an_id_that_is_appended_and_archived_after_a_batch_has_looked_for_it_is_refused(
    sync_store: EventStore, url: str, schema: str
) -> None:
    store = sync_store
    store.append("a-1", fact(), expected=NO_STREAM)
    event_id = uuid4()
    statement, parameters = batch(schema, "b-1", event_id)
    with ThreadPoolExecutor(1) as thread, psycopg.connect(url, autocommit=True) as own:
        with stopped_at(url, schema, "streams", "INSERT") as place:
            running = thread.submit(own.execute, statement, parameters)
            place.wait_until_reached()
            store.append("a-1", fact(event_id), expected=0)
            archive(store, "a-1")
            place.release()
            with pytest.raises(psycopg.errors.SerializationFailure):
                running.result()
        assert stored(store, event_id) == ["a-1"]
        # Now the check finds the id: only that append is rejected.
        assert own.execute(statement, parameters).fetchone() == ("duplicate",)
    assert stored(store, event_id) == ["a-1"]


def test_an_id_that_is_archived_while_a_chunk_is_copied_is_refused(
    sync_store: EventStore, url: str, schema: str
) -> None:
    store = sync_store
    event_id = uuid4()
    store.append("a-1", fact(event_id), expected=NO_STREAM)
    events = [
        ImportEvent("b-1", {}, "Happened", id=uuid4()),
        ImportEvent("b-1", {}, "Happened", id=event_id),
    ]
    with ThreadPoolExecutor(1) as thread:
        with stopped_at(url, schema, "events", "INSERT") as place:
            running = thread.submit(store.import_events, events)
            place.wait_until_reached()
            archive(store, "a-1")
            place.release()
            with pytest.raises(DuplicateEvent, match=r"event 2"):
                running.result()

    assert stored(store, event_id) == ["a-1"]
    assert store.stream("b-1") is None


def test_a_transaction_with_an_older_snapshot_stores_no_id_that_was_archived_since(
    sync_store: EventStore, url: str, schema: str
) -> None:
    store = sync_store
    event_id = uuid4()
    with psycopg.connect(url) as own:
        own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        own.execute(f"SELECT count(*) FROM {schema}.events")
        store.append("a-1", fact(event_id), expected=NO_STREAM)
        archive(store, "a-1")
        with pytest.raises(TransactionConflict):
            store.bind(own).append("b-1", fact(event_id), expected=NO_STREAM)
        own.rollback()
        # An append with a later snapshot sees the archive.
        store.bind(own).append("c-1", fact(), expected=NO_STREAM)
        with pytest.raises(DuplicateEvent):
            store.bind(own).append("b-1", fact(event_id), expected=NO_STREAM)
        own.commit()

    assert stored(store, event_id) == ["a-1"]


def test_appends_do_not_wait_for_a_transaction_that_has_archived(
    sync_store: EventStore, schema: str, connection: psycopg.Connection
) -> None:
    store = sync_store
    for stream in ("a-1", "b-1"):
        store.append(stream, fact(), expected=NO_STREAM)
        store.close_stream(stream, expected=0)
    store.archive_stream("a-1")  # from now on appends check the archive
    statement, parameters = batch(schema, "d-1", uuid4())
    with store.transaction() as transaction:
        transaction.archive_stream("b-1")
        connection.execute("SET lock_timeout = '2s'")
        store.bind(connection).append("c-1", fact(), expected=NO_STREAM)
        assert connection.execute(statement, parameters).fetchone() == ("appended",)


def test_archives_of_several_streams_in_any_order_never_deadlock(
    sync_store: EventStore, connection: psycopg.Connection, url: str, schema: str
) -> None:
    store = sync_store
    for stream in ("a-1", "b-1"):
        store.append(stream, fact(), expected=NO_STREAM)
        store.close_stream(stream, expected=0)

    def both(order: list[str]) -> None:
        with store.transaction() as transaction:
            for stream in order:
                transaction.archive_stream(stream)

    def are_waiting() -> bool:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND strpos(query, %s) > 0",
            [f'"{schema}".archive_stream'],
        ).fetchone()
        return row == (2,)

    with ThreadPoolExecutor(2) as threads:
        with stopped_at(url, schema, "archived_events") as place:
            running = threads.map(both, [["a-1", "b-1"], ["b-1", "a-1"]])
            wait_until(
                are_waiting
            )  # one at the row of its first stream, the other at the append lock
            place.release()
            list(running)
    assert [event.stream for event in store.read_all()] == ["a-1", "b-1"]
    assert [len(list(store.stream_changes(stream))) for stream in ("a-1", "b-1")] == [2, 2]
