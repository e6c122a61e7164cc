"""The delivery service: what happens to a delivery, and the rules of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from uuid import UUID, uuid5

from indelible import EventStore, NewEvent, WrongExpectedVersion

CHANNEL = "delivery"


@dataclass(frozen=True)
class DeliveryCreated:
    delivery_id: UUID
    order_id: UUID
    address: str


@dataclass(frozen=True)
class DeliveryAssigned:
    courier: str


@dataclass(frozen=True)
class DeliveryPrepared:
    kitchen: str


@dataclass(frozen=True)
class DeliveryPickedUp:
    courier: str


@dataclass(frozen=True)
class DeliveryDelivered:
    received_by: str


@dataclass(frozen=True)
class DeliveryTimeCorrected:
    """It was delivered at the valid time of this event, and not when it was told."""

    reason: str


@dataclass(frozen=True)
class DeliveryCanceled:
    reason: str


DeliveryEvent = (
    DeliveryCreated
    | DeliveryAssigned
    | DeliveryPrepared
    | DeliveryPickedUp
    | DeliveryDelivered
    | DeliveryTimeCorrected
    | DeliveryCanceled
)


class State(Enum):
    MISSING = "missing"
    OPEN = "open"
    PICKED_UP = "picked up"
    DELIVERED = "delivered"
    CANCELED = "canceled"


class DeliveryRule(Exception):
    """What was asked for is against the rules of a delivery."""


@dataclass
class Delivery:
    """A delivery, as its events tell it: methods check the rules and collect what happens."""

    delivery_id: UUID
    version: int = -1
    changes: list[DeliveryEvent] = field(default_factory=list)
    state: State = State.MISSING
    courier: str | None = None
    is_prepared: bool = False

    def create(self, order_id: UUID, address: str) -> None:
        if self.state is not State.MISSING:
            raise DeliveryRule("a delivery is created once")
        self._happen(DeliveryCreated(self.delivery_id, order_id, address))

    def assign(self, courier: str) -> None:
        self._must_be(State.OPEN, "be assigned")
        self._happen(DeliveryAssigned(courier))

    def prepare(self, kitchen: str) -> None:
        self._must_be(State.OPEN, "be prepared")
        if self.is_prepared:
            raise DeliveryRule("the food is prepared already")
        self._happen(DeliveryPrepared(kitchen))

    def pick_up(self) -> None:
        self._must_be(State.OPEN, "be picked up")
        if self.courier is None:
            raise DeliveryRule("nobody is assigned to pick it up")
        if not self.is_prepared:
            raise DeliveryRule("the food is not prepared yet")
        self._happen(DeliveryPickedUp(self.courier))

    def deliver(self, received_by: str) -> None:
        self._must_be(State.PICKED_UP, "be delivered")
        self._happen(DeliveryDelivered(received_by))

    def cancel(self, reason: str) -> None:
        if self.state is State.DELIVERED:
            raise DeliveryRule("nobody cancels a delivered delivery")
        if self.state is not State.PICKED_UP:
            self._must_be(State.OPEN, "be canceled")
        self._happen(DeliveryCanceled(reason))

    def _must_be(self, state: State, to: str) -> None:
        if self.state is not state:
            raise DeliveryRule(f"a delivery that is {self.state.value} cannot {to}")

    def _happen(self, event: DeliveryEvent) -> None:
        self.changes.append(event)
        self.apply(event)

    def apply(self, event: DeliveryEvent) -> None:
        match event:
            case DeliveryCreated():
                self.state = State.OPEN
            case DeliveryAssigned(courier=courier):
                self.courier = courier
            case DeliveryPrepared():
                self.is_prepared = True
            case DeliveryPickedUp():
                self.state = State.PICKED_UP
            case DeliveryDelivered() | DeliveryTimeCorrected():
                self.state = State.DELIVERED
            case DeliveryCanceled():
                self.state = State.CANCELED


def id_for(order_id: UUID) -> UUID:
    """The id of the delivery of an order: the same whoever asks, and however often."""
    return uuid5(order_id, "delivery")


def stream_of(delivery_id: UUID) -> str:
    return f"delivery-{delivery_id}"


def load(store: EventStore, delivery_id: UUID) -> Delivery:
    """Rebuild a delivery from its events."""
    delivery = Delivery(delivery_id)
    for event in store.read(stream_of(delivery_id)):
        delivery.apply(event.data)
        delivery.version = event.version
    return delivery


def save(store: EventStore, delivery: Delivery) -> None:
    """Append what has happened to a delivery since it was loaded."""
    result = store.append(
        stream_of(delivery.delivery_id), delivery.changes, expected=delivery.version
    )
    delivery.version = result.version
    delivery.changes.clear()


def delivered_at(
    store: EventStore, delivery_id: UUID, known: datetime | None = None
) -> datetime | None:
    """When it was delivered, by what was known at a moment; None where it was not yet told."""
    found = None
    for event in store.read(stream_of(delivery_id), as_of=known):
        if isinstance(event.data, DeliveryDelivered | DeliveryTimeCorrected):
            found = event.valid_at  # of two that tell, the one recorded later knows better
    return found


def correct_time(store: EventStore, delivery_id: UUID, moment: datetime, reason: str) -> datetime:
    """Record that it was delivered at another time than was told; return when that was recorded."""
    delivery = load(store, delivery_id)
    if delivery.state is not State.DELIVERED:
        raise DeliveryRule("only what was delivered has a time of delivery")
    correction = NewEvent("DeliveryTimeCorrected", DeliveryTimeCorrected(reason), valid_at=moment)
    result = store.append(stream_of(delivery_id), correction, expected=delivery.version)
    return result.recorded_at


def change(
    store: EventStore, delivery_id: UUID, decide: Callable[[Delivery], None]
) -> tuple[Delivery, int]:
    """Load a delivery, decide, and append; after a conflict load and decide anew.

    Returns:
        The delivery, and how many conflicts were met on the way.
    """
    conflicts = 0
    while True:
        delivery = load(store, delivery_id)
        decide(delivery)
        try:
            save(store, delivery)
        except WrongExpectedVersion:
            conflicts += 1
        else:
            return delivery, conflicts
