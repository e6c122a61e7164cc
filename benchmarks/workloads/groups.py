"""A consumer group catches up, with one worker and with several; each worker is a process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from typing import Any

from benchmarks.competitors.indelible import GROUP, INDELIBLE
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench, Field
from benchmarks.harness.driver import Driver
from benchmarks.harness.rounds import Contender, Sample
from benchmarks.harness.table import Row, amount

_TIMEOUT = 120


def run(bench: Bench) -> None:
    """Compare it with a subscription, which has one reader and no acks."""
    events = bench.scale.followed
    numbers = count()
    with bench.field() as field:
        place = field.place(INDELIBLE)
        alone = field.beside(INDELIBLE, place)
        field.fill(alone, place, {"events": events, "length": 10})
        compared = bench.compare(
            f"a consumer group catches up {events:,} events",
            "events/s",
            {
                **{
                    str(workers): _workers(field, place, workers, events, numbers)
                    for workers in bench.scale.workers
                },
                "subscription": field.contender_of(
                    INDELIBLE, alone, "catch_up", mode="subscription", events=events
                ),
            },
            rounds=3,
        )
    for key, found in compared.results.items():
        if key != "subscription":
            bench.rows.append(
                Row(
                    work=f"a consumer group catches up, {found.mode} (events/s)",
                    indelible=amount(found.rate),
                    ratio=found.ratio_to(compared.results["subscription"]),
                    limit=f"a subscription: {amount(compared.results['subscription'].rate)}",
                    budget=budgets.GROUP_OF_ONE if key == "1" else None,
                    figure=found.rate,
                )
            )
    bench.rows_of(
        compared,
        "2",
        work="two workers over one",
        budgets={"1": budgets.GROUP_OF_TWO_OVER_ONE},
        against=("1",),
    )


def _workers(
    field: Field, place: Mapping[str, Any], workers: int, events: int, numbers: count[int]
) -> Contender:
    def measure(_seconds: float) -> Sample:
        group = f"catches-up-{next(numbers)}"
        with ExitStack() as stack:
            drivers = [
                stack.enter_context(field.apart(GROUP, place, {"group": group}))
                for _ in range(workers)
            ]
            for driver in drivers:
                driver.ask("open")
            begun = time.monotonic()
            for driver in drivers:
                driver.tell("follow", at_end=False)
            for driver in drivers:
                driver.answer()
            _wait(drivers, events, begun)
            taken = time.monotonic() - begun
            for driver in drivers:
                driver.ask("followed", events=0, patience=0)
        return Sample(events, taken)

    plural = "s" if workers > 1 else ""
    return Contender(GROUP.name, f"{workers} worker{plural}", GROUP.kind, measure)


def _wait(drivers: list[Driver], events: int, begun: float) -> None:
    while sum(driver.ask("followed_so_far")["events"] for driver in drivers) < events:
        if time.monotonic() > begun + _TIMEOUT:
            raise AssertionError(f"the group did not catch up within {_TIMEOUT} s")
        time.sleep(0.02)
