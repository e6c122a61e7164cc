"""A state built from the events that a query selects."""

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
    """One thing that a decision must know: which events tell it, and how.

    Write a function that makes one, and give several of them to `EventStore.decide`; each sees the
    events of its own query only. A model that asks for no more than it needs stands in nobody's
    way: name the types and the tags.

    Args:
        query: the events that tell it.
        initial: what holds before the first of them.
        evolve: takes the state and the next event, in order of position; returns the next state.

    Raises:
        InvalidInput: the query is none, or `evolve` cannot be called.

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
            raise InvalidInput(f"the query of a decision model must be a Query, not {self.query!r}")
        if not callable(self.evolve):
            raise InvalidInput(
                "evolve of a decision model must be a function of a state and an event, not"
                f" {self.evolve!r}"
            )

    def state_after(self, events: Iterable[RecordedEvent]) -> State:
        """Work out the state from events in order of position; those of others are passed over.

        Example:
            ```python
            assert course_capacity("c1").state_after([]) == 0
            ```
        """
        # A copy, since an `evolve` that changes what it is given would change the model.
        state = deepcopy(self.initial)
        for event in events:
            if self.query.matches(event):
                state = self.evolve(state, event)
        return state
