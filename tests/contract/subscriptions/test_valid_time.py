"""Subscriptions that return each event when its valid time comes.

docs/explanation/bitemporal.md has the argument."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    Checkpoint,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
)
from indelible.errors import EpochMismatch
from indelible.subscriptions import Subscription


def fact(number: int, valid_at: datetime | None = None, event_type: str = "Happened") -> NewEvent:
    return NewEvent(event_type, {"number": number}, valid_at=valid_at)


def soon(seconds: float) -> datetime:
    """A moment to come. Servers of the tests are on this machine: its clock is theirs."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def before(moment: datetime, store: EventStore) -> Checkpoint:
    """A start from which events of a valid time come when due, even if that time has passed."""
    return Checkpoint(0, store.epoch(), due=(moment - timedelta(seconds=1), 0))


def numbers(events: list[RecordedEvent]) -> list[int]:
    return [event.data["number"] for event in events]


def take(subscription: Subscription, count: int) -> list[RecordedEvent]:
    """Take so many events, none of them before its time; fail where they do not come."""
    taken: list[RecordedEvent] = []
    alarm = threading.Timer(10, subscription.stop)
    alarm.start()
    try:
        for event in islice(subscription, count):
            taken.append(event)
            assert event.valid_at <= datetime.now(UTC)
    finally:
        alarm.cancel()
    assert len(taken) == count, "they did not come in time"
    return taken


def test_what_is_late_comes_at_once_and_what_is_ahead_when_its_time_comes(
    store: EventStore,
) -> None:
    store.append("a-1", [fact(1), fact(2, soon(0.5)), fact(3, soon(-9))], expected=NO_STREAM)
    with store.subscribe(deliver_when_valid=True) as subscription:
        assert numbers(take(subscription, 2)) == [1, 3]
        store.append("a-1", [fact(4), fact(5, soon(-9))], expected=2)
        assert numbers(take(subscription, 3)) == [4, 5, 2]
        store.append("a-1", fact(6, soon(0.1)), expected=4)
        assert numbers(take(subscription, 1)) == [6]


def test_what_is_ahead_comes_in_order_of_valid_time_then_of_position(store: EventStore) -> None:
    at = soon(0.4)
    store.append("b-1", [fact(1, at + timedelta(seconds=0.1)), fact(2, at)], expected=NO_STREAM)
    store.append("a-1", [fact(3, at), fact(4, at - timedelta(seconds=0.1))], expected=NO_STREAM)
    with store.subscribe(deliver_when_valid=True, after=before(at, store)) as subscription:
        assert numbers(take(subscription, 4)) == [4, 2, 3, 1]


def test_a_reader_from_the_head_has_what_was_recorded_before_and_is_valid_after(
    store: EventStore,
) -> None:
    store.append("a-1", [fact(1), fact(2, soon(0.3)), fact(3, soon(-9))], expected=NO_STREAM)
    with store.subscribe(deliver_when_valid=True, after="head") as subscription:
        assert numbers(take(subscription, 1)) == [2]


def test_a_query_holds_for_what_is_due(store: EventStore) -> None:
    at = soon(0.3)
    store.append(
        "a-1", [fact(1, at), fact(2, at, "Other"), fact(3), fact(4, at)], expected=NO_STREAM
    )
    query = Query(types="Happened") | Query(types="Nothing")
    with store.subscribe(query, deliver_when_valid=True, after=before(at, store)) as subscription:
        assert numbers(take(subscription, 3)) == [3, 1, 4]


def test_more_come_due_at_once_than_a_page_holds(store: EventStore) -> None:
    at = soon(0.3)
    store.append("a-1", [fact(number, at) for number in range(2_100)], expected=NO_STREAM)
    with store.subscribe(deliver_when_valid=True) as subscription:
        assert numbers(take(subscription, 2_100)) == list(range(2_100))


def test_a_reader_that_stops_after_any_event_misses_and_repeats_nothing(
    store: EventStore,
) -> None:
    """Kept as text, as a program keeps it."""
    random = Random(5)
    kept = "0@" + str(store.epoch())
    seen: list[int] = []
    given = 0
    while len(seen) < 60:
        if given < 60:
            count = random.choice([1, 1, 2, 5])
            facts = []
            for _ in range(min(count, 60 - given)):
                given += 1
                ahead = random.choice([None, -5, 0.01, 0.02, 0.05, 0.2])
                facts.append(fact(given, None if ahead is None else soon(ahead)))
            store.append(f"a-{random.randrange(3)}", facts, expected=ANY)
        with store.subscribe(deliver_when_valid=True, after=Checkpoint.parse(kept)) as subscription:
            for event in take(subscription, min(random.choice([1, 1, 2]), given - len(seen))):
                seen.append(event.data["number"])
                kept = str(subscription.checkpoint)

    assert sorted(seen) == list(range(1, 61))


