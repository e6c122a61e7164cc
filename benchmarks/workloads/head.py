"""The cost of querying the head, with and without idle connections."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg

from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.harness.bench import Bench
from benchmarks.harness.rounds import Contender, Sample

_IDLE = 100


def run(bench: Bench) -> None:
    """Query with one caller; the idle connections are opened before each turn."""
    with bench.field() as field:
        place = field.place(INDELIBLE)
        driver = field.beside(INDELIBLE, place)
        field.fill(driver, place, {"events": 1_000, "length": 10})

        def crowded(seconds: float) -> Sample:
            with ExitStack() as idle:
                for _ in range(_IDLE):
                    idle.enter_context(psycopg.connect(place["url"], autocommit=True))
                return driver.sample("head", seconds=seconds)

        bench.compare(
            "head()",
            "calls/s",
            {
                "alone": field.contender_of(INDELIBLE, driver, "head", mode="no other connections"),
                "crowded": Contender(
                    INDELIBLE.name, f"{_IDLE} idle connections", INDELIBLE.kind, crowded
                ),
            },
            rounds=3,
        )
