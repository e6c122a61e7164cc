"""How often a watch queries the head, on a clock of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import pytest

from indelible.core.operation import Operation
from indelible.postgres.settings import Settings
from indelible.streams.head import HeadState
from indelible.subscriptions import head_watcher
from indelible.subscriptions.head_watcher import HeadWatcher
from indelible.subscriptions.tail import look

_EPOCH = UUID(int=1)


class Clock:
    """Stands still between the steps of a test."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Control:
    """Stands for the control connection, which the test itself drives."""

    is_closed = False

    def __init__(self) -> None:
        self.guard = threading.RLock()

    def check_origin(self) -> None:
        """Be of this process."""

    def wake_by(self, moment: float) -> None:
        """Be awake."""


class Session:
    """Answers each look with the head of the moment, after as long as a look takes."""

    def __init__(self, clock: Clock, cost: float, head: Callable[[float], int]) -> None:
        self._clock, self._cost, self._head = clock, cost, head
        self.looks: list[float] = []

    def run(self, plan: Operation[Any]) -> tuple[HeadState, None] | None:
        if getattr(plan, "__name__", "") != look.__name__:  # it is recorded once a second
            return None
        self.looks.append(self._clock.now)
        found = self._head(self._clock.now)
        self._clock.now += self._cost
        return HeadState(found, _EPOCH, None), None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(head_watcher, "time", clock)
    return clock


def looks(
    clock: Clock, head: Callable[[float], int], notified_at: Iterable[float], cost: float = 0.0006
) -> list[float]:
    """When a watch looks in nine seconds, while notifications arrive at these moments."""
    control: Any = Control()
    session: Any = Session(clock, cost, head)
    watch = HeadWatcher(control, Settings("postgresql://"))
    watch.join("reader", lambda: None)
    watch._session = session
    pending = sorted(notified_at, reverse=True)
    while clock.now < 9:
        due_at = watch.due_at()
        if pending and pending[-1] <= max(due_at, clock.now):
            clock.now = max(clock.now, pending.pop())
            watch._is_notified = True
        else:
            clock.now = max(clock.now, due_at)
        if watch.due_at() <= clock.now:
            watch.act(session)
    return session.looks


def often(seconds: float) -> list[float]:
    return [1 + count * seconds for count in range(int(8 / seconds))]


def test_a_watch_at_rest_looks_twice_a_second(clock: Clock) -> None:
    found = looks(clock, lambda now: 0, [])
    assert len([moment for moment in found if moment > 3]) <= 13


def test_a_notification_is_handled_at_once(clock: Clock) -> None:
    notified_at = [1.3, 2.7, 4.1, 8.0]
    found = looks(clock, lambda now: sum(time <= now for time in notified_at), notified_at)
    assert set(notified_at) <= set(found)


def test_where_a_look_is_cheap_each_notification_that_brings_something_is_handled(
    clock: Clock,
) -> None:
    notified_at = often(0.0035)
    found = looks(clock, lambda now: int(now / 0.0035), notified_at)
    assert len(found) > 0.9 * len(notified_at)


def test_an_event_a_second_costs_few_looks(clock: Clock) -> None:
    found = looks(clock, int, often(1.0))
    assert len(found) <= 60


@pytest.mark.parametrize("interval", [0.003, 0.0085])
def test_where_a_look_is_dear_a_watch_looks_a_quarter_of_the_time(
    clock: Clock, interval: float
) -> None:
    """Beside 10,000 locks of others in the cluster a look takes 4 ms."""
    cost = 0.0042
    found = looks(clock, lambda now: int(now / interval), often(interval), cost)
    assert 0.2 < cost * len(found) / 9 < 0.3


def test_a_head_that_is_held_is_looked_at_seldom_whatever_rings(clock: Clock) -> None:
    found = looks(clock, lambda now: 0, often(0.003))
    assert len(found) < 25 * 9


def test_what_waits_behind_a_slower_writer_is_found_soon_without_a_notification(
    clock: Clock,
) -> None:
    found = looks(clock, lambda now: 7 if now > 1.03 else 0, [1.0])
    assert any(1.03 < moment < 1.08 for moment in found)


def test_a_short_burst_of_work_elsewhere_makes_no_look_dear(clock: Clock) -> None:
    control: Any = Control()
    watch = HeadWatcher(control, Settings("postgresql://"))
    watch.join("reader", lambda: None)
    for number, cost in enumerate([0.0006] * 5 + [0.5]):
        session: Any = Session(clock, cost, lambda now, number=number: number + 1)  # type: ignore[misc]
        watch._session = session
        watch.act(session)
    watch._is_notified = True
    assert watch.due_at() - clock.now < 0.01


def test_at_a_thousand_events_a_second_each_is_found_within_a_millisecond(clock: Clock) -> None:
    notified_at = often(0.001)
    found = looks(clock, lambda now: int(now * 1000 + 1e-6), notified_at, cost=0.0003)
    waits = [min(look for look in found if look >= moment) - moment for moment in notified_at[:99]]
    assert max(waits) < 0.0007


def test_where_a_look_brings_several_events_a_watch_looks_a_quarter_of_the_time(
    clock: Clock,
) -> None:
    cost = 0.0003
    found = looks(clock, lambda now: int(now * 10_000), often(0.0001), cost)
    assert 0.2 < cost * len(found) / 9 < 0.3


def test_a_watch_that_begins_to_listen_does_not_rely_on_notifications_yet(clock: Clock) -> None:
    """A process that has just found that nobody listens does not ask again for 100 ms."""
    control: Any = Control()
    session: Any = Session(clock, 0.0006, lambda now: 0)
    session.is_direct = False
    watch = HeadWatcher(control, Settings("postgresql://"))
    watch.join("reader", lambda: None)
    while clock.now < 0.1:
        watch.act(session)
        assert watch.due_at() - clock.now <= 0.0051
        clock.now = watch.due_at()
