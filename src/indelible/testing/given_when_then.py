"""Given, when, then: test the rules of a domain object without a store."""

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
    """The protocol of a decider: `indelible.Decider`, or any object with these functions."""

    @property
    def decide(self) -> Callable[[Command, State], Any]:
        """Take a command and the state; return the new events."""

    @property
    def evolve(self) -> Callable[[State, Any], State]:
        """Take the state and an event; return the new state."""

    @property
    def initial_state(self) -> Callable[[], State]:
        """Return the state before the first event."""


class AggregateLike(Protocol):
    """The protocol of an aggregate: `indelible.Aggregate`, or a class with these members."""

    version: int

    @property
    def changes(self) -> Sequence[Any]:
        """The recorded events, in order."""

    def evolve(self, event: Any, /) -> Any:
        """Apply an event to the state."""


class Given(Generic[Order]):
    """A domain object with a history of events; see `given`."""

    def __init__(
        self, begin: Callable[[], Any], decide: Callable[[Order, Any], tuple[list[Any], Any]]
    ) -> None:
        self._begin = begin
        self._decide = decide

    def when(self, command: Order, /) -> Outcome:
        """Run a command.

        Args:
            command: for a decider a command; for an aggregate a function that calls its methods.

        Returns:
            The outcome. Check it with `then` or `raises`.
        """
        # Outside the try: an error in the history is not an error of the command.
        state = self._begin()
        try:
            events, state = self._decide(command, state)
        except Exception as error:
            return Outcome([], None, error)
        return Outcome(events, state, None)


class Outcome:
    """The outcome of a command. Check it with `then` or `raises`.

    Attributes:
        events: the new events.
        state: the state after them, or the aggregate; None if an error was raised.
        error: the error that was raised, or None.
    """

    def __init__(self, events: list[Any], state: Any, error: Exception | None) -> None:
        self.events = events
        self.state = state
        self.error = error

    def then(self, *events: Any) -> Outcome:
        """Check that the command gave exactly these events, in this order.

        Without arguments, check that it gave no events. If a new event is wrapped in `NewEvent`
        but plain data is expected, only the data is compared.

        Args:
            events: the expected events.

        Returns:
            The outcome itself, for further checks.

        Raises:
            AssertionError: the events differ, or an error was raised. The message shows the
                fields that differ.
        """
        if self.error is not None:
            raise AssertionError(
                f"expected {_count(events)}, but {shown(self.error)} was raised"
            ) from self.error
        if found := difference(events, self.events):
            raise AssertionError(
                f"the new events differ: expected {_count(events)}, got {_count(self.events)}:\n"
                + found
            )
        return self

    def raises(self, error: type[Raised], *, match: str | None = None) -> Raised:
        """Check that the command raised an error of a class.

        Args:
            error: the class.
            match: a regular expression to search for in the text of the error.

        Returns:
            The error.

        Raises:
            AssertionError: no error or another error was raised, or its text does not match.
        """
        expected = error.__qualname__ + (f" that matches {match!r}" if match else "")
        if self.error is None:
            events = "\n".join(shown(event) for event in self.events)
            raise AssertionError(
                f"expected {expected}, but got {_count(self.events)}:\n{events}".rstrip(":\n")
            )
        if not isinstance(self.error, error) or (match and not re.search(match, str(self.error))):
            raise AssertionError(
                f"expected {expected}, but {shown(self.error)} was raised"
            ) from self.error
        return self.error


@overload
def given(subject: DeciderLike[Order, State], /, *events: Any) -> Given[Order]: ...
@overload
def given(subject: type[Subject], /, *events: Any) -> Given[Callable[[Subject], object]]: ...
def given(subject: Any, /, *events: Any) -> Given[Any]:
    """Set up a domain object with a history of events, to test a command.

    Args:
        subject: a decider, or an aggregate class, which is called without arguments.
        events: the events of the history, in order.

    Returns:
        The domain object. Run a command on it with `when`.

    Raises:
        InvalidInput: `subject` is neither, or a store would reject it.

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
        adapter_of(subject)  # rejects what a store rejects
    if all(callable(getattr(subject, name, None)) for name in _OF_A_DECIDER):
        return Given(
            lambda: _folded(subject, events),
            lambda command, state: _decide(subject, state, command),
        )
    if isinstance(subject, type) and callable(getattr(subject, "evolve", None)):
        return Given(lambda: _made(subject, events), _act)
    raise InvalidInput(
        "given() takes a decider (with decide, evolve and initial_state) or an aggregate class"
        f" (with evolve), not {subject!r}"
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
            f"decide must return a list of events (empty for no events), not {decided!r}"
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
