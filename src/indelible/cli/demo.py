"""`indelible demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import arguments


def demo(
    *,
    orders: Annotated[
        int, typer.Option("--orders", help="How many orders to live through.")
    ] = 3000,
    seed: Annotated[int, typer.Option("--seed", help="What the orders are made from.")] = 1,
    workers: Annotated[int, typer.Option("--workers", help="Threads of each service.")] = 8,
    url: arguments.Url = None,
    schema: Annotated[
        str, typer.Option("--schema", help="The schema of the demo's store.")
    ] = "indelible_demo",
) -> None:
    """Run the food delivery example: two services, one store, thousands of orders."""
    from indelible.examples.food_delivery.program import main

    main(orders=orders, seed=seed, workers=workers, url=url, schema=schema)
