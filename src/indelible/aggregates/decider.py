"""Deciders: the rules of a domain object as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from indelible.errors import InvalidInput
from indelible.events import NewEvent

from .snapshots import Snapshots

Command = TypeVar("Command")
State = TypeVar("State")
Event = TypeVar("Event")


@dataclass(frozen=True, slots=True)
class Decider(Generic[Command, State, Event]):
    """The rules of a domain object as three pure functions.

    The functions need no store, so you can test them without one (`indelible.testing.given`).

    Attributes:
        decide: takes a command and the state; returns a list of new events, which may be empty.
            It raises an error of your own to reject the command. Wrap an event in `NewEvent` to
            set its valid time, metadata or tags.
        evolve: takes the state and the next event; returns the new state.
        initial_state: returns the state before the first event. It can be a class whose fields
            have defaults.
        snapshots: when to store snapshots of the state, so that not all events are read again;
            None for never.

    Raises:
        InvalidInput: an argument is not a function, or the state cannot be stored as a snapshot.

    Example:
        ```python
        def decide(command: Withdraw, account: Account) -> list[Withdrawn]:
            if command.amount > account.balance:
                raise NotEnough(account.balance)
            return [Withdrawn(command.amount)]


        accounts = Decider(decide, evolve, Account)
        store.handle("account-3", accounts, Withdraw(20))
        ```
    """

    decide: Callable[[Command, State], Sequence[Event] | Sequence[NewEvent]]
    evolve: Callable[[State, Event], State]
    initial_state: Callable[[], State]
    snapshots: Snapshots | None = None

    def __post_init__(self) -> None:
        for name in ("decide", "evolve", "initial_state"):
            function = getattr(self, name)
            if not callable(function):
                raise InvalidInput(f"{name} of a decider must be a function, not {function!r}")
        if self.snapshots is not None and not isinstance(self.snapshots, Snapshots):
            raise InvalidInput(f"snapshots must be Snapshots, not {self.snapshots!r}")
