"""The ordering service: the rules of an order, as a decider.

A command is a request; an event is a fact. `decide` returns the events that follow from a command.
`evolve` applies an event to the order. Both are plain functions, so tests need no store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from indelible import Decider

CHANNEL = "ordering"


@dataclass(frozen=True)
class Item:
    name: str
    quantity: int
    price: Decimal


# Commands


@dataclass(frozen=True)
class CreateOrder:
    order_id: UUID
    customer: str
    address: str
    restaurant: str
    items: tuple[Item, ...]
    ordered_at: datetime


@dataclass(frozen=True)
class TipCourier:
    amount: Decimal


@dataclass(frozen=True)
class CancelOrder:
    reason: str


OrderCommand = CreateOrder | TipCourier | CancelOrder


# Events


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


# State


@dataclass(frozen=True)
class Order:
    total: Decimal = Decimal(0)
    tip: Decimal = Decimal(0)
    is_created: bool = False
    is_canceled: bool = False


class OrderRule(Exception):
    """A command breaks a rule of orders."""


def decide(command: OrderCommand, order: Order) -> list[OrderEvent]:
    match command:
        case CreateOrder() if order.is_created:
            raise OrderRule("the order already exists")
        case CreateOrder(items=()):
            raise OrderRule("an order must have at least one item")
        case CreateOrder(order_id, customer, address, restaurant, items, ordered_at):
            total = sum((item.price * item.quantity for item in items), Decimal(0))
            return [OrderCreated(order_id, customer, address, restaurant, items, total, ordered_at)]
        case TipCourier() if order.is_canceled:
            raise OrderRule("a canceled order cannot be tipped")
        case TipCourier(amount) if amount <= 0:
            raise OrderRule("a tip must be more than 0")
        case TipCourier(amount):
            return [OrderTipped(amount)]
        case CancelOrder() if order.is_canceled:
            raise OrderRule("the order is already canceled")
        case CancelOrder(reason):
            return [OrderCanceled(reason)]
        case _:
            assert_never(command)


def evolve(order: Order, event: OrderEvent) -> Order:
    match event:
        case OrderCreated(total=total):
            return replace(order, total=total, is_created=True)
        case OrderTipped(amount):
            return replace(order, tip=order.tip + amount)
        case OrderCanceled():
            return replace(order, is_canceled=True)
        case _:
            assert_never(event)


orders = Decider(decide, evolve, Order)


def stream_of(order_id: UUID) -> str:
    return f"order-{order_id}"
