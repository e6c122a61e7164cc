"""Reads as of a moment (G6, G8): the answer never changes.

docs/explanation/bitemporal.md has the argument."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from random import Random

import psycopg

from indelible import ANY, NO_STREAM, EventStore, NewEvent
from tests.support.waiting import wait_until


def event(number: int = 0) -> NewEvent:
    return NewEvent("Happened", {"number": number})


def test_what_took_its_time_before_a_moment_and_commits_after_it_is_not_left_out(
    sync_store: EventStore, url: str
) -> None:
    """The moment is not passed before the slow transaction has ended: then it is, for ever."""
    with psycopg.connect(url) as slow:
        early = sync_store.bind(slow).append("slow-1", event(1), expected=NO_STREAM)
        late = sync_store.append("fast-1", event(2), expected=NO_STREAM)
        between = early.recorded_at
        assert between < late.recorded_at

        assert not sync_store.has_passed(between)
        assert sync_store.position_at(between) < early.position
        assert list(sync_store.read_all(as_of=between)) == []
        assert list(sync_store.read("fast-1", as_of=between)) == []
        slow.commit()

    assert sync_store.has_passed(between)
    assert not sync_store.has_passed(late.recorded_at)
    assert sync_store.position_at(between) == early.position
    assert [e.position for e in sync_store.read_all(as_of=between)] == [early.position]
    assert [e.position for e in sync_store.read_all(as_of=late.recorded_at)] == [
        early.position,
        late.position,
    ]


def test_what_was_rolled_back_was_never_known(sync_store: EventStore, url: str) -> None:
    with psycopg.connect(url) as slow:
        undone = sync_store.bind(slow).append("slow-1", event(1), expected=NO_STREAM)
        kept = sync_store.append("fast-1", event(2), expected=NO_STREAM)
        slow.rollback()

    assert list(sync_store.read_all(as_of=undone.recorded_at)) == []
    assert [e.position for e in sync_store.read_all(as_of=kept.recorded_at)] == [kept.position]


def test_a_moment_that_the_head_has_passed_is_answered_the_same_for_ever(
    sync_store: EventStore, url: str
) -> None:
    """Under writers that are slow, that append often in one transaction, and that roll back."""
    stopped = threading.Event()

    def write(seed: int) -> None:
        random = Random(seed)
        # Each writer has its own streams: an append to several takes them in any order.
        with psycopg.connect(url) as connection:
            store = sync_store.bind(connection)
            while not stopped.is_set():
                for _ in range(random.choice([1, 1, 4])):
                    store.append(f"a-{seed}{random.randrange(5)}", event(seed), expected=ANY)
                    if random.random() < 0.3:
                        time.sleep(random.random() / 100)
                if random.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(1, 7)]
    for writer in writers:
        writer.start()
    answers: dict[datetime, list[int]] = {}
    try:
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            moment = datetime.now(UTC)
            wait_until(lambda moment=moment: sync_store.has_passed(moment))
            answer = [e.position for e in sync_store.read_all(as_of=moment)]
            if sync_store.has_passed(moment):  # the head never decreases
                answers[moment] = answer
    finally:
        stopped.set()
        for writer in writers:
            writer.join()

    assert len(answers) > 20
    everything = list(sync_store.read_all())
    for moment, answer in answers.items():
        assert [e.position for e in sync_store.read_all(as_of=moment)] == answer
        assert all(e.recorded_at <= moment for e in everything[: len(answer)])
        assert everything[len(answer)].recorded_at > moment
