"""A decider: the rules of a domain object as functions."""

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
    """The rules of a domain object: what follows from a command, and what an event makes of it.

    The three are plain functions that do nothing else, so they are tried without a store.

    Attributes:
        decide: takes a command and the state, and returns the events that follow, or an empty
            list; raises what it likes where the rules do not allow the command. Where they need
            more than themselves, such as a valid time of their own, `NewEvent` around each.
        evolve: takes the state and the next event, and returns the state after it.
        initial_state: makes the state before the first event; a class whose fields have defaults
            is one.
        snapshots: when the state is kept, so that not all events need be read again; None for
            never.

    Raises:
        InvalidInput: one of the three cannot be called, or the state cannot be kept.

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
