"""Consumer groups: in order within a stream, at least once; failures block one stream."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import psycopg
import pydantic
import pytest

from indelible import (
    ANY,
    NO_STREAM,
    AsyncEventStore,
    EventStore,
    InvalidInput,
    NewEvent,
    Query,
    RecordedEvent,
    WaitTimeout,
)
from indelible.consumer_groups import Consumer
from indelible.consumer_groups.progress import InFlightEvent, Outcome
from indelible.consumer_groups.worker import Worker, finish
from indelible.errors import GroupExists, GroupNotFound
from indelible.postgres.statements import statements
from tests.conftest import Connect
from tests.support.waiting import wait_until

LONG = 20.0
"""Seconds after which a test gives up."""
SHORT = 0.3
"""Seconds in which something is not to happen."""


def event(number: int = 0, type_: str = "Happened", **facts: Any) -> NewEvent:
    return NewEvent(type_, {"number": number}, **facts)


def append(store: EventStore, stream: str, *numbers: int) -> int:
    """Append events with these numbers; return the position of the last."""
    return store.append(stream, [event(number) for number in numbers], expected=ANY).position


def taken(consumer: Consumer) -> Any:
    delivery = consumer.take(LONG)
    assert delivery is not None, "nothing came"
    return delivery


def handled(consumer: Consumer, count: int) -> list[int]:
    """Take and ack as many events; return their numbers."""
    numbers = []
    for _ in range(count):
        with taken(consumer) as delivery:
            numbers.append(delivery.data["number"])
    return numbers


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look more often, so that no test waits for a second."""
    monkeypatch.setattr("indelible.consumer_groups.fetch._RETRIES_PAUSE", 0.05)
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", 0.1)


# Create and inspect ----------------------------------------------------------------------------


def test_a_group_is_created_once(store: EventStore) -> None:
    group = store.group("mails")
    assert group.create(Query(types="Happened"), max_attempts=3)
    assert not group.create(Query(types="Happened"), max_attempts=3)
    with pytest.raises(GroupExists, match="other settings"):
        group.create(Query(types="Other"), max_attempts=3)


def test_settings_come_back_as_they_were_given(store: EventStore) -> None:
    query = Query(types=["A", "B"], tags="a:1", channel="c") | Query(stream_prefix="s")
    store.group("mails").create(
        query,
        partition_by="tag:a",
        max_attempts=7,
        retry_after=2,
        lease=3,
        park_blocks_stream=False,
    )
    info = store.group("mails").info()
    settings = info.settings
    assert settings.query == query
    assert (settings.partition_by, settings.max_attempts, settings.retry_after) == ("tag:a", 7, 2)
    assert (settings.lease, settings.park_blocks_stream) == (3, False)
    assert [found.name for found in store.groups()] == ["mails"]


def test_a_delivery_has_the_facts_of_its_event(store: EventStore) -> None:
    valid_at = datetime(2026, 5, 1, tzinfo=UTC)
    store.append("a-1", event(1, tags=["course:1"], valid_at=valid_at), expected=ANY, channel="c")
    (stored,) = store.read("a-1")
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        delivery = taken(consumer)  # in its own block an error would be a failed attempt
        for name in RecordedEvent.__struct_fields__:
            assert getattr(delivery, name) == getattr(stored, name), name
        delivery.ack()


def test_settings_are_changed_from_where_the_group_stands(store: EventStore) -> None:
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(Query(types="Happened"))
    with group.consume() as consumer:
        assert handled(consumer, 1) == [1]
        wait_until(lambda: consumer.take(0.01) is None and group.info().checkpoint == 1)
        group.create(Query(types=["Happened", "Other"]), exists="change")
        store.append("a-1", event(2, "Other"), expected=ANY)
        assert handled(consumer, 1) == [2]


def test_what_keeps_events_in_order_cannot_be_changed(store: EventStore) -> None:
    store.group("mails").create()
    with pytest.raises(InvalidInput, match="cannot be changed"):
        store.group("mails").create(partition_by="tag:a", exists="change")


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "start"},
        {"start": -1},
        {"start": True},
        {"partition_by": "tag:"},
        {"partition_by": "stream:x"},
        {"max_attempts": 0},
        {"max_attempts": True},
        {"retry_after": -1},
        {"lease": 0},
        {"lease": float("nan")},
        {"query": "Happened"},
        {"exists": "ignore"},
    ],
    ids=str,
)
def test_wrong_settings_are_refused_and_create_nothing(store: EventStore, wrong: dict) -> None:
    with pytest.raises(InvalidInput):
        store.group("mails").create(**wrong)
    assert store.groups() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda group: group.info(),
        lambda group: group.reset("head"),
        lambda group: group.delete(),
        lambda group: group.parked(),
        lambda group: group.replay(),
        lambda group: group.discard(),
        lambda group: group.wait_for(0),
        lambda group: group.consume().__enter__(),
    ],
    ids=["info", "reset", "delete", "parked", "replay", "discard", "wait_for", "consume"],
)
def test_a_group_that_is_not_there_is_told_with_those_that_are(
    store: EventStore, call: Any
) -> None:
    store.group("mails").create()
    with pytest.raises(GroupNotFound, match=r"'mials' does not exist \(existing: 'mails'\)"):
        call(store.group("mials"))


