"""Consumer groups that deliver each event when its valid time comes.

docs/explanation/consumer-groups.md has the argument."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
import pytest

from indelible import (
    ANY,
    EventStore,
    InvalidInput,
    LeaseLost,
    NewEvent,
    Query,
    RecordedEvent,
    WaitTimeout,
)
from indelible.consumer_groups import Consumer, Group
from indelible.consumer_groups.progress import IMMEDIATE, DueKey, InFlightEvent, Outcome
from indelible.consumer_groups.worker import Worker, finish
from tests.support.waiting import wait_until

LONG = 20.0
"""Seconds after which a test gives up."""
SHORT = 0.2
"""Seconds in which something is not to happen."""

Ahead = float | datetime | None
"""When a fact holds: in so many seconds, at a moment, or when it is recorded."""


def soon(seconds: float) -> datetime:
    """A moment to come. Servers of the tests are on this machine: its clock is theirs."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def append(store: EventStore, stream: str, *facts: tuple[int, Ahead], type_: str = "Fact") -> int:
    """Append facts with these numbers; return the position of the last."""
    events = [
        NewEvent(
            type_,
            {"number": number},
            valid_at=soon(ahead) if isinstance(ahead, int | float) else ahead,
        )
        for number, ahead in facts
    ]
    return store.append(stream, events, expected=ANY).position


def taken(consumer: Consumer) -> Any:
    """Take one, not before its time."""
    delivery = consumer.take(LONG)
    assert delivery is not None, "nothing came"
    assert delivery.event.valid_at <= datetime.now(UTC)
    return delivery


def handled(consumer: Consumer, count: int) -> list[int]:
    numbers = []
    for _ in range(count):
        with taken(consumer) as delivery:
            numbers.append(delivery.data["number"])
    return numbers


@contextmanager
def working(group: Group) -> Iterator[Consumer]:
    """A consumer that has begun to read."""
    with group.consume() as consumer:
        wait_until(lambda: consumer.take(0.01) is None and consumer.slices == 1024)
        yield consumer


def number_of(delivery: Any) -> int:
    found: int = delivery.data["number"]
    return found


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look more often, so that no test waits for a second."""
    monkeypatch.setattr("indelible.consumer_groups.fetch._RETRIES_PAUSE", 0.05)
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", 0.1)


@pytest.fixture
def connection(url: str, schema: str) -> Any:
    """A connection as the owner of the store, which finds its tables by name."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema}")
        yield connection


@pytest.fixture
def group(sync_store: EventStore) -> Group:
    created = sync_store.group("prices")
    created.create(deliver_when_valid=True, retry_after=0)
    return created


# Deliver ---------------------------------------------------------------------------------------


def test_what_is_late_comes_at_once_and_what_is_ahead_when_its_time_comes(
    store: EventStore,
) -> None:
    """A fact that waits holds back nothing of its stream, also where it is the first of it."""
    group = store.group("prices")
    group.create(deliver_when_valid=True)
    with working(group) as consumer:
        append(store, "a-1", (1, 0.4), (2, None), (3, -9), (4, 3600))
        assert handled(consumer, 2) == [2, 3]
        append(store, "a-1", (5, None))
        assert handled(consumer, 2) == [5, 1]
        assert consumer.take(SHORT) is None
        # The worker slept: events that became due meanwhile are late.
        append(store, "a-1", (6, -SHORT / 2), (7, None))
        assert handled(consumer, 2) == [6, 7]


def test_what_becomes_due_at_one_time_comes_in_order_of_valid_time_then_of_position(
    sync_store: EventStore, group: Group
) -> None:
    with working(group) as consumer:
        at = soon(0.3)
        append(sync_store, "a-1", (1, at + timedelta(seconds=0.001)), (2, at), (3, at), (4, None))
        assert handled(consumer, 1) == [4]
        assert handled(consumer, 3) == [2, 3, 1]