def test_a_checkpoint_between_batches_counts_them_whole(store: EventStore) -> None:
    store.append("a-1", [fact(1), fact(2, soon(0.2)), fact(3)], expected=NO_STREAM)
    found: list[int] = []
    with store.subscribe(deliver_when_valid=True) as subscription:
        for batch in subscription.batches():
            found += numbers(list(batch.events))
            if found:
                break
        kept = subscription.checkpoint
    with store.subscribe(deliver_when_valid=True, after=kept) as subscription:
        found += numbers(take(subscription, 1))
    assert found == [1, 3, 2]
    assert Checkpoint.parse(str(kept)) == kept


def test_a_checkpoint_of_another_kind_or_history_is_refused(store: EventStore) -> None:
    store.append("a-1", fact(1), expected=NO_STREAM)
    with store.subscribe(deliver_when_valid=True) as subscription:
        next(subscription)
        kept = subscription.checkpoint
    assert kept.due is not None
    with pytest.raises(InvalidInput, match="deliver_when_valid=True"):
        store.subscribe(after=kept).stop()
    plain = Checkpoint(1, kept.epoch)
    assert Checkpoint.parse(str(plain)) == plain
    with store.subscribe(deliver_when_valid=True, after=plain) as subscription:
        store.append("a-1", fact(2), expected=0)
        assert numbers(take(subscription, 1)) == [2]
    store.renew_epoch()
    with (
        pytest.raises(EpochMismatch),
        store.subscribe(deliver_when_valid=True, after=plain) as subscription,
    ):
        next(subscription)
    with pytest.raises(InvalidInput):
        Checkpoint.parse(f"1@{kept.epoch}@yesterday/7")


def test_a_reader_that_waits_for_what_is_far_ahead_asks_seldom_and_can_be_stopped(
    sync_store: EventStore,
) -> None:
    sync_store.append("a-1", fact(1, soon(3600)), expected=NO_STREAM)
    with sync_store.subscribe(deliver_when_valid=True) as subscription:
        asked = []
        run = subscription._engine.run

        def counted(operation: Any) -> Any:
            asked.append(operation)
            return run(operation)

        subscription._engine.run = counted  # type: ignore[method-assign]
        reader = threading.Thread(target=lambda: list(subscription))
        reader.start()
        assert subscription.wait_until_caught_up(20)
        assert subscription.is_caught_up
        before = len(asked)
        time.sleep(0.5)
        assert len(asked) == before
        subscription.stop()
        reader.join(10)
        assert not reader.is_alive()


def test_nothing_is_missed_or_repeated_beside_slow_writers(
    sync_store: EventStore, url: str
) -> None:
    """Facts that are due in the meantime, of transactions that commit late or roll back."""
    stored: set[int] = set()
    guard = threading.Lock()

    def write(seed: int) -> None:
        random = Random(seed)
        with psycopg.connect(url) as connection:
            bound = sync_store.bind(connection)
            for number in range(40):
                added = []
                for part in range(random.choice([1, 2])):
                    ahead = random.choice([None, -1, 0.002, 0.01, 0.03, 0.2])
                    added.append(seed * 1_000 + number * 10 + part)
                    bound.append(
                        f"a-{seed}",
                        fact(added[-1], None if ahead is None else soon(ahead)),
                        expected=ANY,
                    )
                    time.sleep(random.choice([0, 0, 0.01]))
                if random.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    with guard:
                        stored.update(added)
        with guard:
            last = seed * 1_000 + 999
        sync_store.append(f"a-{seed}", fact(last, soon(0.4)), expected=ANY)
        with guard:
            stored.add(last)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    lasts = 0
    kept: Any = 0
    while lasts < len(writers):
        with sync_store.subscribe(deliver_when_valid=True, after=kept) as subscription:
            for _ in range(25):
                (number,) = numbers(take(subscription, 1))
                seen.append(number)
                lasts += number % 1_000 == 999
                kept = subscription.checkpoint
                if lasts == len(writers):
                    break
    for writer in writers:
        writer.join()
    assert len(seen) == len(set(seen))
    assert set(seen) == stored