def test_starts(store: EventStore) -> None:
    append(store, "a-1", 1)
    second = store.append("a-1", event(2), expected=ANY)
    store.group("beginning").create()
    store.group("position").create(start=second.position - 1)
    store.group("time").create(start=second.recorded_at)
    store.group("later").create(start=second.recorded_at + timedelta(hours=1))
    store.group("head").create(start="head")
    append(store, "a-1", 3)

    expected = {
        "beginning": [1, 2, 3],
        "position": [2, 3],
        "time": [2, 3],
        "head": [3],
        "later": [3],
    }
    for name, numbers in expected.items():
        with store.group(name).consume() as consumer:
            assert handled(consumer, len(numbers)) == numbers, name


def test_a_position_that_was_never_given_out_is_no_start(store: EventStore) -> None:
    last = append(store, "a-1", 1)
    with pytest.raises(InvalidInput, match=f"position 99 is beyond the last position, {last}"):
        store.group("mails").create(start=99)
    assert store.groups() == []
    group = store.group("mails")
    group.create(start=last)
    with pytest.raises(InvalidInput, match="beyond the last position"):
        group.reset(99)
    assert group.info().checkpoint == last


# Deliver ---------------------------------------------------------------------------------------


def test_the_events_of_a_stream_come_in_order_one_at_a_time(store: EventStore) -> None:
    append(store, "a-1", 1, 2, 3)
    append(store, "b-1", 10)
    store.group("mails").create()
    with store.group("mails").consume() as consumer:
        first, other = taken(consumer), taken(consumer)
        assert [first.data["number"], other.data["number"]] == [1, 10]
        assert consumer.take(SHORT) is None
        first.ack()
        assert handled(consumer, 2) == [2, 3]
        other.ack()


def test_what_comes_is_delivered_too(store: EventStore) -> None:
    store.group("mails").create(Query(types="Happened"))
    with store.group("mails").consume() as consumer:
        for number in range(5):
            store.append("a-1", event(number, "Other"), expected=ANY)
            append(store, "a-1", number)
            assert handled(consumer, 1) == [number]


def test_a_long_history_is_delivered_whole_and_in_order(store: EventStore) -> None:
    for number in range(40):
        append(store, f"a-{number % 13}", *range(number * 50, number * 50 + 50))
    store.group("mails").create()
    with store.group("mails").consume() as consumer:
        seen: dict[str, list[int]] = {}
        for _ in range(2000):
            with taken(consumer) as delivery:
                seen.setdefault(delivery.stream, []).append(delivery.version)
    assert sum(map(len, seen.values())) == 2000
    assert all(found == list(range(len(found))) for found in seen.values())


def test_events_are_kept_in_order_by_a_tag_or_a_field(store: EventStore) -> None:
    for stream in ("a-1", "b-1"):
        store.append(
            stream,
            [event(1, tags=["course:c1"], metadata={"tenant": "t"})],
            expected=NO_STREAM,
        )
    for partition_by in ("tag:course", "metadata:tenant"):
        group = store.group(partition_by)
        group.create(partition_by=partition_by)
        with group.consume() as consumer:
            first = taken(consumer)
            assert first.stream == "a-1"
            assert consumer.take(SHORT) is None
            first.ack()
            taken(consumer).ack()


def test_the_end_of_a_block_acks_and_an_error_nacks(store: EventStore) -> None:
    append(store, "a-1", 1)
    store.group("mails").create(retry_after=0)
    with store.group("mails").consume() as consumer:
        with taken(consumer):
            raise ValueError("no")
        with taken(consumer) as again:
            assert again.attempt == 2
        assert consumer.take(SHORT) is None


def test_saying_twice_how_it_went_is_refused(store: EventStore) -> None:
    append(store, "a-1", 1)
    store.group("mails").create()
    with store.group("mails").consume() as consumer:
        delivery = taken(consumer)
        delivery.ack()
        with pytest.raises(InvalidInput, match="report one outcome"):
            delivery.nack()


def test_a_skipped_event_is_done(store: EventStore) -> None:
    append(store, "a-1", 1, 2)
    store.group("mails").create()
    with store.group("mails").consume() as consumer:
        taken(consumer).skip("a test")
        assert handled(consumer, 1) == [2]


def test_unacked_events_are_given_back_at_the_end(store: EventStore) -> None:
    append(store, "a-1", 1, 2)
    append(store, "b-1", 3)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        taken(consumer)
        taken(consumer).ack()
    assert group.info().checkpoint == 0
    with group.consume() as consumer:
        assert handled(consumer, 2) == [1, 2]


def test_a_consumer_that_is_forgotten_gives_back_what_it_held(sync_store: EventStore) -> None:
    append(sync_store, "a-1", 1)
    append(sync_store, "b-1", 2)
    group = sync_store.group("mails")
    group.create(lease=600)
    consumer = group.consume()
    taken(consumer).ack()
    del consumer
    # Repeatedly: its thread may be in the middle of a step.
    wait_until(lambda: gc.collect() >= 0 and group.info().workers == ())
    with group.consume() as another:
        assert handled(another, 1) == [2]


