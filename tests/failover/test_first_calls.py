"""The first caller after a fail-over gets an error, and no caller waits for the dead server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from indelible import (
    ANY,
    AppendCondition,
    AppendConditionFailed,
    Checkpoint,
    EventStore,
    NewEvent,
    Query,
)
from indelible.errors import EpochMismatch
from tests.failover.lab import Lab, Node, fake_clock
from tests.failover.readers import Subscriber, Worker, connect
from tests.support.interleavings import Proxy
from tests.support.waiting import wait_until

TAGGED = Query(tags="rule:1")


def append(store: EventStore, number: int) -> list:
    events = [NewEvent("Happened", {"number": n}, tags=["rule:1"]) for n in range(number)]
    store.append("a-1", events, expected=ANY)
    return [event.id for event in events]


class Promoted(NamedTuple):
    """What is left of a primary whose standby lagged, and what a process had kept."""

    data: Path
    checkpoint: str
    condition: AppendCondition


@pytest.fixture(scope="module")
def promoted(lab: Lab) -> Promoted:
    primary = lab.primary()
    with connect(primary.url) as store:
        append(store, 5)
        store.group("mails").create()
        standby = primary.standby()
        standby.catch_up()
        standby.stop_receiving()
        append(store, 45)  # more than the WAL runs ahead of a sequence, so positions are used again
        with store.subscribe() as subscription:
            for _ in range(50):
                next(subscription)
            checkpoint = str(subscription.checkpoint)
        condition = AppendCondition(TAGGED, after=store.read_matching(TAGGED).marker)
    primary.stop("immediate")
    standby.promote()
    standby.stop()
    return Promoted(standby.data, checkpoint, condition)


@pytest.fixture
def alone(lab: Lab, promoted: Promoted) -> Node:
    """The new primary, to which nobody has come yet."""
    return lab.restore(promoted.data, recover=False)


def test_a_decision_that_comes_first_is_not_stored(promoted: Promoted, alone: Node) -> None:
    with connect(alone.url) as store:
        with pytest.raises((EpochMismatch, AppendConditionFailed)):
            store.append("b-1", NewEvent("Happened", {"number": 1}), expected=ANY,
                         condition=promoted.condition)  # fmt: skip
        assert len(list(store.read_all())) == 5


def test_a_decision_that_comes_after_a_plain_append_is_not_stored(
    promoted: Promoted, alone: Node
) -> None:
    with connect(alone.url) as store:
        append(store, 60)
        with pytest.raises((EpochMismatch, AppendConditionFailed)):
            store.append("b-1", NewEvent("Happened", {"number": 1}), expected=ANY,
                         condition=promoted.condition)  # fmt: skip


def test_a_subscription_that_comes_first_is_refused(promoted: Promoted, alone: Node) -> None:
    with connect(alone.url) as store, pytest.raises(EpochMismatch) as told:
        next(store.subscribe(after=Checkpoint.parse(promoted.checkpoint)))
    assert told.value.position == 50
    assert told.value.safe_through is None or told.value.safe_through <= 5


def test_a_subscription_that_comes_after_plain_appends_is_refused(
    promoted: Promoted, alone: Node
) -> None:
    with connect(alone.url) as store:
        append(store, 60)
        with pytest.raises(EpochMismatch):
            next(store.subscribe(after=Checkpoint.parse(promoted.checkpoint)))


def test_a_state_as_of_a_checkpoint_that_is_asked_for_first_is_refused(
    promoted: Promoted, alone: Node
) -> None:
    with connect(alone.url) as store, pytest.raises(EpochMismatch):
        list(store.read_all(as_of=Checkpoint.parse(promoted.checkpoint)))


def test_an_epoch_begins_with_whoever_comes_first_and_stays(lab: Lab, alone: Node) -> None:
    with connect(alone.url) as store:
        store.head()
        epoch = store.epoch()
        append(store, 1)
        assert store.epoch() == epoch
    with connect(alone.url) as store:
        store.head()
        assert store.epoch() == epoch


@pytest.mark.parametrize("clock", [0, -300], ids=["same clock", "5 minutes behind"])
def test_who_died_with_the_primary_is_not_waited_for(lab: Lab, clock: int) -> None:
    """Its lease ends minutes later where the new clock is behind."""
    if clock and fake_clock() is None:
        pytest.skip("libfaketime is not installed")
    primary = lab.primary()
    with Proxy(primary.url) as address:
        with connect(address.url, timeout=1) as store:
            ids = append(store, 5)
            group = store.group("mails")
            group.create(lease=2)
            consumer = group.consume()
            assert consumer.take(20) is not None
            standby = primary.standby(clock=clock)
            standby.catch_up()
            address.refuse()
            primary.stop("immediate")
            consumer.close()
    standby.promote()
    with connect(standby.url) as store:
        worker = Worker(store, "mails").start()
        wait_until(lambda: set(ids) <= set(worker.seen), seconds=10)
        worker.stop()
    assert worker.failure is None


def test_a_url_with_several_hosts_leads_to_the_primary(lab: Lab) -> None:
    """The standby stands first in it: whoever meets it goes on to the primary."""
    primary = lab.primary()
    standby = primary.standby()
    url = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/postgres"
    with connect(url) as store:
        reader = Subscriber(store).start()
        ids = append(store, 5)
        wait_until(lambda: len(reader.seen) == 5)
        standby.catch_up()
        primary.stop("immediate")
        standby.promote()
        ids += append(store, 5)
        wait_until(lambda: len(reader.seen) >= 10 or reader.failure, seconds=10)
        reader.stop()
    assert reader.failure is None
    assert reader.seen == ids
