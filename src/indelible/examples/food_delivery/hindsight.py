"""The same questions, as of three moments: what was believed, and what turned out since."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from rich.console import Console
from rich.table import Table

from . import delivery, pricing
from .business import Business


def tell(console: Console, business: Business, delivery_id: UUID) -> None:
    """Announce a discount, correct the time of a delivery, and ask as of before and after each.

    Args:
        console: where to print.
        business: the services.
        delivery_id: a delivery that was delivered.
    """
    stream = f"dish-{uuid4()}"
    last = business.prices.append(stream, pricing.DishPriced(Decimal("10.90")), expected=-1)
    moments = [("before the discount was known", last.recorded_at)]

    friday = pricing.black_friday(last.recorded_at + timedelta(weeks=2))
    discount = pricing.DiscountSet("Black Friday", 20)
    pricing.announce(business.prices, stream, discount, friday, last.version)
    *_, announced = business.prices.read(stream)
    moments.append(("weeks ahead of the day", announced.recorded_at))

    told_at = delivery.delivered_at(business.deliveries, delivery_id)
    assert told_at is not None  # noqa: S101
    corrected = delivery.correct_time(
        business.deliveries, delivery_id, told_at - timedelta(minutes=12), "her phone was offline"
    )
    moments.append(("after a late correction", corrected))

    table = Table(title="The same questions, as of three moments", title_justify="left")
    table.add_column("asked as of")
    table.add_column("the dish today", justify="right")
    table.add_column(f"on {friday:%Y-%m-%d}", justify="right")
    table.add_column("and the day after", justify="right")
    table.add_column("it was delivered at", justify="right")
    for name, known in moments:
        table.add_row(
            name,
            *(
                f"{pricing.price_at(business.prices, stream, day, known):.2f}"
                for day in (last.recorded_at, friday, friday + timedelta(days=1))
            ),
            _clock(delivery.delivered_at(business.deliveries, delivery_id, known)),
        )
    console.print(table)


def _clock(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%H:%M:%S}"
