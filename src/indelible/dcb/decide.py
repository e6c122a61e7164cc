"""Read what a decision needs, decide, and append under its condition: operations."""

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
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Note events to be appended when the block ends, all of them or none.

        Args:
            stream: the stream; None gives each event one of its own, `event-<id>`.
            events: one or many, as for `EventStore.append`.
            expected: what the stream's version must be, if that matters beside the condition.
            channel: the stream's channel, as for `EventStore.append`.
            metadata: metadata of all of these events. An event's own metadata wins.

        Raises:
            InvalidInput: a version is expected of events without a stream, or one of them is of a
                class that the store does not know. All else is said when the block ends.
        """
        if stream is not None:
            self._appends.append(StreamAppend(stream, events, expected, channel, metadata))
            return
        if expected is not ANY:
            raise InvalidInput(
                f"an event without a stream has no version to expect, and {expected!r} was given:"
                " name the stream, or leave expected out"
            )
        for event in events if isinstance(events, list | tuple) else [events]:
            if not isinstance(event, NewEvent):
                event = NewEvent(self._codec.type_of(event), event)
            self._appends.append(StreamAppend(f"event-{event.id}", event, ANY, channel, metadata))


def begin(codec: Codec, models: Sequence[DecisionModel[Any]]) -> Operation[Decision[Any]]:
    """Read what the models say; see `EventStore.decide`."""
    for model in models:
        if not isinstance(model, DecisionModel):
            raise InvalidInput(f"a decision takes DecisionModel values, not {model!r}")
    if not models:
        raise InvalidInput("a decision needs at least one DecisionModel to decide on")
    query = reduce(or_, (model.query for model in models))
    matching = yield from matching_events.read_matching(codec, query)
    states = tuple(_current(codec, model).state_after(matching.events) for model in models)
    return Decision(codec, states, AppendCondition(query, after=matching.marker))


def _current(codec: Codec, model: DecisionModel[State]) -> DecisionModel[State]:
    """A model that knows the events of its query by the types that they are read as."""
    query = codec.upcasting.current(model.query)
    return model if query == model.query else replace(model, query=query)


def finish(
    settings: append_input.AppendSettings,
    decision: Decision[Any],
    *,
    metadata: Mapping[str, Any] | None,
) -> Operation[list[AppendResult]]:
    """Append what was decided, if what it was decided on still holds."""
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
    """Attempt once to read, decide and append; see `EventStore.decide_with`."""
    decision = yield from begin(settings.codec, models)
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
                    part.stream,
                    part.events,
                    expected=part.expected,
                    channel=part.channel,
                    metadata=part.metadata,
                )
            else:
                decision.append(None, part)
    return (yield from finish(settings, decision, metadata=metadata))
