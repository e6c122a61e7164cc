"""What is loaded and decided on: a decider, or a class of aggregates, seen as one."""

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
    """A decider, as the operations use it.

    Attributes:
        changes_in_place: whether deciding changes the state that it is given: an aggregate evolves
            as it records.
        serializer: how its states are kept as snapshots; None where they are not.
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
        """The events that follow from a command, as `append` takes them, and what it returned."""
        decided = at_once(self._decide(command, state))
        if not isinstance(decided, list | tuple):
            raise InvalidInput(
                f"decide must return a list of events, an empty one for none, not {decided!r}"
            )
        return list(decided), None

    def with_changes(self, state: State, events: list[Any]) -> State:
        """The state after the events that it was decided to append."""
        for event in events:
            state = self.evolve(state, event)
        return state

    def stored(self, state: State, result: AppendResult) -> State:
        """Note what was stored."""
        return state

    def at_version(self, state: State, version: int) -> None:
        """Note at which version a state is that has been loaded."""


class AggregateAdapter(DeciderAdapter[Aggregate[Any]]):
    """A class of aggregates: its commands are functions that are called with the aggregate."""

    changes_in_place = True

    def __init__(self, aggregate: type[Aggregate[Any]]) -> None:
        _check_class(aggregate)
        self._aggregate = aggregate
        self.evolve: Callable[[Aggregate[Any], Any], Aggregate[Any]] = _evolve
        self.initial_state: Callable[[], Aggregate[Any]] = self._make
        self.serializer: SnapshotSerializer | None = None
        if aggregate.snapshots is not None:
            # The hash of a class; mypy takes that of its instances.
            self.serializer = aggregate_serializer(aggregate.snapshots, aggregate, Aggregate)  # type: ignore[arg-type]

    def decide(self, codec: Codec, command: Any, state: Aggregate[Any]) -> tuple[list[Any], object]:
        """Call the command; give what the aggregate recorded, and what the command returned."""
        if not callable(command):
            raise InvalidInput(
                "the command for an aggregate is a function that is called with it, such as"
                f" `lambda delivery: delivery.cancel(reason)`, not {command!r}"
            )
        outcome = at_once(command(state))
        for value in outcome if isinstance(outcome, list | tuple) else [outcome]:
            if isinstance(value, NewEvent) or codec.is_event(value):
                kind = value if isinstance(value, type) else type(value)
                raise InvalidInput(
                    f"the command for an aggregate returned {kind.__qualname__}, and that"
                    " is not stored: let the aggregate record the event, self.record(…)"
                )
        return changes_of(codec, state), outcome

    def with_changes(self, state: Aggregate[Any], events: list[Any]) -> Aggregate[Any]:
        """The aggregate: it has evolved already."""
        return state

    def stored(self, state: Aggregate[Any], result: AppendResult) -> Aggregate[Any]:
        """Note what was stored."""
        state._recorded = ()
        state.version = result.version
        state.stored = result
        return state

    def at_version(self, state: Aggregate[Any], version: int) -> None:
        """Note at which version it is."""
        state.version = version

    def _make(self) -> Aggregate[Any]:
        try:
            return self._aggregate()
        except TypeError as error:
            raise InvalidInput(
                f"{self._aggregate.__qualname__} must be made without arguments, as it is before"
                f" its first event ({error}): what it must know, its first event tells"
            ) from error


def adapter_of(subject: object) -> DeciderAdapter[Any]:
    """See what is loaded as a decider.

    Raises:
        InvalidInput: it is neither a decider nor a class of aggregates.
    """
    if isinstance(subject, Decider):
        return DeciderAdapter(subject)
    if isinstance(subject, type) and issubclass(subject, Aggregate):
        return AggregateAdapter(subject)
    raise InvalidInput(f"give a Decider or a subclass of Aggregate, not {subject!r}")


def changes_of(codec: Codec, aggregate: Aggregate[Any]) -> list[Any]:
    """What an aggregate has recorded, as `append` takes it."""
    return [
        event if valid_at is None else NewEvent(codec.type_of(event), event, valid_at=valid_at)
        for event, valid_at in aggregate._recorded
    ]


def events_of(codec: Codec, changes: list[Any]) -> list[Any]:
    """The events of what is to be appended, as they will be read: as `evolve` takes them.

    Raises:
        UnregisteredEventClass, UnknownEventType, EncodingFailed: one could not be read again.
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
    """Refuse what would be wrong without a word: shared defaults, names that are taken."""
    for kind in aggregate.__mro__[: aggregate.__mro__.index(Aggregate)]:
        annotated = inspect.get_annotations(kind)
        for name in _OURS:
            if name in annotated or name in vars(kind):
                raise InvalidInput(
                    f"{kind.__qualname__}.{name} is a name that Aggregate has for itself: give it"
                    " another one"
                )
        for name, default in vars(kind).items():
            if name in annotated and isinstance(default, list | dict | set | bytearray):
                raise InvalidInput(
                    f"{kind.__qualname__}.{name} is one {type(default).__name__} that all its"
                    " aggregates would share: make it in __init__, or make the class a dataclass"
                    f" with field(default_factory={type(default).__name__})"
                )


def _evolve(aggregate: Aggregate[Any], event: Any) -> Aggregate[Any]:
    aggregate.evolve(event)
    return aggregate


def at_once(outcome: object) -> object:
    """Refuse what came of a function that must be waited for.

    Raises:
        InvalidInput: it is a coroutine.
    """
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise InvalidInput(
            "what decides must be a plain function: what it must wait for comes before it, and goes"
            " into the command"
        )
    return outcome
