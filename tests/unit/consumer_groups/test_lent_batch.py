"""Outcomes of lent events, when several calls record some at the same time."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from indelible.consumer_groups.lent_batch import settle
from indelible.errors import InvalidInput, LeaseLost

EVENTS = json.dumps([{"position": 1, "attempt": 1}, {"position": 2, "attempt": 3}]).encode()
EXPIRES_AT = datetime(2026, 1, 1, tzinfo=UTC)


def lease(*settled: int) -> list[tuple[object, ...]]:
    return [(EVENTS, list(settled), EXPIRES_AT, 3, 2.0)]


def test_a_call_about_all_events_takes_those_that_another_call_left() -> None:
    operation = settle("g", uuid4(), "finished", positions=None, reason="", error=None)
    next(operation)
    both = operation.send(lease())
    operation.send([(False,)])  # another call was faster
    rest = operation.send(lease(1))
    with pytest.raises(StopIteration) as ended:
        operation.send([(True,)])

    found = [json.loads(str(each.parameters["outcomes"])) for each in (both, rest)]
    assert [[outcome["position"] for outcome in each] for each in found] == [[1, 2], [2]]
    assert (ended.value.value.left, ended.value.value.finished) == (0, (2,))


def test_a_call_about_one_event_is_refused_if_another_call_was_faster() -> None:
    operation = settle("g", uuid4(), "finished", positions=[1], reason="", error=None)
    next(operation)
    operation.send(lease())
    operation.send([(False,)])

    with pytest.raises(InvalidInput, match="already has an outcome"):
        operation.send(lease(1))


def test_a_failure_is_retried_or_parked_as_its_attempt_says() -> None:
    operation = settle("g", uuid4(), "retry", positions=None, reason="broke", error="text")
    next(operation)
    statement = operation.send(lease())

    assert json.loads(str(statement.parameters["outcomes"])) == [
        {
            "position": 1,
            "state": "retry",
            "attempts": 1,
            "delay": 2.0,
            "reason": "broke",
            "error": "text",
        },
        {
            "position": 2,
            "state": "parked",
            "attempts": 3,
            "delay": 0,
            "reason": "failed 3 times: broke",
            "error": "text",
        },
    ]


@pytest.mark.parametrize("answer", [[], [(None,)]])
def test_a_lease_that_is_over_is_lost(answer: list[tuple[object, ...]]) -> None:
    operation = settle("g", uuid4(), "finished", positions=None, reason="", error=None)
    next(operation)
    with pytest.raises(LeaseLost, match="is over"):
        if answer:
            operation.send(lease())
        operation.send(answer)
