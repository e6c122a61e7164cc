"""The tables at the end, and the check of the stored events against the orders."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from indelible import EventStore

from . import delivery, ordering
from .business import Business, Outcome
from .dispatch import GROUP
from .generator import OrderLine


def channels(console: Console, store: EventStore) -> None:
    table = Table(title="\nAll events in the store, by service", title_justify="left")
    table.add_column("Service (channel)")
    table.add_column("Streams", justify="right")
    table.add_column("Events", justify="right")
    for channel in store.stats().channels:
        table.add_row(channel.channel, f"{channel.streams:,}", f"{channel.events:,}")
    console.print(table)


def group(console: Console, store: EventStore) -> None:
    found = store.group(GROUP).info()
    _facts(
        console,
        "The delivery service reacts to new orders",
        ("Consumer group", found.name),
        ("Processed up to position", f"{found.checkpoint:,}"),
        ("Events still to process", f"{found.lag_events:,}"),
        ("Parked events (failed too often)", f"{found.parked:,}"),
    )


def run(console: Console, outcomes: Sequence[Outcome], events: int, seconds: float) -> None:
    contested = [outcome for outcome in outcomes if outcome.course == "contested"]
    conflicts = sum(outcome.conflicts for outcome in contested)
    _facts(
        console,
        "This run",
        ("Orders", f"{len(outcomes):,}"),
        ("Orders canceled", f"{sum(outcome.is_canceled for outcome in outcomes):,}"),
        ("Events appended", f"{events:,}"),
        ("Seconds", f"{seconds:.1f}"),
        ("Events per second, with all reads and rules", f"{events / seconds:,.0f}"),
        ("Deliveries that two threads changed at once", f"{len(contested):,}"),
        ("Conflicts (WrongExpectedVersion)", f"{conflicts:,}"),
        ("Conflicts resolved by deciding again", f"{conflicts:,}"),
    )


def history(console: Console, business: Business, outcome: Outcome) -> None:
    stream = delivery.stream_of(outcome.delivery_id)
    table = Table(title=f"\nStream {stream}", title_justify="left")
    table.add_column("Version", justify="right")
    table.add_column("Position in the log", justify="right")
    table.add_column("Recorded at")
    table.add_column("Event")
    for event in business.deliveries.read(stream):
        table.add_row(
            str(event.version),
            f"{event.position:,}",
            f"{event.recorded_at:%H:%M:%S.%f}"[:-3],
            Text(_words(event.type)),
        )
    console.print(table)


def check(
    console: Console,
    business: Business,
    lines: Sequence[OrderLine],
    outcomes: Iterable[Outcome],
) -> bool:
    """Rebuild every order from its events, and compare it with the file and the outcome."""
    count = wrong = 0
    total = tips = Decimal(0)
    for outcome in outcomes:
        order = business.orders.load(ordering.stream_of(outcome.order_id), ordering.orders).state
        shipment = business.deliveries.load(
            delivery.stream_of(outcome.delivery_id), delivery.Delivery
        )
        count += 1
        total += order.total
        tips += order.tip
        canceled = shipment.state is delivery.State.CANCELED
        wrong += (canceled, order.is_canceled) != (outcome.is_canceled, outcome.is_canceled)
    of_file = sum((item.price * item.quantity for line in lines for item in line.items), Decimal(0))
    tips_of_file = sum((line.tip for line in lines if line.tip is not None), Decimal(0))
    agrees = (count, total, tips, wrong) == (len(lines), of_file, tips_of_file, 0)
    table = Table(title="\nCheck of every order", title_justify="left", caption_justify="left")
    table.add_column("")
    table.add_column("Rebuilt from events", justify="right")
    table.add_column("As made up", justify="right")
    table.add_row("Orders", f"{count:,}", f"{len(lines):,}")
    table.add_row("Sum of the orders", f"{total:,.2f}", f"{of_file:,.2f}")
    table.add_row("Sum of the tips", f"{tips:,.2f}", f"{tips_of_file:,.2f}")
    table.add_row("Orders with another outcome", f"{wrong:,}", "0")
    table.caption = "Everything matches." if agrees else "There are DIFFERENCES."
    console.print(table)
    return agrees


def commands(console: Console, command: str, url: str | None, schema: str) -> None:
    """Show commands that read what the demo has stored."""
    options = f" --schema {shlex.quote(schema)}"
    note = ""
    if url is not None and url != os.environ.get("INDELIBLE_URL"):
        if "password=" in url or urlsplit(url).password:
            note = " (add the same --url to each)"
        else:
            options += f" --url {shlex.quote(url)}"
    console.print(f"\nTo explore the events, run{note}:", highlight=False)
    for arguments in ("streams list", "log --backwards --limit 10", "groups list"):
        console.print(f"  {command} {arguments}{options}", **_LITERALLY)
    console.print("\nTo look at them in a browser, run this and open the address:", highlight=False)
    console.print(f"  {command} serve {_APPLICATION}{options}", **_LITERALLY)


_APPLICATION = "indelible.examples.food_delivery"
_LITERALLY: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


def _facts(console: Console, title: str, *facts: tuple[str, str]) -> None:
    table = Table(title=f"\n{title}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for fact in facts:
        table.add_row(*fact)
    console.print(table)


def _words(event_type: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", event_type).capitalize()
