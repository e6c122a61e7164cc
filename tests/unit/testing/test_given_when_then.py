"""Given, when, then: what is shown where something else came of a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import pytest

from indelible import Aggregate, InvalidInput, NewEvent
from indelible.testing.given_when_then import given

Command = TypeVar("Command")
State = TypeVar("State")
Event = TypeVar("Event")


@dataclass(frozen=True)
class Line:
    dish: str
    price: int


@dataclass(frozen=True)
class Opened:
    order: int
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Canceled:
    reason: str


@dataclass(frozen=True)
class Cancel:
    reason: str


class NotOpen(Exception):
    pass


@dataclass(frozen=True)
class Order:
    state: str = "none"
    seen: int = 0


def decide(command: Cancel, order: Order) -> list[Canceled]:
    if order.state == "canceled":
        return []
    if order.state != "open":
        raise NotOpen(f"an order that is {order.state} cannot be canceled")
    return [Canceled(command.reason)]


def evolve(order: Order, event: Opened | Canceled) -> Order:
    state = "open" if isinstance(event, Opened) else "canceled"
    return replace(order, state=state, seen=order.seen + 1)


@dataclass(frozen=True)
class Decider(Generic[Command, State, Event]):
    """A decider as this library's: the kit asks for the shape only."""

    decide: Callable[[Command, State], list[Event]]
    evolve: Callable[[State, Event], State]
    initial_state: Callable[[], State]


orders: Decider = Decider(decide, evolve, Order)


class Delivery:
    """An aggregate as this library's."""

    def __init__(self) -> None:
        self.version = -1
        self.changes: list = []
        self.state = "none"

    def evolve(self, event: Opened | Canceled) -> None:
        self.state = "open" if isinstance(event, Opened) else "canceled"

    def record(self, event: Opened | Canceled) -> None:
        self.evolve(event)
        self.changes.append(event)

    def cancel(self, reason: str) -> None:
        if self.state != "open":
            raise NotOpen(f"{self.state} at version {self.version}")
        self.record(Canceled(reason))


def test_what_a_decider_makes_of_a_command_is_checked() -> None:
    outcome = given(orders, Opened(1)).when(Cancel("late")).then(Canceled("late"))
    assert (outcome.events, outcome.state) == ([Canceled("late")], Order("canceled", seen=2))
    given(orders, Opened(1), Canceled("late")).when(Cancel("late")).then()
    error = given(orders).when(Cancel("late")).raises(NotOpen, match="is none cannot")
    assert isinstance(error, NotOpen)


def test_what_an_aggregate_makes_of_a_call_is_checked() -> None:
    late = given(Delivery, Opened(1)).when(lambda it: it.cancel("late")).then(Canceled("late"))
    assert late.state.state == "canceled"
    given(Delivery, Opened(1), Canceled("x")).when(lambda it: it.cancel("x")).raises(
        NotOpen, match="canceled at version 1"
    )


def test_the_fields_that_differ_are_shown() -> None:
    opening = Decider(
        lambda command, order: [Opened(1, (Line("soup", 7), Line("bread", 2)))], evolve, Order
    )
    with pytest.raises(AssertionError) as shown:
        given(opening).when(None).then(Opened(1, (Line("soup", 8), Line("bread", 2))), Canceled(""))
    assert str(shown.value).splitlines() == [
        "the new events differ: expected 2 events, got one event:",
        "--- expected",
        "+++ actual",
        " Opened",
        "     order = 1",
        "     lines = tuple",
        "         [0] = Line",
        "             dish = 'soup'",
        "-            price = 8",
        "+            price = 7",
        "         [1] = Line",
        "             dish = 'bread'",
        "             price = 2",
        "-Canceled",
        "-    reason = ''",
    ]


def test_an_error_in_the_place_of_events_is_shown_with_its_cause() -> None:
    with pytest.raises(AssertionError, match="NotOpen: an order that is none") as shown:
        given(orders).when(Cancel("late")).then(Canceled("late"))
    assert isinstance(shown.value.__cause__, NotOpen)


@pytest.mark.parametrize(
    ("error", "match", "says"),
    [
        (ValueError, None, "expected ValueError, but NotOpen: an order"),
        (NotOpen, "delivered", "expected NotOpen that matches 'delivered', but NotOpen: an order"),
    ],
)
def test_another_error_than_expected_is_shown(
    error: type[Exception], match: str | None, says: str
) -> None:
    with pytest.raises(AssertionError, match=says):
        given(orders).when(Cancel("late")).raises(error, match=match)


def test_events_in_the_place_of_an_error_are_shown() -> None:
    with pytest.raises(AssertionError, match=r"but got one event:\nCanceled\(reason='late'\)"):
        given(orders, Opened(1)).when(Cancel("late")).raises(NotOpen)


class Unequal:
    """No dataclass, and without __eq__."""

    def __repr__(self) -> str:
        return "Unequal()"


def test_events_that_look_the_same_and_are_not_equal_are_told_so() -> None:
    decider = Decider(lambda command, order: [Unequal()], lambda order, event: order, Order)
    with pytest.raises(AssertionError, match="__eq__"):
        given(decider).when(None).then(Unequal())


def test_of_a_new_event_all_but_the_id_counts_where_one_is_expected() -> None:
    def tagged(tag: str) -> NewEvent:
        return NewEvent("Canceled", Canceled("late"), tags=[tag])

    decider = Decider(lambda command, order: [tagged("a:1")], evolve, Order)
    given(decider).when(None).then(tagged("a:1"))
    given(decider).when(None).then(Canceled("late"))
    with pytest.raises(AssertionError, match=r"-        \[0\] = 'a:2'"):
        given(decider).when(None).then(tagged("a:2"))


def test_what_is_neither_decider_nor_aggregate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not 7"):
        given(7)  # type: ignore[call-overload]


@dataclass
class Wrong:
    """A class with default values that could be taken for an aggregate."""

    changes: list = field(default_factory=list)


def test_a_class_without_evolve_is_no_aggregate() -> None:
    with pytest.raises(InvalidInput, match="Wrong"):
        given(Wrong)  # type: ignore[type-var]


def test_an_error_in_what_has_happened_is_none_of_the_commands() -> None:
    class Broken(Delivery):
        def evolve(self, event: Opened | Canceled) -> None:
            raise NotOpen("in evolve")

    def broken(order: Order, event: Opened | Canceled) -> Order:
        raise NotOpen("in evolve")

    with pytest.raises(NotOpen, match="in evolve"):
        given(Decider(decide, broken, Order), Opened(1)).when(Cancel("late"))
    with pytest.raises(NotOpen, match="in evolve"):
        given(Broken, Opened(1)).when(lambda it: it.cancel("late"))


def test_what_decides_must_not_wait() -> None:
    async def decide_later(command: Cancel, order: Order) -> list[Canceled]:
        return []

    async def cancel_later(delivery: Delivery) -> None:
        delivery.cancel("late")

    deciding = given(Decider(decide_later, evolve, Order), Opened(1))  # type: ignore[arg-type]
    for outcome in (deciding.when(Cancel("late")), given(Delivery, Opened(1)).when(cancel_later)):
        outcome.raises(InvalidInput, match="plain function")
        with pytest.raises(AssertionError, match="plain function"):
            outcome.then()


def test_what_a_store_would_refuse_is_refused() -> None:
    class Shared(Aggregate[Opened]):
        orders: list[int] = []  # noqa: RUF012 - as it should not be

    with pytest.raises(InvalidInput, match="all aggregates would share"):
        given(Shared)
