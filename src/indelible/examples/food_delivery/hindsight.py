"""Bitemporal queries: the same questions, with the knowledge of three different times."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from rich.console import Console
from rich.table import Table

from indelible import Aggregate

from . import delivery, pricing
from .business import Business


def tell(console: Console, business: Business, delivery_id: UUID) -> None:
    """Announce a discount and correct a delivery time, then query as of before and after each.

    Args:
        console: where to print.
        business: the services.
        delivery_id: a completed delivery.
    """
    stream = f"dish-{uuid4()}"
    with business.prices.writing(pricing.Dish, stream) as dish:
        dish.set_price(Decimal("10.90"))
    today = _recorded(dish)

    friday = pricing.black_friday(today + timedelta(weeks=2))
    with business.prices.writing(pricing.Dish, stream) as dish:
        dish.announce(pricing.DiscountSet("Black Friday", 20), friday)

    told_at = delivery.delivered_at(business.deliveries, delivery_id)
    assert told_at is not None  # noqa: S101
    delivered_in = delivery.stream_of(delivery_id)
    with business.deliveries.writing(delivery.Delivery, delivered_in) as shipment:
        shipment.correct_time(told_at - timedelta(minutes=12), "her phone was offline")

    moments = [
        ("before the discount was known", today),
        ("after it was announced", _recorded(dish)),
        ("after the time was corrected", _recorded(shipment)),
    ]
    table = Table(
        title="\nThe same questions, as of three moments (bitemporal)",
        title_justify="left",
        caption="A discount was announced for one day. Then the courier corrected the time.",
        caption_justify="left",
    )
    table.add_column("What was known")
    table.add_column("Price\ntoday", justify="right")
    table.add_column(f"Price on\n{friday:%Y-%m-%d}", justify="right")
    table.add_column("Price the\nday after", justify="right")
    table.add_column("Delivered\nat", justify="right")
    for name, known in moments:
        table.add_row(
            name,
            *(
                f"{pricing.price_at(business.prices, stream, day, known):.2f}"
                for day in (today, friday, friday + timedelta(days=1))
            ),
            _clock(delivery.delivered_at(business.deliveries, delivery_id, known)),
        )
    console.print(table)


def _recorded(aggregate: Aggregate[Any]) -> datetime:
    assert aggregate.stored is not None  # noqa: S101
    return aggregate.stored.recorded_at


def _clock(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%H:%M:%S}"