def test_more_become_due_at_once_than_a_page_holds(sync_store: EventStore, group: Group) -> None:
    at = soon(0.5)
    for stream in range(3):
        append(sync_store, f"a-{stream}", *((number, at) for number in range(500)))
    seen: dict[str, list[int]] = {}
    with group.consume() as consumer:
        for _ in range(1_500):
            with taken(consumer) as delivery:
                seen.setdefault(delivery.stream, []).append(number_of(delivery))
    assert list(seen.values()) == [list(range(500))] * 3


def test_a_query_holds_for_what_becomes_due_and_what_was_erased_is_nobodys(
    sync_store: EventStore,
) -> None:
    at = soon(0.4)
    append(sync_store, "a-1", (1, at))
    append(sync_store, "a-1", (2, at), type_="Other")
    append(sync_store, "gone-1", (3, at))
    append(sync_store, "old-1", (4, at))
    group = sync_store.group("prices")
    group.create(Query(types="Fact") | Query(types="Nothing"), deliver_when_valid=True)
    with group.consume() as consumer:
        assert consumer.take(0.05) is None
        sync_store.erase_stream("gone-1", reason="the law")
        sync_store.close_stream("old-1", expected=0)
        sync_store.archive_stream("old-1")
        assert sorted(handled(consumer, 2)) == [1, 4]
        assert consumer.take(SHORT) is None


@pytest.mark.parametrize("start", ["head", "moment", "position"])
def test_a_group_has_what_was_recorded_before_its_start_and_becomes_due_after_it(
    sync_store: EventStore, start: str
) -> None:
    append(sync_store, "a-1", (1, -9), (2, None), (3, 0.6))
    last = append(sync_store, "a-1", (4, None))
    starts: dict[str, Any] = {"head": "head", "moment": datetime.now(UTC), "position": last}
    group = sync_store.group("prices")
    group.create(deliver_when_valid=True, start=starts[start])
    append(sync_store, "a-1", (5, None))
    with group.consume() as consumer:
        assert sorted(handled(consumer, 2)) == [3, 5]
        assert consumer.take(SHORT) is None


def test_whether_events_wait_is_told_and_fixed_for_ever(store: EventStore) -> None:
    group = store.group("prices")
    assert group.create(deliver_when_valid=True)
    assert group.info().settings.deliver_when_valid
    with pytest.raises(InvalidInput, match="cannot be changed"):
        group.create(deliver_when_valid=False, exists="change")
    group.create(deliver_when_valid=True, max_attempts=3, exists="change")
    assert group.info().settings.deliver_when_valid


def test_what_waits_and_matches_a_later_query_comes_at_its_time(sync_store: EventStore) -> None:
    group = sync_store.group("prices")
    group.create(Query(types="Other"), deliver_when_valid=True)
    with working(group):
        last = append(sync_store, "a-1", (1, None), (2, 0.6))
        group.wait_for(last, timeout=LONG)
    group.create(Query(types="Fact"), deliver_when_valid=True, exists="change")
    with group.consume() as consumer:
        assert handled(consumer, 1) == [2]
        assert consumer.take(SHORT) is None


# Fail ------------------------------------------------------------------------------------------


def test_one_that_fails_holds_back_those_due_later_also_where_they_stand_before_it(
    sync_store: EventStore, group: Group
) -> None:
    """Of one stream the second fact is due first, fails and is parked: the first waits for it."""
    with working(group) as consumer:
        at = soon(0.3)
        append(sync_store, "a-1", (1, at + timedelta(seconds=0.1)), (2, at))
        poison = taken(consumer)
        assert number_of(poison) == 2
        poison.nack("no")
        again = taken(consumer)
        assert (number_of(again), again.attempt) == (2, 2)
        again.park("not now")
        append(sync_store, "b-1", (9, None))
        assert handled(consumer, 1) == [9]
        wait_until(lambda: group.info().queued == 1)
        assert consumer.take(SHORT) is None
        (parked,) = group.parked()
        assert (parked.version, parked.queued) == (1, 1)
    with group.consume() as consumer:
        assert consumer.take(SHORT) is None
        group.replay()
        assert handled(consumer, 2) == [2, 1]


