"""Print the tables at the end, and check the store against the file of orders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from indelible import EventStore

from . import delivery, ordering
from .business import Business, Outcome
from .dispatch import GROUP
from .generator import OrderLine


def channels(console: Console, store: EventStore) -> None:
    table = Table(title="Streams per channel", title_justify="left")
    table.add_column("channel")
    table.add_column("streams", justify="right")
    table.add_column("events", justify="right")
    for channel in store.stats().channels:
        table.add_row(channel.channel, f"{channel.streams:,}", f"{channel.events:,}")
    console.print(table)


def group(console: Console, store: EventStore) -> None:
    found = store.group(GROUP).info()
    table = Table(title="Delivery reacts to OrderCreated", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("consumer group", found.name)
    table.add_row("handled up to position", f"{found.checkpoint:,}")
    table.add_row("events behind", f"{found.lag_events:,}")
    table.add_row("parked", f"{found.parked:,}")
    console.print(table)


def run(console: Console, outcomes: Sequence[Outcome], events: int, seconds: float) -> None:
    contested = [outcome for outcome in outcomes if outcome.course == "contested"]
    table = Table(title="This run", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("orders", f"{len(outcomes):,}")
    table.add_row("events appended", f"{events:,}")
    table.add_row("seconds", f"{seconds:.1f}")
    table.add_row("events/s (with all reads and rules)", f"{events / seconds:,.0f}")
    table.add_row("deliveries contested by two threads", f"{len(contested):,}")
    conflicts = sum(outcome.conflicts for outcome in contested)
    table.add_row("conflicts met (WrongExpectedVersion)", f"{conflicts:,}")
    table.add_row("conflicts resolved (loaded, decided again)", f"{conflicts:,}")
    table.add_row("orders canceled", f"{sum(outcome.is_canceled for outcome in outcomes):,}")
    console.print(table)


def history(console: Console, business: Business, outcome: Outcome) -> None:
    stream = delivery.stream_of(outcome.delivery_id)
    table = Table(title=f"History of {stream}", title_justify="left")
    table.add_column("version", justify="right")
    table.add_column("position", justify="right")
    table.add_column("recorded")
    table.add_column("what happened")
    for event in business.deliveries.read(stream):
        table.add_row(
            str(event.version),
            str(event.position),
            f"{event.recorded_at:%H:%M:%S.%f}"[:-3],
            Text(_words(event.type)),
        )
    console.print(table)


def check(
    console: Console,
    business: Business,
    lines: Sequence[OrderLine],
    outcomes: Sequence[Outcome],
) -> bool:
    """Load all orders and deliveries, and compare them with the file and with the results."""
    total = tips = Decimal(0)
    wrong = 0
    for outcome in outcomes:
        order = business.orders.load(ordering.stream_of(outcome.order_id), ordering.orders).state
        shipment = business.deliveries.load(
            delivery.stream_of(outcome.delivery_id), delivery.Delivery
        )
        total += order.total
        tips += order.tip
        canceled = shipment.state is delivery.State.CANCELED
        wrong += (canceled, order.is_canceled) != (outcome.is_canceled, outcome.is_canceled)
    of_file = sum((item.price * item.quantity for line in lines for item in line.items), Decimal(0))
    tips_of_file = sum((line.tip for line in lines if line.tip is not None), Decimal(0))
    agrees = not wrong and total == of_file and tips == tips_of_file
    console.print(
        f"Rebuilt from events: {len(outcomes):,} orders over {total:,.2f} and {tips:,.2f} of tips"
        f" (the file: {of_file:,.2f} and {tips_of_file:,.2f}), {wrong} contradictions: "
        + ("all results match." if agrees else "the results do NOT match."),
        highlight=False,
        soft_wrap=True,
    )
    return agrees


def _words(event_type: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", event_type).capitalize()
