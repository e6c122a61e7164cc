"""Plans: decide on what several small models say, and append only if that still holds.

A decision is read at once, with one query for all its models, and appended with the condition that
nothing which any of them would have seen has come since.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

from . import append, read
from .codec import Codec
from .errors import InvalidInput
from .events import ANY, AppendResult, ExpectedVersion, NewEvent, RecordedEvent, StreamAppend
from .plan import Plan
from .query import AppendCondition, Query

State = TypeVar("State")
States = TypeVar("States", bound=tuple[Any, ...])


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


class Decision(Generic[States]):
    """A decision being made: what its models say, and what is to be appended; see `decide`.

    Attributes:
        states: what the models say, in their order.
        condition: that none of their events has come since; what `append` takes, for those who
            append by themselves.
        results: once the block has ended, what its appends did, in their order; each event without
            a stream has a result.
    """

    def __init__(self, codec: Codec, states: States, condition: AppendCondition) -> None:
        self._codec = codec
        self.states = states
        self.condition = condition
        self.results: list[AppendResult] = []
        self._appends: list[StreamAppend] = []

    def append(
        self,
        stream: str | None,
        events: Any,
        *,
        expected: int | ExpectedVersion = ANY,
        channel: str | None = None,
    ) -> None:
        """Note events to be appended when the block ends, all of them or none.

        Args:
            stream: the stream; None gives each event one of its own, `event-<id>`.
            events: one or many, as for `EventStore.append`.
            expected: what the stream's version must be, if that matters beside the condition.
            channel: the stream's channel, as for `EventStore.append`.

        Raises:
            InvalidInput: a version is expected of events without a stream, or one of them is of a
                class that the store does not know. All else is said when the block ends.
        """
        if stream is not None:
            self._appends.append(StreamAppend(stream, events, expected, channel))
            return
        if expected is not ANY:
            raise InvalidInput(
                f"an event without a stream has no version to expect, and {expected!r} was given:"
                " name the stream, or leave expected out"
            )
        for event in events if isinstance(events, list | tuple) else [events]:
            if not isinstance(event, NewEvent):
                event = NewEvent(self._codec.type_of(event), event)
            self._appends.append(StreamAppend(f"event-{event.id}", event, ANY, channel))


def begin(codec: Codec, models: Sequence[DecisionModel[Any]]) -> Plan[Decision[Any]]:
    """Read what the models say; see `EventStore.decide`."""
    for model in models:
        if not isinstance(model, DecisionModel):
            raise InvalidInput(f"a decision takes DecisionModel values, not {model!r}")
    if not models:
        raise InvalidInput("a decision needs at least one DecisionModel to decide on")
    query = reduce(or_, (model.query for model in models))
    matching = yield from read.matching(codec, query)
    states = tuple(_current(codec, model).state_after(matching.events) for model in models)
    return Decision(codec, states, AppendCondition(query, after=matching.marker))


def _current(codec: Codec, model: DecisionModel[State]) -> DecisionModel[State]:
    """A model that knows the events of its query by the types that they are read as."""
    query = codec.upcasting.current(model.query)
    return model if query == model.query else replace(model, query=query)


def finish(writing: append.Writing, decision: Decision[Any]) -> Plan[list[AppendResult]]:
    """Append what was decided, if what it was decided on still holds."""
    if decision._appends:
        decision.results = yield from append.append_many(
            writing, decision._appends, condition=decision.condition
        )
    return decision.results


def decide_with(
    writing: append.Writing, decide: Callable[..., Any], models: Sequence[DecisionModel[Any]]
) -> Plan[list[AppendResult]]:
    """Attempt once to read, decide and append; see `EventStore.decide_with`."""
    decision = yield from begin(writing.codec, models)
    decided = decide(*decision.states)
    if inspect.iscoroutine(decided):
        decided.close()
        raise InvalidInput(
            "decide must be a plain function: what it must wait for comes before it, or into the"
            " block of `async with store.decide(…)`"
        )
    if decided is not None:
        for part in decided if isinstance(decided, list | tuple) else [decided]:
            if isinstance(part, StreamAppend):
                decision.append(
                    part.stream, part.events, expected=part.expected, channel=part.channel
                )
            else:
                decision.append(None, part)
    return (yield from finish(writing, decision))
