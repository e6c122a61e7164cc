"""Operations of a decision: read its models, decide, append under its condition."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

from indelible.core.operation import Operation
from indelible.errors import InvalidInput
from indelible.events import ANY, AppendResult, ExpectedVersion, NewEvent, StreamAppend
from indelible.query import AppendCondition
from indelible.serialization.codec import Codec
from indelible.streams import append, append_input

from . import matching_events
from .decision_model import DecisionModel

State = TypeVar("State")
States = TypeVar("States", bound=tuple[Any, ...])


class Decision(Generic[States]):
    """The decision of a `decide` block: the states of its models, and the events to append.

    Attributes:
        states: the states of the models, in their order.
        condition: the append condition: no event of the models was appended since. Pass it to
            `append` if you append the events yourself.
        results: after the block, the append results in order. Each event without a stream has a
            result of its own.

    Example:
        ```python
        with store.decide(course_exists("c1"), course_capacity("c1")) as decision:
            exists, capacity = decision.states
            decision.append("course-c1", CapacityChanged(capacity + 10))
        print(decision.results[0].position)
        ```
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
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Append events when the block ends, all or none.

        Args:
            stream: the stream; None puts each event into its own stream, `event-<id>`.
            events: one or many events, as for `EventStore.append`.
            expected: the expected version of the stream, checked in addition to the condition.
            channel: the stream's channel, as for `EventStore.append`.
            metadata: metadata of all of these events. An event's own metadata wins.

        Raises:
            InvalidInput: `expected` was passed without a stream, or the class of an event is not
                registered. Other errors are raised when the block ends.
        """
        if stream is not None:
            self._appends.append(StreamAppend(stream, events, expected, channel, metadata))
            return
        if expected is not ANY:
            raise InvalidInput(
                f"expected={expected!r} needs a stream, because an event without a stream has no"
                " version to expect: pass the stream, or omit expected"
            )
        for event in events if isinstance(events, list | tuple) else [events]:
            if not isinstance(event, NewEvent):
                event = NewEvent(self._codec.type_of(event), event)
            self._appends.append(StreamAppend(f"event-{event.id}", event, ANY, channel, metadata))


def begin(codec: Codec, models: Sequence[DecisionModel[Any]]) -> Operation[Decision[Any]]:
    """Read the states of the models; see `EventStore.decide`."""
    for model in models:
        if not isinstance(model, DecisionModel):
            raise InvalidInput(f"models must be DecisionModel values, not {model!r}")
    if not models:
        raise InvalidInput("a decision needs at least one DecisionModel: pass one")
    query = reduce(or_, (model.query for model in models))
    matching = yield from matching_events.read_matching(codec, query)
    states = tuple(_current(codec, model).state_after(matching.events) for model in models)
    return Decision(codec, states, AppendCondition(query, after=matching.marker))


def _current(codec: Codec, model: DecisionModel[State]) -> DecisionModel[State]:
    """Return the model with the current type names of its events, after upcasting."""
    query = codec.upcasting.current(model.query)
    return model if query == model.query else replace(model, query=query)


def finish(
    settings: append_input.AppendSettings,
    decision: Decision[Any],
    *,
    metadata: Mapping[str, Any] | None,
) -> Operation[list[AppendResult]]:
    """Append the events of the decision under its condition."""
    if decision._appends:
        decision.results = yield from append.append_many(
            settings, decision._appends, condition=decision.condition, metadata=metadata
        )
    return decision.results


def decide_with(
    settings: append_input.AppendSettings,
    decide: Callable[..., Any],
    models: Sequence[DecisionModel[Any]],
    *,
    metadata: Mapping[str, Any] | None,
) -> Operation[list[AppendResult]]:
    """Run one attempt to read, decide and append; see `EventStore.decide_with`."""
    decision = yield from begin(settings.codec, models)
    decided = decide(*decision.states)
    if inspect.iscoroutine(decided):
        decided.close()
        raise InvalidInput(
            "decide must be a plain function, not a coroutine: await first, or use"
            " `async with store.decide(…)`"
        )
    if decided is not None:
        for part in decided if isinstance(decided, list | tuple) else [decided]:
            if isinstance(part, StreamAppend):
                decision.append(
                    part.stream,
                    part.events,
                    expected=part.expected,
                    channel=part.channel,
                    metadata=part.metadata,
                )
            else:
                decision.append(None, part)
    return (yield from finish(settings, decision, metadata=metadata))
