"""Run the demo."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from indelible import EventStore, IndelibleError, InvalidInput
from indelible.store.connect import schema_of

from . import hindsight, projections, report
from .business import Business
from .generator import read_orders, write_orders


def main(
    *,
    orders: int = 3000,
    seed: int = 1,
    workers: int = 8,
    url: str | None = None,
    schema: str = "indelible_demo",
    file: Path | None = None,
    command: str = "indelible",
) -> None:
    """Run the demo, and print its results.

    Each run adds new orders to those of earlier runs.

    Args:
        orders: the number of orders to generate.
        seed: the seed of the random generator.
        workers: the number of threads.
        url: the database; by default `$INDELIBLE_URL`, else an embedded PostgreSQL.
        schema: the schema of the demo's store. It is created if it does not exist.
        file: a file of orders to use instead of generated ones.
        command: how the reader starts the command line, for the commands shown at the end.

    Raises:
        IndelibleError: the stored events do not match the orders.
    """
    console = Console()
    with (
        Business(url, schema, workers) as business,
        tempfile.TemporaryDirectory(prefix="indelible-demo-") as folder,
        _progress(console) as progress,
    ):
        if file is None:
            file = Path(folder) / "orders.ndjson"
            write_orders(file, orders=orders, seed=seed)
            console.print(f"Made up {orders:,} orders.", highlight=False)
        before = business.orders.stats().events
        started = time.perf_counter()
        lines = list(read_orders(file))
        placed = list(
            progress.track(
                business.place_all(lines), total=len(lines), description="Placing orders"
            )
        )
        waiting = progress.add_task("Creating a delivery for each order", total=None)
        business.wait_for_deliveries(placed)
        progress.update(waiting, total=len(placed), completed=len(placed))
        outcomes = list(
            progress.track(
                business.deliver_all(placed), total=len(placed), description="Delivering"
            )
        )
        seconds = time.perf_counter() - started
        events = business.orders.stats().events - before
        report.channels(console, business.orders)
        report.group(console, business.deliveries)
        report.run(console, outcomes, events, seconds)
        if outcomes:
            contested = next((one for one in outcomes if one.conflicts), outcomes[0])
            report.history(console, business, contested)
        delivered = next((one for one in outcomes if not one.is_canceled), None)
        if delivered is not None:
            hindsight.tell(console, business, delivered.delivery_id)
        agrees = projections.tell(console, business.deliveries, url, schema)
        checked = progress.track(outcomes, description="Checking each order against its events")
        agrees = report.check(console, business, lines, checked) and agrees
    report.commands(console, command, url, schema)
    if not agrees:
        raise IndelibleError("the stored events do not match the orders: please report this bug")


def fill(url: str | None, schema: str | None, *, orders: int = 300, seed: int = 1) -> int:
    """Process orders without a report, so that a store has events to look at.

    Args:
        url: the database, as for `connect`.
        schema: the schema of the store, as for `connect`. It is created if it does not exist.
        orders: the number of orders to generate.
        seed: the seed of the random generator.

    Returns:
        The number of events of the store.

    Raises:
        InvalidInput: the store has events already.
    """
    with EventStore.connect(url, schema=schema, migrate=True) as store:
        if found := store.stats().events:
            raise InvalidInput(
                f"the store has {found:,} events, and the demo fills an empty store only: leave out"
                " --demo, or choose another --schema"
            )
    with (
        Business(url, schema_of(schema), workers=4) as business,
        tempfile.TemporaryDirectory(prefix="indelible-demo-") as folder,
    ):
        file = Path(folder) / "orders.ndjson"
        write_orders(file, orders=orders, seed=seed)
        placed = list(business.place_all(list(read_orders(file))))
        business.wait_for_deliveries(placed)
        for _ in business.deliver_all(placed):
            pass
        return business.orders.stats().events


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<38}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
