"""Group commit: who goes with whom. What the database answers is made up here."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from indelible.errors import ConnectionLost, DatabaseError
from indelible.plan import Call
from indelible.postgres import group_commit
from indelible.postgres.group_commit import Entry, GroupCommit, Line, Work
from tests.waiting import wait_until

APPENDED = ("appended", 0, 1, None, None)


def entry(stream: str) -> Entry:
    parameters = {"stream": stream, "channel": None, "expected": -2, "events": "[{}]"}
    return Entry(Call("append", parameters, appends=True, lane=stream))


def appended(work: Work) -> list[tuple[Any, ...]]:
    if len(work.entries) == 1:
        return [APPENDED]
    return [(place, *APPENDED) for place in range(1, len(work.entries) + 1)]


def test_an_append_that_finds_a_worker_free_goes_at_once_and_alone() -> None:
    line = Line(2)
    first, second = entry("a"), entry("b")
    one, two = line.enter(first), line.enter(second)
    assert one is not None
    assert two is not None
    assert one.call() is first.call
    assert two.call() is second.call


def test_what_comes_while_all_are_at_work_goes_together() -> None:
    line = Line(1)
    work = line.enter(entry("a"))
    assert work is not None
    later = [entry(name) for name in "bcd"]
    assert [line.enter(given) for given in later] == [None, None, None]
    (batch,) = line.settle(work, [APPENDED])
    assert batch.entries == later
    assert batch.call().statement == "append_batch"


def test_half_of_many_go_so_that_the_next_are_got_ready_meanwhile() -> None:
    line = Line(1)
    work = line.enter(entry("first"))
    assert work is not None
    for number in range(200):
        line.enter(entry(f"a-{number}"))
    (batch,) = line.settle(work, [APPENDED])
    assert len(batch.entries) == 100


def test_a_batch_has_a_largest_size_in_bytes() -> None:
    line = Line(1)
    work = line.enter(entry("first"))
    assert work is not None
    for number in range(6):
        large = entry(f"a-{number}")
        large.call.parameters["events"] = "x" * 1_000_000  # type: ignore[index]
        line.enter(large)
    (batch,) = line.settle(work, [APPENDED])
    assert len(batch.entries) == 3


def test_appends_to_the_stream_of_a_batch_wait_behind_it_in_order() -> None:
    line = Line(2)
    work = line.enter(entry("a"))
    assert work is not None
    behind = [entry("a") for _ in range(3)]
    assert [line.enter(given) for given in behind] == [None, None, None]
    (batch,) = line.settle(work, [APPENDED])
    assert batch.entries == behind


def test_what_others_hold_goes_alone_and_its_neighbours_have_their_outcome() -> None:
    line = Line(1)
    first = line.enter(entry("first"))
    assert first is not None
    held, held_too, free = entry("held"), entry("held"), entry("free")
    for given in (held, free, held_too):
        line.enter(given)
    (batch,) = line.settle(first, [APPENDED])
    busy = ("busy", None, None, None, None)
    outcomes = {held: busy, held_too: busy, free: APPENDED}
    rows = [(place, *outcomes[given]) for place, given in enumerate(batch.entries, 1)]
    (alone,) = line.settle(batch, rows)
    assert free.outcome() == [APPENDED]
    assert alone.entries == [held]
    assert alone.call() is held.call
    other = line.enter(entry("other"))
    assert other, "what waits for others takes no worker's place"
    assert line.settle(alone, [APPENDED]) == []
    (last,) = line.settle(other, [APPENDED])
    assert last.entries == [held_too]


def test_an_append_that_the_database_cannot_take_fails_alone() -> None:
    line = Line(1)
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
    line = Line(1)
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


def test_an_interrupt_ends_the_thread_that_it_hit_and_nobody_elses_append() -> None:
    line = Line(1)
    first = line.enter(entry("first"))
    assert first is not None
    leader, neighbour = entry("a"), entry("b")
    line.enter(leader)
    line.enter(neighbour)
    (batch,) = line.settle(first, [APPENDED])
    (again,) = line.settle(batch, KeyboardInterrupt())
    assert isinstance(leader.problem, KeyboardInterrupt)
    assert again.entries == [neighbour]


def test_what_is_abandoned_before_it_was_sent_is_not_sent() -> None:
    line = Line(1)
    work = line.enter(entry("a"))
    assert work is not None
    gone, there = entry("b"), entry("c")
    line.enter(gone)
    line.enter(there)
    gone.is_abandoned = True
    (batch,) = line.settle(work, [APPENDED])
    assert batch.entries == [there]


def test_there_is_one_more_worker_where_those_that_there_are_take_long() -> None:
    line = Line(1)
    slow = line.enter(entry("slow"))
    assert slow is not None
    waiting = entry("waiting")
    line.enter(waiting)
    assert line.relieve() == []
    slow.begun -= 2 * group_commit._PATIENCE
    (more,) = line.relieve()
    assert more.entries == [waiting]
    line.settle(slow, [APPENDED])
    line.settle(more, [APPENDED])
    assert line.enter(entry("x"))
    assert line.enter(entry("y")) is None, "the worker in reserve is gone again"


def test_an_interrupted_thread_leaves_the_appends_of_others_to_others() -> None:
    begun, go_on = threading.Event(), threading.Event()
    sent: list[str] = []

    def execute(call: Call) -> list[tuple[Any, ...]]:
        sent.append(str(call.parameters.get("stream", "batch")))
        begun.set()
        assert go_on.wait(20)
        return [APPENDED]

    commit = GroupCommit(execute, connections=1)
    outcomes: dict[str, object] = {}

    def append(name: str) -> None:
        try:
            outcomes[name] = commit.append(entry(name).call)
        except KeyboardInterrupt as interrupt:
            outcomes[name] = interrupt

    def start(name: str) -> threading.Thread:
        thread = threading.Thread(target=append, args=[name])
        thread.start()
        return thread

    first = start("first")
    assert begun.wait(20)
    interrupted = start("interrupted")
    wait_until(lambda: commit._line.is_waited_for)
    assert interrupted.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(interrupted.ident), ctypes.py_object(KeyboardInterrupt)
    )
    interrupted.join(20)
    third = start("third")
    wait_until(lambda: "third" in commit._line._waiting)
    go_on.set()
    for thread in (first, third):
        thread.join(20)
    assert isinstance(outcomes.pop("interrupted"), KeyboardInterrupt)
    assert outcomes == {"first": [APPENDED], "third": [APPENDED]}
    assert sent == ["first", "third"]


class LineModel(RuleBasedStateMachine):
    """Whatever comes, is refused, fails or takes long: each has one outcome, in order of stream."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(2)
        self.running: list[Work] = []
        self.unsettled: dict[str, list[Entry]] = {}

    def begin(self, following: list[Work]) -> None:
        for work in following:
            assert work.entries
            self.running.append(work)
            for stream in {given.lane for given in work.entries}:
                # Those of a stream that have no outcome yet are the first ones that came.
                own = [given for given in work.entries if given.lane == stream]
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
                (place, "busy" if given.lane in held else "appended", None, None, None, None)
                for place, given in enumerate(work.entries, 1)
            ]
        following = self.line.settle(work, outcome)
        for given in work.entries:
            if given.is_settled:
                self.unsettled[given.lane].remove(given)
        self.begin(following)

    @rule()
    def take_long(self) -> None:
        for work in self.running:
            work.begun -= 1
        self.begin(self.line.relieve())

    @invariant()
    def no_stream_is_twice_at_work(self) -> None:
        streams = [s for work in self.running for s in {given.lane for given in work.entries}]
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
                self.unsettled[given.lane].remove(given)
            self.begin(following)
        assert not any(self.unsettled.values())
        assert self.line._free == 2
        assert not self.line._at_work


TestLine = LineModel.TestCase
TestLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
