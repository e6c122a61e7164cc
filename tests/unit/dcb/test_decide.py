"""Decision models as values, and how attempts are spaced."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from indelible import (
    AppendCondition,
    AppendConditionFailed,
    ConsistencyMarker,
    DecisionModel,
    InvalidInput,
    Query,
    RecordedEvent,
)
from indelible.core.operation import Rows, Statement, run
from indelible.core.retry import RetryBudget
from indelible.dcb.decide import begin
from indelible.serialization.codec import Codec


def recorded(position: int, kind: str, *tags: str) -> RecordedEvent:
    now = datetime.now(UTC)
    return RecordedEvent(
        position, f"s-{position}", 0, uuid4(), kind, {"n": position}, {}, tags, "s", now, now
    )


def test_the_state_of_a_model_needs_no_store() -> None:
    model = DecisionModel(Query(types="A", tags="x:1"), 0, lambda n, event: n + event.data["n"])

    assert model.state_after([]) == 0
    assert (
        model.state_after(
            [recorded(1, "A", "x:1"), recorded(2, "B", "x:1"), recorded(4, "A", "x:1", "y:1")]
        )
        == 5
    )


def test_all_models_are_read_in_one_statement_and_kept_to_together() -> None:
    asked: list[Statement] = []

    def answer(call: Statement) -> Rows:
        asked.append(call)
        return [(7, *[None] * 7, str(uuid4()), None, None)]  # the head, and no event

    queries = [Query(types="A", tags="x:1"), Query(tags="y:1"), Query(channel="c")]
    models = [DecisionModel(query, place, max) for place, query in enumerate(queries)]

    decision = run(begin(Codec(), models), answer)

    assert [call.name for call in asked] == ["dcb.read_matching"]
    assert len(json.loads(str(asked[0].parameters["items"]))) == 3
    assert decision.states == (0, 1, 2)
    a, b, c = queries
    assert decision.condition == AppendCondition(a | b | c, after=ConsistencyMarker(7))


@pytest.mark.parametrize("query", [None, "A", ["A"], {"types": "A"}])
def test_a_model_has_a_query(query: Any) -> None:
    with pytest.raises(InvalidInput, match="Query"):
        DecisionModel(query, 0, lambda n, event: n)


@pytest.mark.parametrize("evolve", [None, 7, {"A": len}])
def test_a_model_evolves_by_a_function(evolve: Any) -> None:
    with pytest.raises(InvalidInput, match="evolve"):
        DecisionModel(Query(types="A"), 0, evolve)


def test_pauses_are_random_and_grow_to_a_bound() -> None:
    refusal = AppendConditionFailed([])

    def pauses() -> list[float]:
        left = RetryBudget(40)
        return [left.pause_after(refusal) for _ in range(39)]

    runs = [pauses() for _ in range(50)]

    longest = [max(run[number] for run in runs) for number in range(39)]
    assert all(0 <= pause <= 0.5 for run in runs for pause in run)
    assert longest[0] <= 0.005
    assert longest[-1] > 0.1
    assert len({run[0] for run in runs}) > 1
