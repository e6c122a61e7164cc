"""`indelible demo`."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import arguments


def demo(
    *,
    orders: Annotated[int, typer.Option("--orders", metavar="N", help="Process N orders.")] = 3000,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Generate the orders from this seed.")
    ] = 1,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Use N threads for each service.")
    ] = 8,
    url: arguments.Url = None,
    schema: Annotated[
        str, typer.Option("--schema", metavar="SCHEMA", help="Use this schema for the demo.")
    ] = "indelible_demo",
) -> None:
    """Run the food delivery example: two services, one store, thousands of orders."""
    from indelible.examples.food_delivery.program import main

    main(orders=orders, seed=seed, workers=workers, url=url, schema=schema, command=invocation())


def invocation() -> str:
    """Return how to start this program again from the current folder."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{_program(sys.executable)} -m indelible"
    return _program(sys.argv[0])


def _program(path: str) -> str:
    program = Path(path).absolute()
    if (found := shutil.which(program.name)) and Path(found).absolute() == program:
        return program.name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))
