"""The delivery service: the rules of a delivery, as an aggregate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import assert_never
from uuid import UUID, uuid5

from indelible import Aggregate, EventStore

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
    """A correction: the valid time of this event is the true time of delivery."""

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
    """A command breaks a rule of deliveries."""


class Delivery(Aggregate[DeliveryEvent]):
    """A delivery. Its methods check the rules and record events."""

    state: State = State.MISSING
    courier: str | None = None
    is_prepared: bool = False

    def create(self, delivery_id: UUID, order_id: UUID, address: str) -> None:
        if self.state is not State.MISSING:
            raise DeliveryRule("the delivery already exists")
        self.record(DeliveryCreated(delivery_id, order_id, address))

    def assign(self, courier: str) -> None:
        self._must_be(State.OPEN, "be assigned")
        self.record(DeliveryAssigned(courier))

    def prepare(self, kitchen: str) -> None:
        self._must_be(State.OPEN, "be prepared")
        if self.is_prepared:
            raise DeliveryRule("the food is already prepared")
        self.record(DeliveryPrepared(kitchen))

    def pick_up(self) -> None:
        self._must_be(State.OPEN, "be picked up")
        if self.courier is None:
            raise DeliveryRule("a delivery without a courier cannot be picked up")
        if not self.is_prepared:
            raise DeliveryRule("the food is not prepared yet")
        self.record(DeliveryPickedUp(self.courier))

    def deliver(self, received_by: str) -> None:
        self._must_be(State.PICKED_UP, "be delivered")
        self.record(DeliveryDelivered(received_by))

    def correct_time(self, moment: datetime, reason: str) -> None:
        if self.state is not State.DELIVERED:
            raise DeliveryRule("only a completed delivery has a time of delivery")
        self.record(DeliveryTimeCorrected(reason), valid_at=moment)

    def cancel(self, reason: str) -> None:
        if self.state is State.DELIVERED:
            raise DeliveryRule("a completed delivery cannot be canceled")
        if self.state is not State.PICKED_UP:
            self._must_be(State.OPEN, "be canceled")
        self.record(DeliveryCanceled(reason))

    def _must_be(self, state: State, to: str) -> None:
        if self.state is not state:
            raise DeliveryRule(f"a delivery that is {self.state.value} cannot {to}")

    def evolve(self, event: DeliveryEvent) -> None:
        match event:
            case DeliveryCreated():
                self.state = State.OPEN
            case DeliveryAssigned(courier):
                self.courier = courier
            case DeliveryPrepared():
                self.is_prepared = True
            case DeliveryPickedUp():
                self.state = State.PICKED_UP
            case DeliveryDelivered() | DeliveryTimeCorrected():
                self.state = State.DELIVERED
            case DeliveryCanceled():
                self.state = State.CANCELED
            case _:
                assert_never(event)


def id_for(order_id: UUID) -> UUID:
    """Return the id of the delivery of an order. The same order always gives the same id."""
    return uuid5(order_id, "delivery")


def stream_of(delivery_id: UUID) -> str:
    return f"delivery-{delivery_id}"


def delivered_at(
    store: EventStore, delivery_id: UUID, known: datetime | None = None
) -> datetime | None:
    """Return the time of delivery, as known at a time; None if it was not recorded by then."""
    found = None
    for event in store.read(stream_of(delivery_id), as_of=known):
        if isinstance(event.data, DeliveryDelivered | DeliveryTimeCorrected):
            found = event.valid_at  # a later correction replaces it
    return found
