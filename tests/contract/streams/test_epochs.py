"""Epochs: the errors that readers get if the log lost events. tests/failover uses real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AppendCondition,
    Checkpoint,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    StreamAppend,
)
from indelible.errors import EpochMismatch
from tests.support.waiting import wait_until


def event(number: int = 0, *tags: str) -> NewEvent:
    return NewEvent("Happened", {"number": number}, tags=tags)


@pytest.fixture
def fail_over(connection: psycopg.Connection, schema: str) -> Callable[..., None]:
    """Make the store what it is after a fail-over: another timeline, and maybe fewer events.

    It is done as the owner can who switches the triggers off. Only sessions that come later learn
    of it, as with a server that takes over: all others are ended.
    """

    def change(*, loses_after: int | None = None, is_noticed: bool = True) -> None:
        with connection.transaction():
            if is_noticed:
                connection.execute(f"UPDATE {schema}.epochs SET timeline = timeline - 1")
            if loses_after is not None:
                for table, *triggers in (
                    ("events", "events_are_immutable", "events_change_as_recorded"),
                    ("event_tags", "event_tags_are_immutable"),
                ):
                    name = f"{schema}.{table}"
                    connection.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER")
                    connection.execute(f"DELETE FROM {name} WHERE position > %s", [loses_after])
                    for trigger in triggers:
                        connection.execute(f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER {trigger}")
                connection.execute(
                    f"UPDATE {schema}.streams SET version = (SELECT max(version)"
                    f" FROM {schema}.events WHERE stream_id = streams.id)"
                    f" WHERE EXISTS (SELECT FROM {schema}.events WHERE stream_id = streams.id)"
                )
                connection.execute(f"SELECT setval('{schema}.events_position', %s)", [loses_after])
                connection.execute(
                    f"UPDATE {schema}.settled SET position = least(position, %s)", [loses_after]
                )
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'indelible'"
        )
        connection.execute("RESET ALL")

    return change


def checkpoint_after(store: EventStore, events: int) -> Checkpoint:
    """The checkpoint of a reader that has had so many events."""
    with store.subscribe() as subscription:
        for _ in range(events):
            next(subscription)
        return Checkpoint.parse(str(subscription.checkpoint))


def numbers(store: EventStore, start: Checkpoint | int, count: int) -> list[int]:
    with store.subscribe(after=start) as subscription:
        return [next(subscription).data["number"] for _ in range(count)]


# Checkpoints --------------------------------------------------------------------------------------


def test_a_fail_over_without_loss_disturbs_no_checkpoint(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    checkpoint = checkpoint_after(store, 2)
    fail_over()
    store.append("a-1", event(3), expected=2)
    assert store.epoch() != checkpoint.epoch
    assert numbers(store, checkpoint, 2) == [2, 3]


def test_a_checkpoint_of_a_lost_event_is_refused_and_says_what_to_do(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    """Its position is handed out again: what stands there now would be passed over in silence."""
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    checkpoint = checkpoint_after(store, 3)
    fail_over(loses_after=1)
    store.append("a-1", [event(10 + n) for n in range(4)], expected=0)
    with pytest.raises(EpochMismatch, match="lost events below position 3") as failure:
        numbers(store, checkpoint, 1)
    assert failure.value.position == 3
    assert checkpoint.anchor is not None
    assert failure.value.lost == (checkpoint.anchor[1],)
    assert failure.value.epoch == store.epoch()
    assert failure.value.safe_through is not None
    assert failure.value.safe_through <= 1
    assert numbers(store, 1, 4) == [10, 11, 12, 13]


def test_a_checkpoint_is_good_up_to_what_every_epoch_since_vouches_for(
    store: EventStore,
    connection: psycopg.Connection,
    schema: str,
    fail_over: Callable[..., None],
) -> None:
    """Also if the event that it carries is gone, and after two fail-overs in a row."""

    def settled(position: int) -> None:
        connection.execute(
            f"INSERT INTO {schema}.settled (position, noted_at) VALUES (%s, now())"
            " ON CONFLICT (is_only) DO UPDATE SET position = excluded.position",
            [position],
        )

    store.append("a-1", [event(n) for n in range(9)], expected=NO_STREAM)
    first = store.epoch()
    gone = uuid4()
    settled(6)
    fail_over()
    second = store.epoch()
    settled(3)
    fail_over()
    third = store.epoch()
    assert len({first, second, third}) == 3

    def is_good(position: int, epoch: UUID) -> bool:
        try:
            numbers(store, Checkpoint(position, epoch, anchor=(position + 1, gone)), 1)
        except EpochMismatch:
            return False
        return True

    assert [is_good(position, first) for position in (3, 4)] == [True, False]
    assert [is_good(position, second) for position in (3, 4)] == [True, False]
    # Without an anchor event, a checkpoint is accepted in its own epoch.
    assert numbers(store, Checkpoint(4, third), 1) == [4]
    with pytest.raises(EpochMismatch) as failure:
        numbers(store, Checkpoint(5, first), 1)
    assert failure.value.safe_through == 3


def test_a_copy_of_the_disk_is_found_out_by_the_event_that_a_checkpoint_carries(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    """Neither the timeline nor the system identifier tells it from what it is a copy of."""
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    checkpoint = checkpoint_after(store, 3)
    fail_over(loses_after=1, is_noticed=False)
    store.append("a-1", [event(10 + n) for n in range(4)], expected=0)
    assert store.epoch() == checkpoint.epoch
    with pytest.raises(EpochMismatch, match="is not known") as failure:
        numbers(store, checkpoint, 1)
    assert failure.value.safe_through is None


def test_a_checkpoint_of_an_epoch_that_is_not_known_is_decided_by_its_event(
    store: EventStore,
) -> None:
    """The store was restored to before that epoch began."""
    result = store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    (first, *_) = store.read("a-1")
    assert numbers(store, Checkpoint(1, uuid4(), anchor=(1, first.id)), 1) == [1]
    for unknown in (Checkpoint(1, uuid4()), Checkpoint(1, uuid4(), anchor=(1, uuid4()))):
        with pytest.raises(EpochMismatch):
            numbers(store, unknown, 1)
    with pytest.raises(InvalidInput, match="beyond the last position"):
        numbers(store, Checkpoint(result.position + 1, store.epoch()), 1)


def test_a_checkpoint_survives_its_text(store: EventStore) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    (first, second, _) = store.read("a-1")
    for checkpoint in (
        Checkpoint(1, store.epoch()),
        Checkpoint(1, store.epoch(), anchor=(1, first.id)),
        Checkpoint(1, store.epoch(), anchor=(2, second.id)),
        Checkpoint(1, store.epoch(), due=(first.recorded_at, 1), anchor=(2, second.id)),
    ):
        read = Checkpoint.parse(str(checkpoint))
        assert (read, read.anchor) == (checkpoint, checkpoint.anchor)


def test_an_answer_as_of_a_checkpoint_is_refused_if_its_log_is_gone(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    checkpoint = checkpoint_after(store, 2)
    assert len(list(store.read_all(as_of=checkpoint))) == 2
    fail_over(loses_after=1)
    store.append("a-1", [event(10 + n) for n in range(4)], expected=0)
    for read in (store.read_all(as_of=checkpoint), store.read("a-1", as_of=checkpoint)):
        with pytest.raises(EpochMismatch):
            list(read)


# Running readers ---------------------------------------------------------------------------------


def test_a_running_subscription_continues_after_a_fail_over_without_loss(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        assert [next(subscription).data["number"] for _ in range(3)] == [0, 1, 2]
        before = subscription.checkpoint
        fail_over()
        store.append("a-1", event(3), expected=2)
        assert next(subscription).data["number"] == 3
        assert subscription.checkpoint.epoch != before.epoch


@pytest.mark.parametrize("due", [False, True])
@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_running_subscription_that_is_ahead_of_the_log_ends_with_an_error(
    store: EventStore, fail_over: Callable[..., None], *, is_noticed: bool, due: bool
) -> None:
    """Also if the new log has grown beyond it before anybody looks."""
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    with store.subscribe(deliver_when_valid=due) as subscription:
        assert [next(subscription).data["number"] for _ in range(3)] == [0, 1, 2]
        fail_over(loses_after=1)
        store.append("a-1", [event(10 + n) for n in range(9)], expected=0)
        with pytest.raises(EpochMismatch):
            for _ in range(9):
                next(subscription)


def test_a_running_subscription_that_is_behind_what_was_lost_continues(
    store: EventStore, fail_over: Callable[..., None], connection: psycopg.Connection, schema: str
) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        next(subscription)
        connection.execute(
            f"INSERT INTO {schema}.settled (position, noted_at) VALUES (2, now())"
            " ON CONFLICT (is_only) DO UPDATE SET position = 2"
        )
    with store.subscribe(after=checkpoint_after(store, 2)) as subscription:
        fail_over(loses_after=2)
        store.append("a-1", [event(10 + n) for n in range(3)], expected=1)
        assert [next(subscription).data["number"] for _ in range(3)] == [10, 11, 12]


TOMORROW = {"valid_at": datetime.now(UTC) + timedelta(days=1)}


@pytest.mark.parametrize("options", [{}, TOMORROW], ids=["by position", "by valid time"])
def test_a_reading_that_is_in_the_middle_continues_if_nothing_is_lost(
    store: EventStore, fail_over: Callable[..., None], options: dict[str, Any]
) -> None:
    store.append("a-1", [event(n) for n in range(300)], expected=NO_STREAM)
    reading = iter(store.read_all(**options))
    read = [next(reading).data["number"]]
    fail_over()
    store.append("a-1", event(300), expected=299)
    assert read + [event.data["number"] for event in reading] == [*range(300)]


@pytest.mark.parametrize("options", [{}, TOMORROW], ids=["by position", "by valid time"])
def test_a_reading_that_is_in_the_middle_ends_with_an_error_if_its_log_is_gone(
    store: EventStore, fail_over: Callable[..., None], options: dict[str, Any]
) -> None:
    store.append("a-1", [event(n) for n in range(300)], expected=NO_STREAM)
    reading = iter(store.read_all(**options))
    next(reading)
    fail_over(loses_after=200)
    store.append("a-1", [event(1000 + n) for n in range(300)], expected=199)
    with pytest.raises(EpochMismatch) as failure:
        list(reading)
    assert failure.value.position == 300


def test_the_worker_of_a_group_joins_again_and_begins_from_the_rows(
    store: EventStore, fail_over: Callable[..., None], connection: psycopg.Connection, schema: str
) -> None:
    """What it has in memory is of a log that is gone: else it would pass over new events."""
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    group = store.group("mails")
    group.create(lease=30)
    with group.consume() as consumer:
        for number in range(3):
            delivery = consumer.take(20)
            assert delivery is not None
            assert delivery.data["number"] == number
            delivery.ack()
        assert group.wait_for(3, timeout=20)
        with connection.transaction():  # as a standby that lags has them
            connection.execute(f"UPDATE {schema}.group_workers SET checkpoint = 1")
            connection.execute(f"UPDATE {schema}.group_slices SET position = least(position, 1)")
        fail_over(loses_after=1)
        store.append("a-1", [event(10 + n) for n in range(9)], expected=0)
        seen = []
        for _ in range(9):
            delivery = consumer.take(20)
            assert delivery is not None
            seen.append(delivery.data["number"])
            delivery.ack()
    assert seen == [10 + n for n in range(9)]


def test_the_settled_position_is_noted_while_somebody_watches(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    with store.subscribe() as subscription:
        for _ in range(3):
            next(subscription)
        store.append("a-1", event(3), expected=2)
        next(subscription)

        def is_noted() -> bool:
            row = connection.execute(f"SELECT position FROM {schema}.settled").fetchone()
            return row is not None and row[0] > 0

        wait_until(is_noted)


# Conditions --------------------------------------------------------------------------------------


def test_a_marker_is_good_after_a_fail_over_without_loss(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    store.append("a-1", event(0, "course:c1"), expected=NO_STREAM)
    query = Query(tags="course:c1")
    marker = store.read_matching(query).marker
    fail_over()
    store.append("b-1", event(), expected=ANY, condition=AppendCondition(query, after=marker))


def test_a_marker_of_a_log_that_is_gone_is_refused(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    """The event that it did not see stands at a position that it has passed."""
    store.append("a-1", [event(n, "course:c1") for n in range(3)], expected=NO_STREAM)
    query = Query(tags="course:c1")
    marker = store.read_matching(query).marker
    fail_over(loses_after=1)
    store.append("a-1", [event(10 + n, "course:c1") for n in range(2)], expected=0)
    condition = AppendCondition(query, after=marker)
    for attempt in (
        lambda: store.append("b-1", event(), expected=ANY, condition=condition),
        lambda: store.append("b-1", event(0, "other:x"), expected=ANY, condition=condition),
        lambda: store.append_many(
            [StreamAppend(name, event(), ANY) for name in ("b-1", "b-2")], condition=condition
        ),
    ):
        with pytest.raises(EpochMismatch) as failure:
            attempt()
        assert failure.value.position == 3
    assert store.stream("b-1") is None


def test_the_retry_of_a_conditional_append_is_a_success_after_a_fail_over(
    store: EventStore, fail_over: Callable[..., None]
) -> None:
    query = Query(tags="course:c1")
    store.append("a-1", event(0, "course:c1"), expected=NO_STREAM)
    condition = AppendCondition(query, after=store.read_matching(query).marker)
    new = event(1, "course:c1")
    first = store.append("b-1", new, expected=ANY, condition=condition)
    fail_over()
    again = store.append("b-1", new, expected=ANY, condition=condition)
    assert again.idempotent
    assert again.position == first.position


# New epochs --------------------------------------------------------------------------------------


def test_an_append_begins_the_epoch_before_it_takes_a_position(
    store: EventStore,
    fail_over: Callable[..., None],
    connection: psycopg.Connection,
    schema: str,
) -> None:
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    fail_over()
    store.append("a-1", event(3), expected=2)
    rows = connection.execute(
        f"SELECT number, last_position FROM {schema}.epochs ORDER BY number"
    ).fetchall()
    assert rows == [(1, 0), (2, 3)]


def test_many_that_come_at_once_begin_one_epoch(
    store: EventStore,
    fail_over: Callable[..., None],
    connection: psycopg.Connection,
    url: str,
    schema: str,
) -> None:
    store.append("a-1", event(), expected=NO_STREAM)
    fail_over()

    def append(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(f"SELECT {schema}.head()" if number % 2 else f"SELECT {schema}.epoch()")

    threads = [threading.Thread(target=append, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = connection.execute(f"SELECT count(*) FROM {schema}.epochs").fetchone()
    assert row == (2,)


def test_an_operator_begins_an_epoch_that_vouches_for_nothing(
    store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """Of a restored disk nobody knows which history wrote the settled position."""
    store.append("a-1", [event(n) for n in range(3)], expected=NO_STREAM)
    checkpoint = checkpoint_after(store, 2)
    epoch = store.renew_epoch()
    assert store.epoch() == epoch != checkpoint.epoch
    assert numbers(store, checkpoint, 1) == [2]  # its event is there
    with pytest.raises(EpochMismatch):
        numbers(store, Checkpoint(checkpoint.position, checkpoint.epoch), 1)
    row = connection.execute(f"SELECT min(safe_through) FROM {schema}.epochs").fetchone()
    assert row == (0,)


# Acknowledged means durable ----------------------------------------------------------------------


def test_an_append_is_on_disk_whatever_role_and_database_are_set_to(
    connection: psycopg.Connection, schema: str
) -> None:
    """What was acknowledged and lost in a crash would be passed over by readers that saw it."""
    connection.execute("SET synchronous_commit = off")
    with connection.transaction():
        connection.execute(
            f"""SELECT {schema}.append('a-1', NULL, -1, jsonb_build_array(jsonb_build_object(
                'id', gen_random_uuid(), 'type', 'A', 'data', 1)))"""
        )
        row = connection.execute("SHOW synchronous_commit").fetchone()
    assert row == ("local",)
    assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    connection.execute("RESET synchronous_commit")