def test_a_parked_one_may_let_those_due_later_pass(sync_store: EventStore) -> None:
    group = sync_store.group("prices")
    group.create(deliver_when_valid=True, park_blocks_stream=False)
    with working(group) as consumer:
        append(sync_store, "a-1", (1, 0.4), (2, 0.3))
        taken(consumer).park()
        assert handled(consumer, 1) == [1]


def test_one_due_later_that_kills_its_workers_is_parked(
    sync_store: EventStore, connection: psycopg.Connection
) -> None:
    """Also one that the next worker, which has read nothing of the log, has first."""
    group = sync_store.group("prices")
    group.create(deliver_when_valid=True, max_attempts=3)
    append(sync_store, "a-1", (1, 0.2), (2, 0.3))
    for attempt in (1, 2, 3):
        with group.consume() as consumer:
            delivery = taken(consumer)
            assert (number_of(delivery), delivery.attempt) == (1, attempt)
            # As if it died: its lease expires, and it gives nothing back.
            connection.execute("UPDATE group_workers SET expires_at = '-infinity'")
            consumer.stop()
    with group.consume():
        wait_until(lambda: len(group.parked()) == 1)
        assert group.parked()[0].reason == "the worker died at attempt 3"


# Workers come and go -----------------------------------------------------------------------------


def due(event: RecordedEvent) -> DueKey:
    return IMMEDIATE if event.valid_at == event.recorded_at else (event.valid_at, event.position)


@dataclass
class Crew:
    """Workers of a group, driven by hand, step by step, by one thread."""

    store: EventStore
    group: str
    workers: list[Worker] = field(default_factory=list)
    hands: list[tuple[Worker, InFlightEvent]] = field(default_factory=list)
    done: list[RecordedEvent] = field(default_factory=list)

    def join(self) -> Worker:
        worker = Worker(self.store._append_settings.codec, self.group, "hand")
        self.workers.append(worker)
        return worker

    def step(self, worker: Worker, wanted: int = 3) -> None:
        """One turn; who has lost its lease joins anew."""
        try:
            turn = worker.turn(time.monotonic(), self.store.head(), wanted, wanted)
            found = self.store._engine.run(turn)
        except LeaseLost:
            worker.lose()
            found = []
        for item in found:
            assert item.event is not None
            assert item.event.valid_at <= datetime.now(UTC)
        self.hands += ((worker, item) for item in found)

    def finish(self, worker: Worker, item: InFlightEvent) -> None:
        """Handle it exactly once, as `Delivery.transaction` does."""
        try:
            self.store._engine.run(finish(worker, item))
        except LeaseLost:
            return
        assert item.event is not None
        self.done.append(item.event)
        self.say(worker, item, "settled")

    def finish_all(self) -> None:
        while self.hands:
            self.finish(*self.hands.pop())

    def say(self, worker: Worker, item: InFlightEvent, verdict: Outcome) -> None:
        item.outcome = verdict
        worker.outcomes.append(item)

    def leave(self, worker: Worker) -> None:
        self.workers.remove(worker)
        with suppress(LeaseLost):
            self.store._engine.run(worker.leave())

    def die(self, worker: Worker, connection: psycopg.Connection) -> None:
        """Give nothing back; what it hands in later does not count."""
        self.workers.remove(worker)
        connection.execute(
            "UPDATE group_workers SET expires_at = '-infinity' WHERE token = %s", [worker.token]
        )


