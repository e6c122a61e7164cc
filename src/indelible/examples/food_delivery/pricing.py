"""The pricing service: what a dish costs, known ahead; and what was believed of it when.

A price is a fact with a valid time: the Black Friday discount is recorded weeks before it holds,
and its end with it. Nobody has to remember to switch it on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from indelible import EventStore, NewEvent

CHANNEL = "pricing"


@dataclass(frozen=True)
class DishPriced:
    price: Decimal


@dataclass(frozen=True)
class DiscountSet:
    name: str
    percent: int


PriceEvent = DishPriced | DiscountSet


def set_price(store: EventStore, stream: str, price: Decimal, expected: int) -> int:
    """Record a price that holds from now on; return the stream's version."""
    return store.append(stream, DishPriced(price), expected=expected).version


def announce(
    store: EventStore, stream: str, discount: DiscountSet, begins: datetime, expected: int
) -> int:
    """Record a discount for the day that begins then; return the stream's version."""
    ends = DiscountSet(f"end of {discount.name}", 0)
    facts = [
        NewEvent("DiscountSet", discount, valid_at=begins),
        NewEvent("DiscountSet", ends, valid_at=begins + timedelta(days=1)),
    ]
    return store.append(stream, facts, expected=expected).version


def price_at(
    store: EventStore, stream: str, moment: datetime, known: datetime | None = None
) -> Decimal | None:
    """What a dish costs at a moment, by what was known at another; None where nothing was."""
    price, percent = None, 0
    for event in store.read(stream, valid_at=moment, as_of=known):
        match event.data:
            case DishPriced(price=set_to):
                price = set_to
            case DiscountSet(percent=set_to):
                percent = set_to
    return None if price is None else price * (100 - percent) / 100


def black_friday(after: datetime) -> datetime:
    """The first Black Friday (the day after the fourth Thursday of November) after a moment."""
    for year in (after.year, after.year + 1):
        november = datetime(year, 11, 1, tzinfo=UTC)
        fourth_thursday = november + timedelta(days=(3 - november.weekday()) % 7 + 21)
        if fourth_thursday + timedelta(days=1) > after:
            return fourth_thursday + timedelta(days=1)
    raise AssertionError("every year has one")
