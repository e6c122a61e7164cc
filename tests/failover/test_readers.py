"""No reader skips events without an error, whatever happens to the database.

Each course runs once, with readers of every kind. Each test compares the events that one kind of
reader has seen with the final log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import pytest

from indelible import AppendConditionFailed
from indelible.errors import EpochMismatch
from tests.failover import disasters
from tests.failover.course import Course, Log, Tried
from tests.failover.disasters import Disaster
from tests.failover.lab import Lab, fake_clock

COURSES: list[list[Disaster]] = [
    [disasters.CAUGHT_UP],
    [disasters.LAGGING],
    [disasters.FEW_LOST],
    [disasters.PAUSED, disasters.LAGGING],
    [disasters.LAGGING, disasters.SLOT],
    [disasters.LAGGING, disasters.LAGGING],
    [disasters.RECOVERED],
    [disasters.COPIED],
    [disasters.ANOTHER_CLUSTER],
    [disasters.ANOTHER_DATABASE],
    [disasters.SAME_DATABASE],
    [disasters.LOGICAL_COPY],
    [disasters.clock(-5, loses=False)],
    [disasters.clock(5, loses=False)],
    [disasters.clock(-5, loses=True)],
]


def _name(course: list[Disaster]) -> str:
    return ", then ".join(map(str, course))


@pytest.fixture(scope="module", params=COURSES, ids=_name)
def course(request: pytest.FixtureRequest, lab: Lab) -> Course:
    if "clock" in _name(request.param) and fake_clock() is None:
        pytest.skip("libfaketime is not installed")
    few = disasters.FEW_LOST in request.param
    return Course(lab, request.param, at_risk=9 if few else 45).run()


def ids(log: Log) -> list[UUID]:
    return [entry.id for entry in log]


def check_told(told: BaseException, seen: Iterable[UUID], log: Log, wanted: list[UUID]) -> None:
    """Check what a reader is told: what it has not seen comes when it goes on from there."""
    assert isinstance(told, EpochMismatch), repr(told)
    if told.safe_through is not None:
        missed = {
            entry.id for entry in log if entry.position <= told.safe_through and entry.id in wanted
        }
        assert missed <= set(seen), "it is told to go on after what it has not seen"
    assert not set(told.lost) & set(ids(log)), "what is said to be lost is there"


@pytest.mark.parametrize(
    "name",
    [
        "subscription",
        "async subscription",
        "subscription that stands still",
        "subscription with events in hand",
        "subscription to a channel",
        "subscription to what is due",
    ],
)
def test_a_running_subscription_skips_and_repeats_nothing_or_is_told(
    course: Course, name: str
) -> None:
    reader = course.readers[name]
    wanted = reader.wanted(course.final)
    gone = set(reader.seen) - set(ids(course.final))
    seen = [id_ for id_ in reader.seen if id_ not in gone]
    assert len(seen) == len(set(seen)), "something came twice"
    if name != "subscription to what is due":
        assert seen == [id_ for id_ in wanted if id_ in set(seen)], "the order is another one"
    if reader.failure is None:
        assert not gone, "it saw what is lost, and was not told"
        assert set(seen) == set(wanted), "it skipped events, and was not told"
    else:
        passed_by = course.loses and reader.channel is not None
        assert gone or passed_by, f"it was told without need: {reader.failure!r}"
        check_told(reader.failure, seen, course.final, wanted)


@pytest.mark.parametrize("name", ["mails", "async mails", "transactions"])
def test_a_running_worker_handles_all_events_and_repeats_only_what_it_had_not_acked(
    course: Course, name: str
) -> None:
    reader = course.readers[name]
    assert reader.failure is None
    there = set(ids(course.final))
    assert there <= set(reader.seen), "it skipped events"
    acked = there & set(ids(course.logs[0])) if course.loses else there
    again = {id_ for id_, times in Counter(reader.seen).items() if times > 1}
    assert not again & acked, "it handled again what it had acked"
    assert course.checkpoints[name] == course.final[-1].position


def test_a_worker_that_comes_later_goes_on_after_what_the_group_had_done(course: Course) -> None:
    before, after = course.readers["later"], course.readers["later again"]
    assert after.failure is None
    assert set(ids(course.final)) <= {*before.seen, *after.seen}
    assert not set(after.seen) & set(ids(course.logs[0])), "it handled again what was acked"


@pytest.mark.parametrize("table", ["journal", "async_journal", "handled"])
def test_what_is_noted_in_the_database_is_noted_once_for_each_event(
    course: Course, table: str
) -> None:
    """By table projections, and by workers that handle in a transaction."""
    assert sorted(course.rows[table]) == sorted(ids(course.final))


def test_documents_are_what_the_log_says(course: Course) -> None:
    assert course.differing == {"counts": 0, "inline_counts": 0}
    assert course.checkpoints["counts"] == course.final[-1].position


def test_writers_go_on_and_what_they_are_told_is_so(course: Course) -> None:
    assert course.refused == []
    assert set(course.acknowledged) <= set(ids(course.final))


def test_what_is_being_read_is_read_whole_or_its_reader_is_told(course: Course) -> None:
    for reading in course.readings:
        if reading.failure is None:
            there = [e.id for e in course.final if e.position <= reading.events.head]
            assert reading.brought == there
        else:
            assert course.loses
            check_told(reading.failure, reading.brought, course.final, ids(course.final))


def tries(course: Course, *uses: str) -> list[Tried]:
    return [tried for tried in course.tried if tried.what in uses]


def is_whole(tried: Tried) -> bool:
    """Whether all that was there when it was kept is there when it is used."""
    return tried.log[: len(tried.kept.log)] == tried.kept.log


def check_refused(tried: Tried) -> None:
    assert not is_whole(tried), f"it was told without need: {tried.failure!r}"
    assert tried.failure is not None, "what it was kept for is gone, and it was not told"
    check_told(tried.failure, ids(tried.kept.log), tried.log, ids(tried.log))


def test_a_kept_checkpoint_goes_on_with_the_next_event_or_is_refused(course: Course) -> None:
    for tried in tries(course, "subscription", "subscription to what is due"):
        if is_whole(tried) and tried.failure is None:
            assert sorted(tried.brought) == sorted(ids(tried.log[len(tried.kept.log) :]))
        else:
            check_refused(tried)


def test_a_state_as_of_a_checkpoint_is_what_it_was_or_refused(course: Course) -> None:
    for tried in tries(course, "as of"):
        if is_whole(tried) and tried.failure is None:
            assert tried.brought == ids(tried.kept.log)
        else:
            check_refused(tried)


def test_a_decision_on_what_was_read_before_is_stored_only_if_nothing_came_in_between(
    course: Course,
) -> None:
    for tried in tries(course, "rule:1", "quiet:1"):
        in_the_way = [e for e in tried.log[len(tried.kept.log) :] if tried.what in e.tags]
        if tried.failure is None:
            assert is_whole(tried), "it was decided on what is gone"
            assert not in_the_way, "it was decided without knowing of an event"
        elif is_whole(tried):
            assert in_the_way, f"nothing is in the way: {tried.failure!r}"
            assert isinstance(tried.failure, AppendConditionFailed)
        else:
            assert isinstance(tried.failure, AppendConditionFailed | EpochMismatch)
