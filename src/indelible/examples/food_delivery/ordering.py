"""The ordering service: what happens to an order, and the rules of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from indelible import EventStore

CHANNEL = "ordering"


@dataclass(frozen=True)
class Item:
    name: str
    quantity: int
    price: Decimal


@dataclass(frozen=True)
class OrderCreated:
    order_id: UUID
    customer: str
    address: str
    restaurant: str
    items: tuple[Item, ...]
    total: Decimal
    ordered_at: datetime


@dataclass(frozen=True)
class OrderTipped:
    amount: Decimal


@dataclass(frozen=True)
class OrderCanceled:
    reason: str


OrderEvent = OrderCreated | OrderTipped | OrderCanceled


class OrderRule(Exception):
    """What was asked for is against the rules of an order."""


@dataclass
class Order:
    """An order, as its events tell it."""

    order_id: UUID
    version: int = -1
    changes: list[OrderEvent] = field(default_factory=list)
    total: Decimal = Decimal(0)
    tip: Decimal = Decimal(0)
    is_canceled: bool = False

    def create(
        self,
        customer: str,
        address: str,
        restaurant: str,
        items: tuple[Item, ...],
        ordered_at: datetime,
    ) -> None:
        if self.version >= 0 or self.changes:
            raise OrderRule("an order is created once")
        if not items:
            raise OrderRule("an order has at least one item")
        total = sum((item.price * item.quantity for item in items), Decimal(0))
        self._happen(
            OrderCreated(self.order_id, customer, address, restaurant, items, total, ordered_at)
        )

    def tip_courier(self, amount: Decimal) -> None:
        if self.is_canceled:
            raise OrderRule("nobody tips for a canceled order")
        if amount <= 0:
            raise OrderRule("a tip is more than nothing")
        self._happen(OrderTipped(amount))

    def cancel(self, reason: str) -> None:
        if self.is_canceled:
            raise OrderRule("the order is canceled already")
        self._happen(OrderCanceled(reason))

    def _happen(self, event: OrderEvent) -> None:
        self.changes.append(event)
        self.apply(event)

    def apply(self, event: OrderEvent) -> None:
        match event:
            case OrderCreated(total=total):
                self.total = total
            case OrderTipped(amount=amount):
                self.tip += amount
            case OrderCanceled():
                self.is_canceled = True


def stream_of(order_id: UUID) -> str:
    return f"order-{order_id}"


def load(store: EventStore, order_id: UUID) -> Order:
    """Rebuild an order from its events."""
    order = Order(order_id)
    for event in store.read(stream_of(order_id)):
        order.apply(event.data)
        order.version = event.version
    return order


def save(store: EventStore, order: Order) -> int:
    """Append what has happened to an order since it was loaded; return the last position."""
    result = store.append(stream_of(order.order_id), order.changes, expected=order.version)
    order.version = result.version
    order.changes.clear()
    return result.position