def test_each_is_finished_once_and_in_order_whoever_comes_goes_fails_or_dies(
    sync_store: EventStore, connection: psycopg.Connection, group: Group
) -> None:
    """Of two of a stream, the one that stands before and is not due later is finished first."""
    random = Random(1)
    group.create(deliver_when_valid=True, retry_after=0, max_attempts=1_000, exists="change")
    crew = Crew(sync_store, "prices")
    crew.join()
    count = 0

    def grow() -> None:
        nonlocal count
        facts: list[tuple[int, Ahead]] = []
        for _ in range(random.choice([1, 1, 3])):
            facts.append((count, random.choice([None, None, -5, 0.001, 0.01, 0.03, 0.1, 0.3])))
            count += 1
        append(sync_store, f"a-{random.randrange(6)}", *facts)

    def hands(act: Callable[[Worker, InFlightEvent], None]) -> None:
        if crew.hands:
            act(*crew.hands.pop(random.randrange(len(crew.hands))))

    acts: list[tuple[int, Callable[[], object]]] = [
        (40, grow),
        (60, lambda: crew.step(random.choice(crew.workers))),
        (60, lambda: hands(crew.finish)),
        (5, lambda: hands(lambda worker, item: crew.say(worker, item, "retry"))),
        (4, lambda: crew.join() if len(crew.workers) < 3 else None),
        (2, lambda: crew.leave(random.choice(crew.workers))),
        (2, lambda: crew.die(random.choice(crew.workers), connection)),
    ]
    for act in random.choices([act for _, act in acts], [weight for weight, _ in acts], k=400):
        act()
        if not crew.workers:
            crew.join()
    deadline = time.monotonic() + LONG
    while len(crew.done) < count and time.monotonic() < deadline:
        for worker in crew.workers:
            crew.step(worker)
        crew.finish_all()

    assert sorted(event.data["number"] for event in crew.done) == list(range(count))
    for place, after in enumerate(crew.done):
        for before in crew.done[:place]:
            if before.stream == after.stream and after.position < before.position:
                assert due(after) > due(before)


@pytest.mark.parametrize("is_handled", [True, False], ids=["handled", "not handled"])
def test_what_becomes_due_behind_one_in_progress_during_a_rebalance(
    sync_store: EventStore, connection: psycopg.Connection, group: Group, is_handled: bool
) -> None:
    """A worker that has read far takes over slices of one that has not, while it holds an event;
    another of its stream becomes due; then it dies. What was handled does not come again, the rest
    comes."""
    crew = Crew(sync_store, "prices")
    one, other = crew.join(), crew.join()
    while not one.slices == other.slices == 512:
        crew.step(one)
        crew.step(other)
    names = connection.execute(
        "SELECT min('s-' || number) FROM generate_series(1, 1000) AS numbers (number)"
        " JOIN group_slices ON slice = slice_of('s-' || number) GROUP BY token ORDER BY token"
    ).fetchall()
    (held,), (dealt,) = names
    append(sync_store, dealt, (1, None))
    at = soon(0.5)
    # The waiting event is behind the one in progress, or before it.
    append(sync_store, held, *([(2, None), (3, at)] if is_handled else [(3, at), (2, None)]))
    while not crew.hands:
        crew.step(one)
    assert datetime.now(UTC) < at, "this machine is too slow for the test"
    crew.die(other, connection)
    wait_until(lambda: datetime.now(UTC) > at)
    while len(crew.hands) < 2:
        crew.step(one)
    assert one.slices == 1024
    if is_handled:
        crew.finish_all()
        while not crew.hands:
            crew.step(one)
        crew.finish_all()
    else:
        while one._lease.saved != one._slices.checkpoint():
            crew.step(one)
        crew.hands.clear()
    crew.die(one, connection)

    last = crew.join()
    while last.slices < 1024:
        crew.step(last)
    for _ in range(4):
        crew.finish_all()
        crew.step(last)
    assert sorted(event.data["number"] for event in crew.done) == [1, 2, 3]


def test_those_that_wait_outlive_their_worker_and_come_once(
    sync_store: EventStore, connection: psycopg.Connection, group: Group
) -> None:
    with working(group) as consumer:
        append(sync_store, "a-1", (1, None), (2, 1.0), (3, -1), (4, 0.3))
        assert handled(consumer, 3) == [1, 3, 4]
        wait_until(lambda: consumer.take(0.01) is None and group.info().checkpoint == 4)
        connection.execute("UPDATE group_workers SET expires_at = '-infinity'")
        consumer.stop()
    with group.consume() as consumer:
        assert handled(consumer, 1) == [2]
        assert consumer.take(SHORT) is None
    with group.consume() as consumer:
        assert consumer.take(SHORT) is None


