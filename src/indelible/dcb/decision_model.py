"""Decision models: states built from the events that match a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic, TypeVar

from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.query import Query

State = TypeVar("State")


@dataclass(frozen=True)
class DecisionModel(Generic[State]):
    """One fact that a decision needs, computed from the events that match a query.

    Write a function that returns a model, and pass one or more models to `EventStore.decide`. Each
    model gets only the events of its own query. Query only the types and tags that the decision
    needs. Other events then never cause a conflict.

    Args:
        query: the events of the model.
        initial: the state before the first event.
        evolve: takes the state and the next event, in order of position; returns the new state.

    Raises:
        InvalidInput: `query` is not a `Query`, or `evolve` is not a function.

    Example:
        ```python
        def course_capacity(course: str) -> DecisionModel[int]:
            return DecisionModel(
                Query(types=["CourseDefined", "CapacityChanged"], tags=f"course:{course}"),
                initial=0,
                evolve=lambda _, event: event.data.capacity,
            )
        ```
    """

    query: Query
    initial: State
    evolve: Callable[[State, RecordedEvent], State]

    def __post_init__(self) -> None:
        if not isinstance(self.query, Query):
            raise InvalidInput(f"query of a decision model must be a Query, not {self.query!r}")
        if not callable(self.evolve):
            raise InvalidInput(
                "evolve of a decision model must be a function of a state and an event, not"
                f" {self.evolve!r}"
            )

    def state_after(self, events: Iterable[RecordedEvent]) -> State:
        """Return the state after the given events. Events that do not match the query are ignored.

        Use it to test a model without a store.

        Args:
            events: the events, in order of position.

        Example:
            ```python
            assert course_capacity("c1").state_after([]) == 0
            ```
        """
        # A copy, because an `evolve` that changes its argument would change the model.
        state = deepcopy(self.initial)
        for event in events:
            if self.query.matches(event):
                state = self.evolve(state, event)
        return state
