"""The delays of a backoff."""

from __future__ import annotations

import logging

import pytest

from indelible.core.retry import LONGEST_DELAY, Backoff, StepSupervisor
from indelible.errors import DatabaseUnreachable, LeaseLost


@pytest.mark.parametrize(
    ("failures", "first", "delay"),
    [
        (1, 0.5, 0.5),
        (4, 0.5, 4.0),
        (40, 0.5, 3_600.0),
        (1_100, 0.0, 0.0),
        (1_100, 1e-300, 1e-300 * 2**32),
        (2**31, 3_600.0, 3_600.0),
    ],
)
def test_a_pause_doubles_up_to_an_hour(failures: int, first: float, delay: float) -> None:
    assert Backoff(first, LONGEST_DELAY).delay(failures) == delay


def test_a_loop_waits_longer_after_each_failed_step_and_no_longer_after_one_that_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = StepSupervisor("a reader waits", logging.getLogger("test"))
    pauses = [supervisor.pause]
    for _ in range(2):
        with supervisor:
            raise DatabaseUnreachable("nobody there")
        pauses.append(supervisor.pause)
    with pytest.raises(LeaseLost), supervisor:
        raise LeaseLost
    pauses.append(supervisor.pause)
    with supervisor:
        pass
    pauses.append(supervisor.pause)

    assert pauses == [0.0, 0.05, 0.1, 0.2, 0.0]
    assert caplog.messages == [
        "a reader waits 0.05 s for the database: nobody there",
        "a reader waits 0.10 s for the database: nobody there",
    ]