def test_what_was_handled_before_one_that_failed_does_not_come_again_behind_it(
    sync_store: EventStore,
    connection: psycopg.Connection,
    group: Group,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker dies before it has written how far it is."""
    monkeypatch.setattr("indelible.consumer_groups.lease._SAVE_PAUSE", LONG)
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", LONG)
    append(sync_store, "a-1", (1, None), (2, None))
    crew = Crew(sync_store, "prices")
    one = crew.join()
    verdicts: list[Outcome] = ["finished", "retry"]
    for verdict in verdicts:
        while not crew.hands:
            crew.step(one)
        crew.say(*crew.hands.pop(), verdict)
    one._dispatcher.settings = replace(one.settings, retry_after=LONG)
    crew.step(one)
    crew.die(one, connection)
    last = crew.join()
    while last.slices < 1024:
        crew.step(last)
    crew.step(last)
    info = group.info()
    assert (crew.hands, info.retrying, info.queued) == ([], 1, 0)


# Progress ----------------------------------------------------------------------------------------


def test_what_waits_is_set_aside_and_counts_once_it_is_due(
    sync_store: EventStore, group: Group
) -> None:
    """Its position is passed while it waits, and the checkpoint is below it while it is handled."""
    with working(group) as consumer:
        append(sync_store, "a-1", (1, 0.6), (2, 3600))
        last = append(sync_store, "b-1", (3, None))
        assert handled(consumer, 1) == [3]
        assert group.wait_for(last, timeout=LONG) == last
        info = group.info()
        assert (info.waiting, info.lag_events, info.lag_seconds) == (2, 0, 0)
        delivery = taken(consumer)
        info = group.info()
        assert (info.checkpoint, info.waiting, info.lag_events) == (0, 1, 1)
        assert 0 < info.lag_seconds < LONG
        with pytest.raises(WaitTimeout):
            group.wait_for(1, timeout=0.05)
        delivery.nack()
        again = taken(consumer)
        assert (again.attempt, group.info().checkpoint) == (2, 0)
        assert group.info().lag_events == 1
        again.ack()
        assert group.wait_for(last, timeout=LONG) == last
        assert group.info().lag_events == 0


def test_what_becomes_due_while_nobody_works_is_lag(sync_store: EventStore, group: Group) -> None:
    with working(group) as consumer:
        append(sync_store, "a-1", (1, 1.5), (2, None))
        assert handled(consumer, 1) == [2]
    assert group.info().checkpoint == 2
    wait_until(lambda: group.info().lag_events == 1)
    assert group.info().checkpoint == 0


def test_a_group_sent_back_has_again_what_was_recorded_or_became_due_since(
    sync_store: EventStore, group: Group
) -> None:
    with working(group) as consumer:
        at = soon(0.5)
        append(sync_store, "a-1", (1, None), (2, at), (3, 3600))
        assert handled(consumer, 1) == [1]
        with taken(consumer) as delivery:
            delivery.park()
        append(sync_store, "b-1", (4, None))
        assert handled(consumer, 1) == [4]
        wait_until(lambda: group.info().parked == 1)
        group.reset(at - timedelta(seconds=0.001))
        assert group.info().parked == 0
        assert sorted(handled(consumer, 2)) == [2, 4]
        group.reset("head")
        assert consumer.take(SHORT) is None
        assert group.info().waiting == 1


def test_a_worker_rests_until_the_next_is_due(
    sync_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indelible.consumer_groups.fetch._RETRIES_PAUSE", LONG)
    monkeypatch.setattr("indelible.consumer_groups.lease._LONGEST_HEARTBEAT_PAUSE", LONG)
    group = sync_store.group("prices")
    group.create(deliver_when_valid=True, lease=3 * LONG)
    with working(group) as consumer:
        append(sync_store, "a-1", (1, 3600), (2, 0.5))
        worker, turns = consumer._worker, 0
        wait_until(lambda: worker._fetcher.due_at > time.monotonic())

        def turn(*arguments: Any) -> Any:
            nonlocal turns
            turns += 1
            return type(worker).turn(worker, *arguments)

        monkeypatch.setattr(worker, "turn", turn)
        delivery = taken(consumer)
        assert datetime.now(UTC) - delivery.event.valid_at < timedelta(seconds=LONG / 4)
        assert turns < 12
        delivery.ack()
