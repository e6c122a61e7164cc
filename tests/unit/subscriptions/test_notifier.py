"""How often a process notifies others of its commits, on a clock of the test."""

from __future__ import annotations

from typing import Any

import pytest

from indelible.postgres.settings import Settings
from indelible.subscriptions import notifier as notifier_module
from indelible.subscriptions.notifier import CommitNotifier

_COST = 0.00015


class Clock:
    """Stands still between the steps of a test."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Control:
    """Stands for the control connection, which the test itself drives."""

    def wake_by(self, moment: float) -> None:
        """Be awake."""


class Session:
    """Notifies, if a session listens."""

    listens = False

    def __init__(self, clock: Clock, *, is_heard: bool) -> None:
        self._clock, self._is_heard = clock, is_heard
        self.notified_at: list[float] = []

    def run(self, plan: Any) -> bool:
        self.notified_at.append(self._clock.now)
        self._clock.now += _COST
        return self._is_heard


def notified(
    monkeypatch: pytest.MonkeyPatch, commits: list[float], *, is_heard: bool = True
) -> list[float]:
    """When a process notifies that commits at these moments."""
    clock = Clock()
    monkeypatch.setattr(notifier_module, "time", clock)
    control: Any = Control()
    session: Any = Session(clock, is_heard=is_heard)
    notifier = CommitNotifier(control, Settings("postgresql://"))
    pending = sorted(commits, reverse=True)
    while pending or notifier._is_pending:
        due_at = notifier.due_at() if notifier._is_pending else float("inf")
        if pending and pending[-1] <= max(due_at, clock.now):
            clock.now = max(clock.now, pending.pop())
            notifier.notify()
        else:
            clock.now = max(clock.now, due_at)
            notifier.act(session)
    return session.notified_at


def test_the_first_commit_after_a_pause_is_notified_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits = [101.0, 102.0, 102.5, 200.0]
    assert notified(monkeypatch, commits) == commits


def test_a_thousand_commits_a_second_are_notified_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits = [101 + count / 1000 for count in range(1000)]
    assert notified(monkeypatch, commits) == commits


def test_under_load_commits_share_a_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = [101 + count / 10_000 for count in range(10_000)]
    found = notified(monkeypatch, commits)
    assert 250 < len(found) < 350
    assert found[-1] >= commits[-1]


def test_after_the_load_the_next_commit_is_notified_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = [101 + count / 10_000 for count in range(1_000)]
    after = [102.0, 102.001, 102.002]
    assert notified(monkeypatch, [*burst, *after])[-3:] == after


def test_where_nobody_listens_a_process_asks_ten_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commits = [101 + count / 1000 for count in range(1000)]
    assert len(notified(monkeypatch, commits, is_heard=False)) <= 11