def test_stopping_hands_out_nothing_more(store: EventStore) -> None:
    append(store, "a-1", 1)
    append(store, "b-1", 2)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        delivery = taken(consumer)
        consumer.stop()
        assert consumer.take(LONG) is None
        delivery.ack()
    with group.consume() as consumer:
        assert handled(consumer, 1) == [2]


# Fail ------------------------------------------------------------------------------------------


def test_a_failed_event_is_tried_again_and_then_parked_and_holds_back_only_its_stream(
    store: EventStore,
) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(max_attempts=3, retry_after=0.01)
    with group.consume() as consumer:
        for attempt in (1, 2, 3):
            delivery = taken(consumer)
            assert (delivery.data["number"], delivery.attempt) == (1, attempt)
            delivery.nack(ValueError("no"))
        append(store, "b-1", 3)
        assert handled(consumer, 1) == [3]
        assert consumer.take(SHORT) is None

        (parked,) = group.parked()
        assert (parked.stream, parked.version, parked.attempts, parked.queued) == ("a-1", 0, 3, 1)
        assert parked.error == "ValueError: no"
        assert parked.reason == "failed 3 times: the handler failed"
        info = group.info()
        assert (info.parked, info.queued, info.retrying) == (1, 1, 0)


def test_a_retry_waits_longer_each_time(store: EventStore) -> None:
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(retry_after=1000)
    with group.consume() as consumer:
        taken(consumer).nack()
        assert consumer.take(SHORT) is None
        assert group.info().retrying == 1


@pytest.mark.parametrize("choice", [{}, {"position": 1}, {"stream": "a-1"}], ids=str)
def test_replayed_events_come_again_and_what_waited_follows_in_order(
    store: EventStore, choice: dict
) -> None:
    append(store, "a-1", 1, 2, 3)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        taken(consumer).park("not now")
        wait_until(lambda: consumer.take(0.01) is None and group.info().queued == 2)
        append(store, "a-1", 4)
        assert consumer.take(SHORT) is None
        assert group.replay(**choice) == 1
        again = taken(consumer)
        assert (again.data["number"], again.attempt) == (1, 1)
        assert group.info().checkpoint == 0
        again.ack()
        assert handled(consumer, 3) == [2, 3, 4]
        append(store, "a-1", 5)
        assert handled(consumer, 1) == [5]
        assert group.info().parked == group.info().queued == 0


def test_discarded_events_are_gone_and_what_waited_follows(store: EventStore) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        taken(consumer).park()
        wait_until(lambda: consumer.take(0.01) is None and group.info().queued == 1)
        assert group.discard(stream="b-1") == 0
        assert group.discard(stream="a-1") == 1
        assert handled(consumer, 1) == [2]


def test_parked_events_are_listed_in_pages(store: EventStore) -> None:
    for number in range(5):
        append(store, f"a-{number}", number)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        for _ in range(5):
            taken(consumer).park()

    parked = group.parked()
    assert [event.position for event in parked] == [1, 2, 3, 4, 5]
    assert group.parked(limit=2) == parked[:2]
    assert group.parked(after=2, limit=2) == parked[2:4]
    assert group.parked(after=5) == []
    with pytest.raises(InvalidInput, match="after"):
        group.parked(after=-1)


def test_parked_events_may_let_later_ones_pass(store: EventStore) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(park_blocks_stream=False)
    with group.consume() as consumer:
        taken(consumer).park()
        assert handled(consumer, 1) == [2]
        assert [parked.version for parked in group.parked()] == [0]


def test_a_parked_event_still_holds_back_its_stream_for_the_next_worker(store: EventStore) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        taken(consumer).park()
    append(store, "a-1", 3)
    with group.consume() as consumer:
        assert consumer.take(SHORT) is None
        group.replay()
        assert handled(consumer, 3) == [1, 2, 3]


