"""Given, when, then: the rules of a domain object, tried without a store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from indelible.aggregates import Aggregate, Decider
from indelible.aggregates.adapter import adapter_of, at_once
from indelible.errors import InvalidInput
from indelible.events import NewEvent

from .diff import difference, shown

Command = TypeVar("Command", contravariant=True)
State = TypeVar("State")
Event = TypeVar("Event")
Raised = TypeVar("Raised", bound=BaseException)
Subject = TypeVar("Subject", bound="AggregateLike")
Order = TypeVar("Order")


class DeciderLike(Protocol[Command, State]):
    """What a decider is: `indelible.Decider`, or any object with these three functions."""

    @property
    def decide(self) -> Callable[[Command, State], Any]:
        """Take a command and the state, and return the events that follow."""

    @property
    def evolve(self) -> Callable[[State, Any], State]:
        """Take the state and an event, and return the state after it."""

    @property
    def initial_state(self) -> Callable[[], State]:
        """Make the state before the first event."""


class AggregateLike(Protocol):
    """What an aggregate is: a subclass of `indelible.Aggregate`, or a class with these members."""

    version: int

    @property
    def changes(self) -> Sequence[Any]:
        """The events that were recorded, in order."""

    def evolve(self, event: Any, /) -> Any:
        """Take in an event."""


class Given(Generic[Order]):
    """A domain object to which something has happened; see `given`."""

    def __init__(
        self, begin: Callable[[], Any], decide: Callable[[Order, Any], tuple[list[Any], Any]]
    ) -> None:
        self._begin = begin
        self._decide = decide

    def when(self, command: Order, /) -> Outcome:
        """Say what is done now.

        Args:
            command: for a decider a command; for an aggregate a function that calls its methods.
        """
        # Outside of what is caught: an error that the history raises is none of the command's.
        state = self._begin()
        try:
            events, state = self._decide(command, state)
        except Exception as error:
            return Outcome([], None, error)
        return Outcome(events, state, None)


class Outcome:
    """What came of a command: check it with `then` or `raises`.

    Attributes:
        events: the events that followed.
        state: the state after them; of an aggregate itself. None where an error was raised.
        error: the error that was raised, or None.
    """

    def __init__(self, events: list[Any], state: Any, error: Exception | None) -> None:
        self.events = events
        self.state = state
        self.error = error

    def then(self, *events: Any) -> Outcome:
        """Check that exactly these events followed, in this order; without any, that none did.

        A `NewEvent` around an event that followed counts only where one is expected.

        Raises:
            AssertionError: others did, or an error was raised; it shows the fields that differ.
        """
        if self.error is not None:
            raise AssertionError(
                f"expected {_count(events)}, and {shown(self.error)} was raised"
            ) from self.error
        if found := difference(events, self.events):
            raise AssertionError(
                f"expected {_count(events)}, and {_count(self.events)} followed:\n{found}"
            )
        return self

    def raises(self, error: type[Raised], *, match: str | None = None) -> Raised:
        """Check that an error of a class was raised.

        Args:
            error: the class.
            match: a regular expression that stands in the error's text.

        Returns:
            The error.

        Raises:
            AssertionError: events followed, or another error was raised, or it says something else.
        """
        expected = error.__qualname__ + (f" that says {match!r}" if match else "")
        if self.error is None:
            events = "\n".join(shown(event) for event in self.events)
            raise AssertionError(
                f"expected {expected}, and {_count(self.events)} followed:\n{events}".rstrip(":\n")
            )
        if not isinstance(self.error, error) or (match and not re.search(match, str(self.error))):
            raise AssertionError(
                f"expected {expected}, and {shown(self.error)} was raised"
            ) from self.error
        return self.error


@overload
def given(subject: DeciderLike[Order, State], /, *events: Any) -> Given[Order]: ...
@overload
def given(subject: type[Subject], /, *events: Any) -> Given[Callable[[Subject], object]]: ...
def given(subject: Any, /, *events: Any) -> Given[Any]:
    """Say what has happened to a domain object, to try what it makes of a command.

    Args:
        subject: a decider; or the class of an aggregate, which is made without arguments.
        events: what has happened, in order.

    Raises:
        InvalidInput: it is neither, or one that a store would refuse.

    Example:
        ```python
        given(deliveries, Booked("17")).when(Cancel("late")).then(Canceled("late"))
        given(deliveries, Canceled("late")).when(Cancel("late")).raises(NotOpen)
        given(deliveries).when(Cancel("late")).then()                       # nothing happens

        given(Delivery, Booked("17")).when(lambda it: it.cancel("late")).then(Canceled("late"))
        ```
    """
    if isinstance(subject, Decider) or (
        isinstance(subject, type) and issubclass(subject, Aggregate)
    ):
        adapter_of(subject)  # refuses what a store does
    if all(callable(getattr(subject, name, None)) for name in _OF_A_DECIDER):
        return Given(
            lambda: _folded(subject, events),
            lambda command, state: _decide(subject, state, command),
        )
    if isinstance(subject, type) and callable(getattr(subject, "evolve", None)):
        return Given(lambda: _made(subject, events), _act)
    raise InvalidInput(
        "given() takes a decider (with decide, evolve and initial_state) or the class of an"
        f" aggregate (with evolve), not {subject!r}"
    )


_OF_A_DECIDER = ("decide", "evolve", "initial_state")


def _folded(decider: DeciderLike[Any, Any], events: Sequence[Any]) -> Any:
    state = decider.initial_state()
    for event in events:
        state = decider.evolve(state, _plain(event))
    return state


def _decide(decider: DeciderLike[Any, Any], state: Any, command: Any) -> tuple[list[Any], Any]:
    decided = at_once(decider.decide(command, state))
    if isinstance(decider, Decider) and not isinstance(decided, list | tuple):
        raise InvalidInput(  # as handle does
            f"decide must return a list of events, an empty one for none, not {decided!r}"
        )
    followed = list(decided) if isinstance(decided, list | tuple) else [decided]
    for event in followed:
        state = decider.evolve(state, _plain(event))
    return followed, state


def _made(aggregate_class: type[AggregateLike], events: Sequence[Any]) -> AggregateLike:
    aggregate = aggregate_class()
    for event in events:
        aggregate.evolve(_plain(event))
    aggregate.version = len(events) - 1
    return aggregate


def _act(act: Callable[[Any], object], aggregate: AggregateLike) -> tuple[list[Any], Any]:
    at_once(act(aggregate))
    return list(aggregate.changes), aggregate


def _plain(event: Any) -> Any:
    return event.data if isinstance(event, NewEvent) else event


def _count(events: Sequence[Any]) -> str:
    match len(events):
        case 0:
            return "no event"
        case 1:
            return "one event"
        case count:
            return f"{count} events"
