"""The benchmarks: that they still run, and that what they say of a budget is right.

What they measure is no test's business; the peers are not installed here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import correctness, ours, reads, report, size
from benchmarks.harness import (
    Bound,
    Budget,
    Comparison,
    Result,
    Role,
    Work,
    compare,
    in_tasks,
)
from benchmarks.machine import Bench
from benchmarks.peers import limits
from indelible import EventStore, NewEvent


@pytest.fixture
def bench(server_url: str, tmp_path: Path) -> Bench:
    return Bench(url=server_url, folder=tmp_path, rounds=2, seconds=0.05, is_quick=True)


def result(name: str, role: Role, *rates: float, p50: float = 1.0) -> Result:
    return Result(name, role, list(rates), {"p50": p50})


def test_a_budget_is_met_by_the_ratio_of_the_medians() -> None:
    work = Work("w", "events/s", (), (Budget("slow", 3.0), Budget("fast", 0.5)), (Bound(50, 2.0),))
    comparison = Comparison(
        work,
        [
            result("Indelible", "indelible", 1.0, 300.0, 900.0),
            result("Indelible, otherwise", "indelible", 5.0),
            result("slow", "peer", 100.0),
            result("fast", "limit", 601.0),
        ],
        {"other": "is not here"},
    )
    figures = [size.Figure("bytes", "450 B", "peer 400 B", 450 / 400, 1.0)]

    rows = report.verdicts([comparison], figures)

    assert [(row.work, row.ratio, row.budget, row.met) for row in rows] == [
        ("w", "3.00 ×", "≥ 3 ×", "yes"),
        ("w", "0.50 ×", "≥ 0.5 ×", "NO"),
        ("w", "", "", ""),
        ("w, p50", "", "≤ 2 ms", "yes"),
        ("bytes", "1.12 ×", "≤ 1 ×", "NO"),
    ]
    assert "not run: other: is not here" in rows[2].against


def test_tasks_lose_no_operation() -> None:
    async def act(writer: int, times: int) -> int:
        await asyncio.sleep(0)
        return 1

    turn = asyncio.run(in_tasks(20, 0.05, act))

    assert turn.operations == len(turn.latencies) > 20


def test_a_comparison_runs(bench: Bench) -> None:
    work = Work(
        "append", "events/s", (ours.in_one_thread(), ours.tasks(8), limits.bare_insert(clients=2))
    )
    console = Console(record=True, width=150)

    comparison = compare(work, bench)
    report.show_comparison(comparison, console)

    assert all(result.rate > 0 for result in comparison.results)
    assert "Indelible, 8 tasks" in console.export_text()


def test_a_filled_store_is_one_that_the_library_made(bench: Bench) -> None:
    reads.fill(bench, "bench_filled", streams=10, events=1_000)
    with EventStore.connect(bench.url, schema="bench_filled") as store:
        assert [event.version for event in store.read("order-3")] == [*range(100)]
        assert store.append("order-3", NewEvent("Happened", {}), expected=99).version == 100
        assert store.head() == 1_001
        assert store.stats().events == 1_001


@pytest.mark.parametrize("make", [correctness.Indelible, correctness.AfterTheLast])
def test_the_correctness_bench_tells_who_loses_events(
    bench: Bench, make: type[correctness.Indelible] | type[correctness.AfterTheLast]
) -> None:
    store = make(bench)
    found = correctness.judge(store, 600)
    store.close()
    assert found.stored > 200
    if make is correctness.Indelible:
        assert (found.lost, found.doubled, found.out_of_order) == (0, 0, 0)
    else:
        assert found.lost > 0