def test_what_stands_in_an_event_that_cannot_be_read_is_not_noted(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    class Paid(pydantic.BaseModel):
        card: int

    connect().append("a-1", NewEvent("Paid", {"card": "4111-1111"}), expected=NO_STREAM)
    append(connect(), "b-1", 2)
    typed = connect(events=[Paid], unknown="keep")
    group = typed.group("mails")
    group.create()
    with group.consume() as consumer, taken(consumer):
        pass

    (parked,) = group.parked()
    assert "does not fit" in (parked.error or "")
    assert "card" in (parked.error or "")
    assert "4111" not in (parked.error or "")
    assert "4111" not in caplog.text


def test_an_event_that_cannot_be_read_is_parked_and_its_text_kept(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    @dataclass
    class Happened:
        number: int

    store = connect()
    store.append("a-1", NewEvent("Happened", {"number": "many"}), expected=NO_STREAM)
    append(store, "b-1", 2)
    typed = connect(events=[Happened])
    group = typed.group("mails")
    group.create()
    with group.consume() as consumer:
        with taken(consumer) as delivery:
            assert delivery.data == Happened(2)
        (parked,) = group.parked()
        assert parked.reason == "the event cannot be decoded"
        assert "does not fit" in (parked.error or "")
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (
        told.getMessage() == f"a group parked an event: the event cannot be decoded: {parked.error}"
    )
    assert (told.group, told.position) == ("mails", parked.position)  # type: ignore[attr-defined]


# Workers that end --------------------------------------------------------------------------------


@pytest.mark.parametrize("left_by", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_handler_that_is_interrupted_gives_its_event_back(
    store: EventStore, left_by: type[BaseException]
) -> None:
    """No attempt is counted, and what comes after it in its stream still does."""
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(retry_after=0.05, max_attempts=2)
    with group.consume() as consumer:
        for attempt in (1, 1, 1):
            delivery = taken(consumer)
            assert (delivery.data["number"], delivery.attempt) == (1, attempt)
            with pytest.raises(left_by), delivery:
                raise left_by
        taken(consumer).nack()
        again = taken(consumer)
        assert (again.data["number"], again.attempt) == (1, 2)
        with pytest.raises(left_by), again:
            raise left_by
        again = taken(consumer)
        assert (again.data["number"], again.attempt) == (1, 2)
        again.ack()
        assert handled(consumer, 1) == [2]


def test_a_cancellation_of_something_else_is_a_failure(store: EventStore) -> None:
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(retry_after=0, max_attempts=2)
    with group.consume() as consumer:
        for attempt in (1, 2):
            with taken(consumer) as delivery:
                assert delivery.attempt == attempt
                raise asyncio.CancelledError
        wait_until(group.parked)
    (parked,) = group.parked()
    assert parked.error == "CancelledError: "


def test_an_event_that_is_dropped_without_a_word_comes_again(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(retry_after=0.05)
    with group.consume() as consumer:
        taken(consumer)
        gc.collect()
        again = taken(consumer)
        assert (again.data["number"], again.attempt) == (1, 1)
        again.ack()
        assert handled(consumer, 1) == [2]
    assert "event 1 is given back: the delivery was dropped" in caplog.text


def test_a_handler_whose_time_is_over_keeps_nothing(url: str, schema: str) -> None:
    """The time limit is around the block, so that it is cancelled, and the task goes on."""

    async def run() -> list[tuple[int, int]]:
        async with await AsyncEventStore.connect(url, schema=schema, pool_size=4) as store:
            events = [event(number) for number in (1, 2)]
            await store.append("a-1", events, expected=NO_STREAM)
            group = store.group("mails")
            await group.create(Query(channel="a"), retry_after=0.05)
            seen = []
            async with group.consume() as consumer:
                with pytest.raises(TimeoutError):
                    delivery = await consumer.take(LONG)
                    assert delivery is not None
                    async with asyncio.timeout(0.05):
                        with delivery:
                            await asyncio.sleep(LONG)
                for _ in range(2):
                    delivery = await consumer.take(LONG)
                    assert delivery is not None
                    with delivery:
                        seen.append((delivery.data["number"], delivery.attempt))
            return seen

    assert asyncio.run(run()) == [(1, 1), (2, 1)]


def test_what_is_said_inside_a_transaction_undoes_it(store: EventStore) -> None:
    """The end of its block says that the event is handled."""
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(Query(channel="a"), retry_after=0)
    with group.consume() as consumer:
        delivery = taken(consumer)
        with (
            pytest.raises(InvalidInput, match="already has the outcome"),
            delivery.transaction() as transaction,
        ):
            transaction.append("out-1", event(1), expected=ANY)
            delivery.nack()
        assert store.stream("out-1") is None
        assert handled(consumer, 1) == [1]


# Progress ----------------------------------------------------------------------------------------


def test_the_checkpoint_stays_below_what_is_not_finished(store: EventStore) -> None:
    """A checkpoint runs ahead of unacked, retried or replayed events."""
    first = append(store, "a-1", 1)
    append(store, "b-1", 2)
    last = append(store, "c-1", 3)
    group = store.group("mails")
    group.create(retry_after=0.01)
    with group.consume() as consumer:
        one, two, three = taken(consumer), taken(consumer), taken(consumer)
        two.ack()
        three.ack()
        with pytest.raises(WaitTimeout, match="did not reach position"):
            group.wait_for(first, timeout=SHORT)
        one.nack()
        again = taken(consumer)
        with pytest.raises(WaitTimeout):
            store.wait_for("mails", first, timeout=SHORT)
        again.ack()
        consumer.take(0.2)
    assert group.wait_for(last) >= last


def test_the_checkpoint_moves_on_over_events_that_do_not_match(store: EventStore) -> None:
    group = store.group("mails")
    group.create(Query(types="Never"))
    last = append(store, "a-1", *range(10))
    assert (group.info().lag_events, group.info().lag_seconds) == (0, 0)
    with group.consume() as consumer:
        wait_until(lambda: consumer.take(0.01) is None and group.info().checkpoint == last)


def test_the_lag_is_told_in_events_and_seconds(store: EventStore) -> None:
    group = store.group("mails")
    group.create(Query(types="Happened"))
    append(store, "a-1", 1, 2)
    store.append("a-1", event(0, "Other"), expected=ANY)
    info = group.info()
    assert info.lag_events == 2
    assert 0 < info.lag_seconds < 60


def test_workers_are_told(store: EventStore) -> None:
    group = store.group("mails")
    group.create()
    with group.consume(name="one") as consumer:
        wait_until(lambda: consumer.take(0.01) is None and consumer.slices == 1024)
        (worker,) = group.info().workers
        assert (worker.name, worker.slices) == ("one", 1024)
    assert group.info().workers == ()


def test_a_worker_whose_lease_is_over_is_none(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    """Also before another worker removes it."""
    group = sync_store.group("mails")
    group.create()
    connection.execute("SELECT group_join('mails', 'me', gen_random_uuid())")
    assert [worker.name for worker in group.info().workers] == ["me"]
    connection.execute("UPDATE group_workers SET expires_at = clock_timestamp()")
    assert group.info().workers == ()


@pytest.mark.parametrize("ended_by", ["reset", "change"])
def test_a_worker_whose_group_is_reset_or_changed_is_told_so(
    store: EventStore, caplog: pytest.LogCaptureFixture, ended_by: str
) -> None:
    """And not that its lease is too short."""
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(lease=600)
    with group.consume() as consumer:
        taken(consumer).ack()
        if ended_by == "reset":
            group.reset(0)
        else:
            group.create(exists="change", max_attempts=3)
        # The loop of an async store runs during the call.
        wait_until(lambda: group.info().name and "was reset or changed" in caplog.text)
        append(store, "a-1", 2)
        while handled(consumer, 1) != [2]:  # the first event may be delivered again
            pass
    assert "longer" not in caplog.text


@pytest.mark.parametrize("to", ["beginning", 1])
def test_a_group_is_sent_back_and_its_worker_goes_on_from_there(store: EventStore, to: Any) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        assert handled(consumer, 2) == [1, 2]
        position = group.reset(to)
        expected = [1, 2] if position == 0 else [2]
        assert handled(consumer, len(expected)) == expected


def test_a_group_is_sent_forward(store: EventStore) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create()
    group.reset("head")
    append(store, "a-1", 3)
    with group.consume() as consumer:
        assert handled(consumer, 1) == [3]


def test_a_deleted_group_ends_its_workers(store: EventStore) -> None:
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        assert consumer.take(SHORT) is None
        group.delete()
        with pytest.raises(GroupNotFound):
            consumer.take(LONG)
    assert store.groups() == []


# Exactly once ------------------------------------------------------------------------------------


def test_in_a_transaction_the_work_and_the_ack_are_one(
    store: EventStore, connection: psycopg.Connection
) -> None:
    append(store, "a-1", 1, 2)
    group = store.group("mails")
    group.create(Query(channel="a"), retry_after=0.01)
    with group.consume() as consumer:
        with taken(consumer) as delivery, delivery.transaction() as transaction:
            transaction.append("out-1", event(1), expected=ANY)
            raise ValueError("undo")
        assert store.stream("out-1") is None
        with taken(consumer) as delivery, delivery.transaction() as transaction:
            assert (delivery.data["number"], delivery.attempt) == (1, 2)
            transaction.append("out-1", event(1), expected=ANY)
        with taken(consumer).transaction() as transaction:
            transaction.append("out-1", event(2), expected=ANY)
        # As if the worker died at once, before it wrote a checkpoint.
        connection.execute("UPDATE group_workers SET checkpoint = 0, expires_at = '-infinity'")
    with group.consume() as consumer:
        assert consumer.take(SHORT) is None
    assert [e.data["number"] for e in store.read("out-1")] == [1, 2]


@pytest.fixture
def connection(url: str, schema: str) -> Any:
    """A connection as the owner of the store, which finds its tables by name."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema}")
        yield connection


def test_work_under_a_lease_that_is_over_is_undone(
    store: EventStore, connection: psycopg.Connection
) -> None:
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(Query(channel="a"))
    with group.consume() as consumer:
        delivery = taken(consumer)
        with delivery:
            with delivery.transaction() as transaction:
                transaction.append("out-1", event(1), expected=ANY)
                connection.execute("DELETE FROM group_workers")
                connection.execute("UPDATE group_slices SET token = NULL")
        assert store.stream("out-1") is None
        again = taken(consumer)
        assert again.data["number"] == 1
        with again.transaction() as transaction:
            transaction.append("out-1", event(1), expected=ANY)
    assert [e.version for e in store.read("out-1")] == [0]


def test_what_a_worker_says_after_its_lease_is_over_does_not_count(
    store: EventStore, connection: psycopg.Connection
) -> None:
    """Two workers hold the same event; the one whose token is gone writes nothing."""
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create(retry_after=0)
    with group.consume() as consumer:
        delivery = taken(consumer)
        connection.execute(
            "WITH gone AS (DELETE FROM group_workers) UPDATE group_slices SET token = NULL"
        )
        delivery.nack("too late")
        again = taken(consumer)
        assert (again.data["number"], again.attempt) == (1, 1)
        again.ack()
        assert consumer.take(SHORT) is None


def test_a_heartbeat_of_an_earlier_round_does_not_count(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    """It arrives late; its checkpoint is above that of the slices acquired since."""
    append(sync_store, "a-1", 1, 2, 3)
    sync_store.group("mails").create()
    lease = connection.execute(
        "SELECT group_id, token FROM group_join('mails', 'me', gen_random_uuid())"
    ).fetchone()
    assert lease is not None
    heartbeat = (
        "SELECT share FROM group_heartbeat(%s, %s, %s, 3, NULL, 0, 3, NULL, 0,"
        " '{}', '{}', '{}', '{}')"
    )
    assert connection.execute(heartbeat, [*lease, 0]).fetchone() == (1024,)
    connection.execute(
        "SELECT group_rebalance(%s, %s, 0, '{}', '{}', '{}', '{}', '{}', 1024)", lease
    )
    with pytest.raises(psycopg.Error) as refused:
        connection.execute(heartbeat, [*lease, 0])
    assert refused.value.sqlstate == "IND05"
    assert sync_store.group("mails").info().checkpoint == 0


def test_an_event_of_a_slice_that_others_have_is_not_finished(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    append(sync_store, "a-1", 1)
    sync_store.group("mails").create()
    lease = connection.execute(
        "SELECT group_id, token FROM group_join('mails', 'me', gen_random_uuid())"
    ).fetchone()
    assert lease is not None
    with pytest.raises(psycopg.Error) as refused:
        finish = "SELECT group_ack(%s, %s, 1, slice_of('a-1'), false, NULL, 1, NULL, 0)"
        connection.execute(finish, lease)
    assert refused.value.sqlstate == "IND05"
    assert sync_store.group("mails").info().checkpoint == 0


def test_a_worker_does_not_expire_while_it_writes(
    sync_store: EventStore, connection: psycopg.Connection, url: str, schema: str
) -> None:
    """What it writes would come after another has taken the event over."""
    sync_store.group("mails").create()
    lease = connection.execute(
        "SELECT group_id, token FROM group_join('mails', 'me', gen_random_uuid())"
    ).fetchone()
    assert lease is not None
    with psycopg.connect(url) as worker:
        worker.execute(f"SELECT {schema}.group_fence(%s, %s)", lease)
        connection.execute("UPDATE group_workers SET expires_at = '-infinity'")
        connection.execute("SELECT group_expire_workers(%s)", lease[:1])
        assert connection.execute("SELECT token FROM group_workers").fetchall() == [lease[1:]]
    connection.execute("SELECT group_expire_workers(%s)", lease[:1])
    assert connection.execute("SELECT token FROM group_workers").fetchall() == []


def test_an_event_that_is_no_longer_in_the_log_stops_nobody(
    store: EventStore, connection: psycopg.Connection
) -> None:
    """The event is deleted from the log while it waits for its retry."""
    append(store, "a-1", 1, 2, 3)
    group = store.group("mails")
    group.create(retry_after=LONG)
    with group.consume() as consumer:
        taken(consumer).nack()
        wait_until(lambda: group.info().queued == 2)
    connection.execute("ALTER TABLE events DISABLE TRIGGER ALL")
    connection.execute("DELETE FROM events WHERE position = 1")
    connection.execute("UPDATE group_events SET not_before = now() - interval '1 second'")
    with group.consume() as consumer:
        assert handled(consumer, 2) == [2, 3]
        assert group.wait_for(3, timeout=LONG) == 3


@pytest.mark.parametrize("act", ["reset", "delete"])
def test_an_operator_and_a_worker_that_writes_do_not_wait_for_each_other(
    sync_store: EventStore, connection: psycopg.Connection, url: str, schema: str, act: str
) -> None:
    """The worker holds its own row and then needs the group's; the operator needs both, too."""
    append(sync_store, "a-1", 1)
    group = sync_store.group("mails")
    group.create()
    acts = {"reset": lambda: group.reset("beginning"), "delete": group.delete}
    operators = Thread(target=acts[act])
    with psycopg.connect(url) as worker:
        worker.execute(f"SET search_path = {schema}")
        row = worker.execute(
            "SELECT group_id, token FROM group_join('mails', 'me', gen_random_uuid())"
        ).fetchone()
        assert row is not None
        worker.execute("SELECT group_rebalance(%s, %s, 0, '{}', '{}', '{}', '{}', '{}', 1024)", row)
        worker.commit()
        worker.execute("SELECT group_fence(%s, %s)", row)
        operators.start()
        wait_until(
            lambda: connection.execute(
                "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE NOT granted AND query LIKE %s",
                [f"%{schema}%group_{act}%"],
            ).fetchone()
        )
        worker.execute("SET LOCAL lock_timeout = '300ms'")
        worker.execute(
            "SELECT group_record_failure(%s, %s, 1, 7::smallint, 'a-1', false, 'retry', 1, 0,"
            " '', '',"
            " NULL, 1, NULL, 0)",
            row,
        )
    operators.join(LONG)
    assert not operators.is_alive()
    assert connection.execute("SELECT FROM group_events").fetchone() is None


def test_thousands_of_events_behind_one_cost_no_more_than_a_few(
    sync_store: EventStore, connection: psycopg.Connection, schema: str
) -> None:
    """What is due, and where the checkpoint is, is found by the first event of each stream."""
    append(sync_store, "a-1", *range(30))
    group = sync_store.group("mails")
    group.create()
    connection.execute(
        "INSERT INTO group_events (group_id, position, slice, key, state, attempts, not_before)"
        " SELECT id, number, slice_of('a-1'), 'a-1',"
        " CASE number WHEN 1 THEN 'retry' ELSE 'queued' END, 0, now()"
        " FROM groups, generate_series(1, 30000) AS numbers (number)"
    )
    connection.execute("SET statement_timeout = '1s'")
    assert connection.execute("SELECT group_checkpoint(id) FROM groups").fetchone() == (0,)
    connection.execute("UPDATE group_slices SET token = 1")
    for statement in ("consumer_groups.fetch_retries", "consumer_groups.blocked_keys"):
        text = statements(schema)[statement]
        rows = connection.execute(
            text, {"group_id": 1, "token": 1, "park_blocks_stream": True}
        ).fetchall()
        assert len(rows) == 1


def test_two_streams_in_one_slice_do_not_hold_each_other_back_for_long(
    store: EventStore, connection: psycopg.Connection
) -> None:
    """A retried event of one and a new event of the other are handed out one after the other."""
    row = connection.execute(
        "SELECT array_agg(name) FROM (SELECT 's-' || n AS name FROM generate_series(1, 20000) n)"
        " AS streams GROUP BY slice_of(name) ORDER BY count(*) DESC LIMIT 1"
    ).fetchone()
    assert row is not None
    one, two = row[0][:2]
    append(store, one, 1)
    append(store, two, 2)
    append(store, one, 3)
    group = store.group("mails")
    group.create(retry_after=0)
    with group.consume() as consumer:
        taken(consumer).nack()
        seen = []
        for _ in range(3):
            delivery = taken(consumer)
            assert consumer.take(0.05) is None
            seen.append((delivery.stream, delivery.data["number"]))
            delivery.ack()
    assert sorted(seen) == sorted([(one, 1), (two, 2), (one, 3)])
    assert seen.index((one, 1)) < seen.index((one, 3))


def test_a_retry_does_not_wait_until_all_other_events_are_handled(store: EventStore) -> None:
    for stream in range(40):
        append(store, f"a-{stream}", *range(25))
    group = store.group("mails")
    group.create(retry_after=0.001)
    with group.consume() as consumer:
        failed = taken(consumer)
        position = failed.position
        failed.nack()
        handled = 0
        while (delivery := taken(consumer)).position != position:
            handled += 1
            delivery.ack()
        delivery.ack()
    assert handled < 500


def test_a_retry_goes_to_the_next_handler_although_events_are_ready(sync_store: EventStore) -> None:
    for stream in range(40):
        append(sync_store, f"a-{stream}", *range(2))
    group = sync_store.group("mails")
    group.create(retry_after=0.001)
    with group.consume() as consumer:
        failed = taken(consumer)
        failed.nack()
        wait_until(lambda: consumer._has_retries and consumer._queue)
        delivery = taken(consumer)
        assert (delivery.position, delivery.attempt) == (failed.position, 2)
        delivery.ack()


def test_a_retry_comes_before_other_events_of_its_slice(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    row = connection.execute(
        "SELECT array_agg(name) FROM (SELECT 's-' || n AS name FROM generate_series(1, 20000) n)"
        " AS streams GROUP BY slice_of(name) ORDER BY count(*) DESC LIMIT 1"
    ).fetchone()
    assert row is not None
    append(sync_store, row[0][0], 1)
    append(sync_store, row[0][1], 2, 3)
    sync_store.group("mails").create(retry_after=60)
    worker = Worker(sync_store._append_settings.codec, "mails", "hand")
    hands: list[InFlightEvent] = []

    def turn(*, waiting: int) -> list[int]:
        """Run a turn while as many handlers wait; return the numbers of the events handed out."""
        head = sync_store.head()
        hands.extend(sync_store._engine.run(worker.turn(time.monotonic(), head, 5, waiting)))
        return [item.event.data["number"] for item in hands if item.event is not None]

    def say(outcome: Outcome) -> None:
        item = hands.pop()
        item.outcome = outcome
        worker.outcomes.append(item)

    assert turn(waiting=0) == [1]
    say("retry")
    assert turn(waiting=0) == [2]
    connection.execute("UPDATE group_events SET not_before = clock_timestamp()")
    wait_until(lambda: turn(waiting=0) == [2] and worker._dispatcher.late_slices)
    say("finished")
    assert turn(waiting=0) == []  # the next is the retry, as soon as a handler waits
    assert turn(waiting=1) == [1]
    say("finished")
    assert turn(waiting=0) == [3]


def test_an_event_whose_commit_was_not_heard_of_is_not_handled_again(
    sync_store: EventStore,
) -> None:
    """The connection broke at the commit, and the handler could only say that it failed."""
    append(sync_store, "a-1", 1, 2)
    group = sync_store.group("mails")
    group.create(Query(channel="a"), retry_after=0)

    def handle_and_lose(delivery: Any, consumer: Any) -> None:
        with sync_store.transaction() as transaction:
            transaction.append("out-1", event(delivery.attempt), expected=ANY)
            transaction._engine.run(finish(consumer._worker, delivery._item))
        delivery.nack("the connection was lost at the commit")

    with group.consume() as consumer:
        handle_and_lose(taken(consumer), consumer)
        taken(consumer).nack("once, so that it has a row")
        handle_and_lose(taken(consumer), consumer)
        assert consumer.take(SHORT) is None
        assert group.info().retrying == 0
    assert [e.data["number"] for e in sync_store.read("out-1")] == [1, 2]


def test_a_handler_waits_for_a_connection_as_long_as_others_do(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is told at once that the pool is empty, and tries again; a handler waits."""
    for variant in ("", "_async"):
        monkeypatch.setattr(f"indelible.postgres.engine{variant}._IMPATIENCE", 0.05)
    store = connect(timeout=0.5)
    append(store, "a-1", 1)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        assert taken(consumer)._engine._settings.timeout == 0.5


def test_a_worker_rests_while_what_is_due_waits_for_a_busy_handler(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.consumer_groups.fetch._RETRIES_PAUSE", 0.01)
    append(sync_store, "a-1", 1)
    append(sync_store, "b-1", 2)
    group = sync_store.group("mails")
    group.create(lease=0.3, retry_after=0.001)
    with group.consume() as consumer:
        worker = consumer._worker
        taken(consumer).nack()
        busy = taken(consumer)
        wait_until(lambda: worker._dispatcher.retries)
        turns = heartbeats = 0
        heartbeat = worker._lease._heartbeat

        def turn(*arguments: Any) -> Any:
            nonlocal turns
            turns += 1
            return type(worker).turn(worker, *arguments)

        def counted(*arguments: Any) -> Any:
            nonlocal heartbeats
            heartbeats += 1
            return heartbeat(*arguments)

        monkeypatch.setattr(worker, "turn", turn)
        monkeypatch.setattr(worker._lease, "_heartbeat", counted)
        wait_until(lambda: heartbeats == 3)
        assert turns < 10
        busy.ack()
        taken(consumer).ack()


# Batches ---------------------------------------------------------------------------------------


def test_a_worker_with_fast_handlers_runs_few_turns(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    turn = Worker.turn

    def count(worker: Worker, *arguments: Any) -> Any:
        turns.append(1)
        return turn(worker, *arguments)

    monkeypatch.setattr(Worker, "turn", count)
    with sync_store.transaction() as transaction:
        for number in range(2_000):
            transaction.append(f"a-{number % 500}", event(number), expected=ANY)
    group = sync_store.group("mails")
    group.create()
    with group.consume() as consumer:
        seen: dict[str, list[int]] = {}
        for _ in range(2_000):
            delivery = taken(consumer)
            seen.setdefault(delivery.stream, []).append(delivery.data["number"])
            delivery.ack()
        group.wait_for(2_000, timeout=LONG)
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert len(turns) < 100


def test_an_async_worker_with_fast_handlers_runs_few_turns(
    sync_store: EventStore, url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    turn = Worker.turn

    def count(worker: Worker, *arguments: Any) -> Any:
        turns.append(1)
        return turn(worker, *arguments)

    monkeypatch.setattr(Worker, "turn", count)
    with sync_store.transaction() as transaction:
        for number in range(2_000):
            transaction.append(f"a-{number % 500}", event(number), expected=ANY)
    sync_store.group("mails").create()

    async def main() -> None:
        async with (
            AsyncEventStore.connect(url, schema=schema) as store,
            store.group("mails").consume() as consumer,
        ):
            for _ in range(2_000):
                delivery = await consumer.take(LONG)
                assert delivery is not None
                delivery.ack()

    asyncio.run(main())
    sync_store.group("mails").wait_for(2_000, timeout=LONG)
    assert len(turns) < 100


@pytest.mark.parametrize("module", ["consumer", "consumer_async"])
def test_a_worker_gathers_outcomes_only_while_enough_events_are_ready(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """An event, or its successor in the stream, does not wait."""
    monkeypatch.setattr(f"indelible.consumer_groups.{module}.GATHERING", 10 * LONG)
    for number in range(3):
        append(store, "a-1", number)
    group = store.group("mails")
    group.create()
    with group.consume() as consumer:
        assert handled(consumer, 3) == [0, 1, 2]
        append(store, "a-1", 3)
        assert handled(consumer, 1) == [3]
        group.wait_for(4, timeout=LONG)
        with store.transaction() as transaction:
            for number in range(200):
                transaction.append(f"b-{number}", event(number), expected=ANY)
        assert sorted(handled(consumer, 200)) == list(range(200))
        append(store, "a-1", 4, 5)
        assert handled(consumer, 1) == [4]
