"""Group commit: which appends share a batch. The answers of the database are simulated."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from indelible import ConnectionLost
from indelible.core.operation import AppendStatement, Statement
from indelible.errors import DatabaseError
from indelible.postgres.commit_queue import PATIENCE, Batch, CommitQueue, PendingAppend
from indelible.postgres.group_commit import GroupCommit
from tests.support.waiting import wait_until

APPENDED = ("appended", 0, 1, None, None)


def entry(stream: str) -> PendingAppend:
    parameters = {"stream": stream, "channel": None, "expected": -2, "events": "[{}]"}
    return PendingAppend(AppendStatement("streams.append", parameters, ordering_key=stream))


def appended(work: Batch) -> list[tuple[Any, ...]]:
    if len(work.entries) == 1:
        return [APPENDED]
    return [(place, *APPENDED) for place in range(1, len(work.entries) + 1)]


def test_an_append_that_finds_a_worker_free_goes_at_once_and_alone() -> None:
    line = CommitQueue(2, 2)
    first, second = entry("a"), entry("b")
    one, two = line.enter(first), line.enter(second)
    assert one is not None
    assert two is not None
    assert one.statement() is first.statement
    assert two.statement() is second.statement


def test_what_comes_while_all_are_busy_goes_together() -> None:
    line = CommitQueue(1, 1)
    work = line.enter(entry("a"))
    assert work is not None
    later = [entry(name) for name in "bcd"]
    assert [line.enter(given) for given in later] == [None, None, None]
    (batch,) = line.settle(work, [APPENDED])
    assert batch.entries == later
    assert batch.statement().name == "streams.append_batch"


def test_half_of_many_go_so_that_the_next_are_got_ready_meanwhile() -> None:
    line = CommitQueue(1, 1)
    work = line.enter(entry("first"))
    assert work is not None
    for number in range(99):
        line.enter(entry(f"a-{number}"))
    (batch,) = line.settle(work, [APPENDED])
    assert len(batch.entries) == 50
    # Callers with an outcome append again meanwhile; the waiting appends are half of all.
    for number in range(49):
        line.enter(entry(f"b-{number}"))
    (batch,) = line.settle(batch, appended(batch))
    assert len(batch.entries) == 74


def test_a_batch_has_a_largest_size_in_bytes() -> None:
    line = CommitQueue(1, 1)
    work = line.enter(entry("first"))
    assert work is not None
    for number in range(6):
        large = entry(f"a-{number}")
        large.statement.parameters["events"] = "x" * 1_000_000  # type: ignore[index]
        line.enter(large)
    (batch,) = line.settle(work, [APPENDED])
    assert len(batch.entries) == 3


def test_appends_to_the_stream_of_a_batch_wait_behind_it_in_order() -> None:
    line = CommitQueue(2, 2)
    work = line.enter(entry("a"))
    assert work is not None
    behind = [entry("a") for _ in range(3)]
    assert [line.enter(given) for given in behind] == [None, None, None]
    (batch,) = line.settle(work, [APPENDED])
    assert batch.entries == behind


def test_what_others_hold_goes_alone_and_its_neighbours_have_their_outcome() -> None:
    line = CommitQueue(1, 1)
    first = line.enter(entry("first"))
    assert first is not None
    held, held_too, free = entry("held"), entry("held"), entry("free")
    for given in (held, free, held_too):
        line.enter(given)
    (batch,) = line.settle(first, [APPENDED])
    contended = ("contended", None, None, None, None)
    outcomes = {held: contended, held_too: contended, free: APPENDED}
    rows = [(place, *outcomes[given]) for place, given in enumerate(batch.entries, 1)]
    (alone,) = line.settle(batch, rows)
    assert free.outcome() == [APPENDED]
    assert alone.entries == [held]
    assert alone.statement() is held.statement
    other = line.enter(entry("other"))
    assert other, "what waits for others takes no worker's place"
    assert line.settle(alone, [APPENDED]) == []
    (last,) = line.settle(other, [APPENDED])
    assert last.entries == [held_too]


def test_an_append_that_the_database_cannot_take_fails_alone() -> None:
    line = CommitQueue(1, 1)
    first = line.enter(entry("first"))
    assert first is not None
    bad, good = entry("bad"), entry("good")
    line.enter(bad)
    line.enter(good)
    (batch,) = line.settle(first, [APPENDED])
    alone = line.settle(batch, DatabaseError("no"))
    assert [work.entries for work in alone] == [[bad], [good]]
    line.settle(alone[0], DatabaseError("no"))
    line.settle(alone[1], [APPENDED])
    assert isinstance(bad.problem, DatabaseError)
    assert good.outcome() == [APPENDED]


def test_a_lost_connection_is_told_to_all_each_with_an_error_of_its_own() -> None:
    line = CommitQueue(1, 1)
    first = line.enter(entry("first"))
    assert first is not None
    ones = [entry("a"), entry("b")]
    for given in ones:
        line.enter(given)
    (batch,) = line.settle(first, [APPENDED])
    line.settle(batch, ConnectionLost("gone"))
    problems = [given.problem for given in ones]
    assert all(isinstance(problem, ConnectionLost) for problem in problems)
    assert problems[0] is not problems[1]


def test_what_is_abandoned_before_it_was_sent_is_not_sent() -> None:
    line = CommitQueue(1, 1)
    work = line.enter(entry("a"))
    assert work is not None
    gone, there = entry("b"), entry("c")
    line.enter(gone)
    line.enter(there)
    gone.has_left = True
    (batch,) = line.settle(work, [APPENDED])
    assert batch.entries == [there]


def test_there_is_one_more_worker_where_those_that_there_are_take_long() -> None:
    line = CommitQueue(1, 1)
    slow = line.enter(entry("slow"))
    assert slow is not None
    waiting = entry("waiting")
    line.enter(waiting)
    assert line.add_workers() == []
    slow.started_at -= 2 * PATIENCE
    (more,) = line.add_workers()
    assert more.entries == [waiting]
    line.settle(slow, [APPENDED])
    line.settle(more, [APPENDED])
    assert line.enter(entry("x"))
    assert line.enter(entry("y")) is None, "the worker in reserve is gone again"


def test_while_a_batch_is_under_way_the_next_one_is_gathered() -> None:
    line = CommitQueue(3, 1)
    first, second = line.enter(entry("a")), line.enter(entry("b"))
    third = line.enter(entry("c"))
    assert first, "all go alone while there are few"
    assert second
    assert third
    later = [entry(name) for name in "defg"]
    assert [line.enter(given) for given in later[:2]] == [None, None]
    (batch,) = line.settle(first, [APPENDED])
    assert batch.entries == later[:2]
    assert line.settle(second, [APPENDED]) == []
    assert [line.enter(given) for given in later[2:]] == [None, None]
    (next_batch,) = line.settle(batch, appended(batch))
    assert next_batch.entries == later[2:]


class Appends:
    """Threads that append; what the database does is told by the test."""

    def __init__(self, connections: int = 1) -> None:
        self.sent: list[str] = []
        self.outcomes: dict[str, object] = {}
        self.threads: dict[str, threading.Thread] = {}
        self._go_on = [threading.Event() for _ in range(5)]
        self.commit = GroupCommit(self._execute, connections, timeout=20)
        self.commit.open()

    def _execute(
        self, statement: Statement, meanwhile: Callable[[], bool] | None
    ) -> list[tuple[Any, ...]]:
        number = len(self.sent)
        names = re.findall(r'"stream":"(.*?)"', str(statement.parameters.get("appends")))
        self.sent.append(" ".join(names) or str(statement.parameters["stream"]))
        if meanwhile is not None:
            meanwhile()
        assert self._go_on[number].wait(20)
        return [(place, *APPENDED) for place, _ in enumerate(names, 1)] or [APPENDED]

    def _append(self, name: str) -> None:
        try:
            self.outcomes[name] = self.commit.append(entry(name).statement)
        except KeyboardInterrupt as interrupt:
            self.outcomes[name] = interrupt

    def start(self, name: str) -> None:
        """Append, and return when it was sent, or waits."""
        self.threads[name] = threading.Thread(target=self._append, args=[name])
        self.threads[name].start()
        wait_until(lambda: name in self.sent or self._waits(name))

    def _waits(self, name: str) -> bool:
        arrived = [given.ordering_key for given in self.commit._arrived.copy()]
        return name in arrived or name in self.commit._queue._waiting

    def answer(self, number: int) -> None:
        """Have the database answer what was sent as the so manieth."""
        self._go_on[number].set()

    def end(self) -> dict[str, object]:
        for event in self._go_on:
            event.set()
        for thread in self.threads.values():
            thread.join(20)
        self.commit.close()
        return self.outcomes


def test_outcomes_are_told_while_the_database_has_the_next_batch() -> None:
    appends = Appends()
    for name in ("first", "a", "b"):
        appends.start(name)
    appends.answer(0)
    wait_until(lambda: "a b" in appends.sent)
    for name in ("c", "d"):
        appends.start(name)
    assert "a" not in appends.outcomes
    appends.answer(1)
    wait_until(lambda: {"a", "b"} <= appends.outcomes.keys())
    assert appends.sent == ["first", "a b", "c d"]
    assert "c" not in appends.outcomes
    assert set(appends.end()) == {"first", "a", "b", "c", "d"}


def test_what_waits_when_the_store_is_closed_has_an_outcome_too() -> None:
    appends = Appends()
    for name in ("first", "a", "b"):
        appends.start(name)
    appends.commit.close()
    assert appends.end() == {name: [APPENDED] for name in ("first", "a", "b")}


def test_an_interrupted_thread_leaves_the_appends_of_others_to_others() -> None:
    appends = Appends()
    appends.start("first")
    appends.start("interrupted")
    interrupt(appends.threads["interrupted"])
    appends.threads["interrupted"].join(20)
    appends.start("third")
    outcomes = appends.end()
    assert isinstance(outcomes.pop("interrupted"), KeyboardInterrupt)
    assert outcomes == {"first": [APPENDED], "third": [APPENDED]}
    assert appends.sent == ["first", "third"]


def interrupt(thread: threading.Thread) -> None:
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
    )


class LineModel(RuleBasedStateMachine):
    """Whatever comes, is refused, fails or takes long: each has one outcome, in order of stream."""

    workers, batches = 2, 2

    def __init__(self) -> None:
        super().__init__()
        self.line = CommitQueue(self.workers, self.batches)
        self.running: list[Batch] = []
        self.unsettled: dict[str, list[PendingAppend]] = {}

    def begin(self, following: list[Batch]) -> None:
        for work in following:
            assert work.entries
            self.running.append(work)
            for stream in {given.ordering_key for given in work.entries}:
                # The pending appends of a stream are in order of arrival.
                own = [given for given in work.entries if given.ordering_key == stream]
                assert own == self.unsettled[stream][: len(own)]

    @rule(stream=st.sampled_from("abcde"))
    def come(self, stream: str) -> None:
        given = entry(stream)
        self.unsettled.setdefault(stream, []).append(given)
        work = self.line.enter(given)
        self.begin([work] if work else [])

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def end(self, data: st.DataObject) -> None:
        work = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        outcome: Any
        if len(work.entries) == 1:
            outcome = data.draw(st.sampled_from([[APPENDED], DatabaseError("x")]))
        elif data.draw(st.booleans()):
            outcome = DatabaseError("x")
        else:
            # All of a stream are held, or none.
            held = data.draw(st.sets(st.sampled_from("abcde")))
            outcome = [
                (
                    place,
                    "contended" if given.ordering_key in held else "appended",
                    None,
                    None,
                    None,
                    None,
                )
                for place, given in enumerate(work.entries, 1)
            ]
        following = self.line.settle(work, outcome)
        for given in work.entries:
            if given.is_settled:
                self.unsettled[given.ordering_key].remove(given)
        self.begin(following)

    @rule()
    def take_long(self) -> None:
        for work in self.running:
            work.started_at -= 1
        self.begin(self.line.add_workers())

    @invariant()
    def no_stream_is_twice_in_progress(self) -> None:
        streams = [
            s for work in self.running for s in {given.ordering_key for given in work.entries}
        ]
        assert len(streams) == len(set(streams))

    @invariant()
    def nobody_waits_while_nothing_is_under_way(self) -> None:
        if not self.running:
            assert not any(self.unsettled.values())

    def teardown(self) -> None:
        while self.running:
            work = self.running.pop()
            following = self.line.settle(work, appended(work))
            for given in work.entries:
                self.unsettled[given.ordering_key].remove(given)
            self.begin(following)
        assert not any(self.unsettled.values())
        assert self.line._free == self.workers
        assert self.line._free_for_batches == self.batches
        assert not self.line._in_progress


class LineOfThreadsModel(LineModel):
    """The same where several go alone, or one batch."""

    workers, batches = 4, 1

    @invariant()
    def one_batch_is_under_way(self) -> None:
        batches = [work for work in self.running if work.takes_place and not work.is_alone]
        assert len(batches) <= 1


TestLine = LineModel.TestCase
TestLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLineOfThreads = LineOfThreadsModel.TestCase
TestLineOfThreads.settings = TestLine.settings
