"""Adapters that give deciders and aggregate classes the same interface."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from indelible.core.validation import validate_name
from indelible.errors import InvalidInput
from indelible.events import AppendResult, NewEvent
from indelible.serialization.codec import Codec

from .aggregate import Aggregate
from .decider import Decider
from .snapshots import SnapshotSerializer, aggregate_serializer, decider_serializer

State = TypeVar("State")


class DeciderAdapter(Generic[State]):
    """The interface of a decider for the operations.

    Attributes:
        changes_in_place: whether `decide` changes the state that it is given. An aggregate does,
            because it evolves when it records an event.
        serializer: the serializer for snapshots of its states; None without snapshots.
    """

    changes_in_place = False

    def __init__(self, decider: Decider[Any, State, Any]) -> None:
        self._decide = decider.decide
        self.evolve: Callable[[State, Any], State] = decider.evolve
        self.initial_state: Callable[[], State] = decider.initial_state
        self.serializer: SnapshotSerializer | None = None
        if decider.snapshots is not None:
            self.serializer = decider_serializer(
                decider.snapshots, decider.evolve, decider.initial_state
            )

    def decide(self, codec: Codec, command: Any, state: State) -> tuple[list[Any], object]:
        """Return the events that follow from a command, and None as its return value.

        Raises:
            InvalidInput: `decide` did not return a list.
        """
        decided = at_once(self._decide(command, state))
        if not isinstance(decided, list | tuple):
            raise InvalidInput(
                f"decide must return a list of events (empty for no events), not {decided!r}"
            )
        return list(decided), None

    def with_changes(self, state: State, events: list[Any]) -> State:
        """Return the state after the new events."""
        for event in events:
            state = self.evolve(state, event)
        return state

    def stored(self, state: State, result: AppendResult) -> State:
        """Return the state after its new events were stored."""
        return state

    def at_version(self, state: State, version: int) -> None:
        """Set the version of a loaded state, if the state has one."""


class AggregateAdapter(DeciderAdapter[Aggregate[Any]]):
    """The same interface for an aggregate class. A command is a function of the aggregate."""

    changes_in_place = True

    def __init__(self, aggregate: type[Aggregate[Any]]) -> None:
        _check_class(aggregate)
        self._aggregate = aggregate
        self.evolve: Callable[[Aggregate[Any], Any], Aggregate[Any]] = _evolve
        self.initial_state: Callable[[], Aggregate[Any]] = self._make
        self.serializer: SnapshotSerializer | None = None
        if aggregate.snapshots is not None:
            # The cache hashes the class; mypy checks __hash__ of its instances.
            self.serializer = aggregate_serializer(aggregate.snapshots, aggregate, Aggregate)  # type: ignore[arg-type]

    def decide(self, codec: Codec, command: Any, state: Aggregate[Any]) -> tuple[list[Any], object]:
        """Call the command; return the events that the aggregate recorded, and its return value.

        Raises:
            InvalidInput: the command cannot be called, or it returned an event.
        """
        if not callable(command):
            raise InvalidInput(
                "the command for an aggregate must be a function that is called with it, such as"
                f" `lambda delivery: delivery.cancel(reason)`, not {command!r}"
            )
        outcome = at_once(command(state))
        for value in outcome if isinstance(outcome, list | tuple) else [outcome]:
            if isinstance(value, NewEvent) or codec.is_event(value):
                kind = value if isinstance(value, type) else type(value)
                raise InvalidInput(
                    f"the command for an aggregate returned the event {kind.__qualname__}, but only"
                    " recorded events are stored: call self.record(…) in the aggregate"
                )
        return changes_of(codec, state), outcome

    def with_changes(self, state: Aggregate[Any], events: list[Any]) -> Aggregate[Any]:
        """Return the aggregate, which has evolved already."""
        return state

    def stored(self, state: Aggregate[Any], result: AppendResult) -> Aggregate[Any]:
        """Clear the recorded events, and set the version and the append result."""
        state._recorded = ()
        state.version = result.version
        state.stored = result
        return state

    def at_version(self, state: Aggregate[Any], version: int) -> None:
        """Set the version of a loaded aggregate."""
        state.version = version

    def _make(self) -> Aggregate[Any]:
        try:
            return self._aggregate()
        except TypeError as error:
            raise InvalidInput(
                f"{self._aggregate.__qualname__} must be callable without arguments ({error}): put"
                " initial data into its first event"
            ) from error


def adapter_of(subject: object) -> DeciderAdapter[Any]:
    """Return the adapter of a decider or aggregate class.

    Raises:
        InvalidInput: it is neither a `Decider` nor a subclass of `Aggregate`.
    """
    if isinstance(subject, Decider):
        return DeciderAdapter(subject)
    if isinstance(subject, type) and issubclass(subject, Aggregate):
        return AggregateAdapter(subject)
    raise InvalidInput(f"decider must be a Decider or a subclass of Aggregate, not {subject!r}")


def changes_of(codec: Codec, aggregate: Aggregate[Any]) -> list[Any]:
    """Return the events that an aggregate has recorded, in the form that `append` takes."""
    return [
        event if valid_at is None else NewEvent(codec.type_of(event), event, valid_at=valid_at)
        for event, valid_at in aggregate._recorded
    ]


def events_of(codec: Codec, changes: list[Any]) -> list[Any]:
    """Return new events as they will be read back, which is the form that `evolve` takes.

    Raises:
        UnregisteredEventClass, UnknownEventType, EncodingFailed: an event could not be read back.
    """
    events: list[Any] = []
    for change in changes:
        if isinstance(change, NewEvent):
            events += codec.as_decoded(validate_name("event type", change.type), change.data)
        else:
            codec.type_of(change)
            events.append(change)
    return events


_OURS = ("version", "stored", "changes", "record")


def _check_class(aggregate: type[Aggregate[Any]]) -> None:
    """Reject mistakes that would otherwise go unnoticed: mutable defaults and reserved names."""
    for kind in aggregate.__mro__[: aggregate.__mro__.index(Aggregate)]:
        annotated = inspect.get_annotations(kind)
        for name in _OURS:
            if name in annotated or name in vars(kind):
                raise InvalidInput(
                    f"{kind.__qualname__}.{name} cannot be used because Aggregate defines {name}:"
                    " rename it"
                )
        for name, default in vars(kind).items():
            if name in annotated and isinstance(default, list | dict | set | bytearray):
                raise InvalidInput(
                    f"{kind.__qualname__}.{name} is a {type(default).__name__} that all aggregates"
                    " would share: create it in __init__, or make the class a dataclass with"
                    f" field(default_factory={type(default).__name__})"
                )


def _evolve(aggregate: Aggregate[Any], event: Any) -> Aggregate[Any]:
    aggregate.evolve(event)
    return aggregate


def at_once(outcome: object) -> object:
    """Return the result of a function that must not be a coroutine function.

    Raises:
        InvalidInput: the result is a coroutine.
    """
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise InvalidInput(
            "decide and the methods of an aggregate must be plain functions, not coroutines: await"
            " first, and pass the results in the command"
        )
    return outcome
