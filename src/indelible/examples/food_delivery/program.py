"""Run the demo."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from indelible import IndelibleError

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
) -> None:
    """Run the demo and print the results.

    Each run adds new orders to those of earlier runs.

    Args:
        orders: the number of orders to generate.
        seed: the seed of the random generator.
        workers: the number of threads.
        url: the database; by default `$INDELIBLE_URL`, else the embedded PostgreSQL.
        schema: the schema of the demo's store. It is created if it does not exist.
        file: a file of orders to use instead of generated ones.

    Raises:
        IndelibleError: the stored events do not match the results.
    """
    console = Console()
    with (
        Business(url, schema, workers) as business,
        tempfile.TemporaryDirectory(prefix="indelible-demo-") as folder,
    ):
        if file is None:
            file = Path(folder) / "orders.ndjson"
            write_orders(file, orders=orders, seed=seed)
            console.print(f"Made {orders:,} orders", highlight=False)
        before = business.orders.stats().events
        started = time.perf_counter()
        lines = list(read_orders(file))
        with _progress(console) as progress:
            living = business.live_through(lines)
            outcomes = list(progress.track(living, total=len(lines), description="orders"))
        seconds = time.perf_counter() - started
        events = business.orders.stats().events - before
        report.channels(console, business.orders)
        report.group(console, business.deliveries)
        report.run(console, outcomes, events, seconds)
        if outcomes:
            told = next((one for one in outcomes if one.conflicts), outcomes[0])
            report.history(console, business, told)
        delivered = next((one for one in outcomes if not one.is_canceled), None)
        if delivered is not None:
            hindsight.tell(console, business, delivered.delivery_id)
        agrees = projections.tell(console, business.deliveries, url, schema)
        agrees = report.check(console, business, lines, outcomes) and agrees
    elsewhere = "" if url is None else ", each with the same --url"
    console.print(
        f"Look around: indelible streams list --schema {schema}, indelible log --schema {schema}"
        f" --backwards --limit 10, indelible groups list --schema {schema}{elsewhere}",
        highlight=False,
        soft_wrap=True,
    )
    if not agrees:
        raise IndelibleError("the stored events do not match the results: please report this bug")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
