"""The pricing service: prices with a valid time, recorded in advance.

A price is a fact with a valid time. The Black Friday discount and its end are recorded weeks
before they hold, so that no job has to switch them on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import assert_never

from indelible import Aggregate, EventStore

CHANNEL = "pricing"


@dataclass(frozen=True)
class DishPriced:
    price: Decimal


@dataclass(frozen=True)
class DiscountSet:
    name: str
    percent: int


PriceEvent = DishPriced | DiscountSet


class Dish(Aggregate[PriceEvent]):
    """A dish and its price."""

    full_price: Decimal | None = None
    percent: int = 0

    @property
    def price(self) -> Decimal | None:
        return None if self.full_price is None else self.full_price * (100 - self.percent) / 100

    def set_price(self, price: Decimal) -> None:
        self.record(DishPriced(price))

    def announce(self, discount: DiscountSet, begins: datetime) -> None:
        """Record a discount for the day that starts at `begins`."""
        self.record(discount, valid_at=begins)
        ends = DiscountSet(f"end of {discount.name}", 0)
        self.record(ends, valid_at=begins + timedelta(days=1))

    def evolve(self, event: PriceEvent) -> None:
        match event:
            case DishPriced(price):
                self.full_price = price
            case DiscountSet(percent=percent):
                self.percent = percent
            case _:
                assert_never(event)


def price_at(
    store: EventStore, stream: str, moment: datetime, known: datetime | None = None
) -> Decimal | None:
    """Return the price of a dish at a time, as known at another time; None if it had no price."""
    return store.load(stream, Dish, valid_at=moment, as_of=known).price


def black_friday(after: datetime) -> datetime:
    """Return the first Black Friday (the day after November's fourth Thursday) after a time."""
    for year in (after.year, after.year + 1):
        november = datetime(year, 11, 1, tzinfo=UTC)
        fourth_thursday = november + timedelta(days=(3 - november.weekday()) % 7 + 21)
        if fourth_thursday + timedelta(days=1) > after:
            return fourth_thursday + timedelta(days=1)
    raise AssertionError("every year has one")
