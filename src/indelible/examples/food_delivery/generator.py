"""Generate the file of orders for the demo. The same seed gives the same file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from .ordering import Item

Course = Literal["delivered", "canceled", "contested"]
"""The planned course of an order. Contested orders are canceled and picked up at the same time."""

_COURSES: tuple[Course, ...] = ("delivered", "canceled", "contested")
_NAMES = ("Ann", "Boris", "Chiara", "Deniz", "Emil", "Fatima", "Goran", "Hanna", "Ivo", "Jamila")
_FAMILIES = ("Becker", "Costa", "Dvořák", "Eriksen", "Fischer", "Georgiou", "Horvat", "İnce")
_STREETS = ("Elm Street", "Harbour Road", "Mill Lane", "Station Square", "Vineyard Walk")
_COURIERS = ("Kai", "Lena", "Milan", "Nadia", "Oskar", "Petra", "Quinn", "Rosa")
_MENUS = {
    "Bella Napoli": (("Margherita", "8.50"), ("Calzone", "10.90"), ("Tiramisù", "5.20")),
    "Golden Dragon": (("Spring rolls", "4.60"), ("Kung Pao", "11.80"), ("Fried rice", "7.40")),
    "Curry House": (("Samosa", "3.90"), ("Palak paneer", "12.30"), ("Mango lassi", "3.50")),
    "Corner Grill": (("Cheeseburger", "9.70"), ("Fries", "3.30"), ("Coleslaw", "2.80")),
}
_REASONS = ("changed my mind", "no driver", "closed kitchen", "wrong address")


class OrderLine(msgspec.Struct, frozen=True):
    """One line of the file."""

    customer: str
    address: str
    restaurant: str
    items: tuple[Item, ...]
    ordered_at: datetime
    courier: str
    course: Course
    reason: str
    tip: Decimal | None = None


def write_orders(path: Path, *, orders: int, seed: int) -> None:
    """Write a file of orders, one JSON object per line."""
    random = Random(seed)
    with path.open("wb") as file:
        for number in range(orders):
            file.write(msgspec.json.encode(_order(random, number)) + b"\n")


def read_orders(path: Path) -> Iterator[OrderLine]:
    """Read a file of orders."""
    decode = msgspec.json.Decoder(OrderLine).decode
    with path.open("rb") as file:
        for line in file:
            yield decode(line)


def _order(random: Random, number: int) -> OrderLine:
    restaurant = random.choice(sorted(_MENUS))
    dishes = random.sample(_MENUS[restaurant], k=random.randint(1, 3))
    course: Course = random.choices(_COURSES, weights=(85, 10, 5))[0]
    tips = course == "delivered" and random.random() < 0.3
    return OrderLine(
        customer=f"{random.choice(_NAMES)} {random.choice(_FAMILIES)}",
        address=f"{random.randint(1, 120)} {random.choice(_STREETS)}",
        restaurant=restaurant,
        items=tuple(Item(name, random.randint(1, 3), Decimal(price)) for name, price in dishes),
        ordered_at=datetime(2026, 11, 2, 17, tzinfo=UTC) + timedelta(seconds=7 * number),
        courier=random.choice(_COURIERS),
        course=course,
        reason=random.choice(_REASONS),
        tip=Decimal(random.randint(1, 9)) / 2 if tips else None,
    )
