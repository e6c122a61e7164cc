"""The conclusions of benchmarks from given figures; the figures themselves are not tested."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks.harness.budgets import at_least, at_most
from benchmarks.harness.findings import compare
from benchmarks.harness.profile import Profile, spent_by
from benchmarks.harness.table import Row, amount, lines, markdown, verdict


@pytest.mark.parametrize(
    ("budget", "figure", "is_met"),
    [
        (at_least(3), 3.0, True),
        (at_least(3), 2.999, False),
        (at_most(1.2), 1.2, True),
        (at_most(1.2), 1.201, False),
    ],
)
def test_a_budget_is_met_at_its_bound_and_missed_a_little_beyond(
    budget: object, figure: float, is_met: bool
) -> None:
    row = Row("work", budget=budget, figure=figure)

    assert row.met is is_met
    assert row.cells[-1] == ("yes" if is_met else "NO")


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    row = Row("bulk import", budget=at_least(0.6), note="Indelible: not there yet")

    assert row.met is None
    assert row.cells[-1] == "Indelible: not there yet"
    assert verdict([row]) == "0 of 0 budgets met, 1 not measured"


def test_the_verdict_counts_rows_with_a_budget() -> None:
    rows = [
        Row("a", budget=at_least(3), figure=4.0),
        Row("b", budget=at_least(3), figure=2.0),
        Row("c", ratio=0.1),
    ]

    assert verdict(rows) == "1 of 2 budgets met"


def test_the_table_says_the_work_once_and_each_side_in_its_column() -> None:
    rows = [
        Row("one client", "3,000", peer="other: 1,000", ratio=3.0, budget=at_least(3), figure=3.0),
        Row("one client", "3,000", limit="pgbench: 4,000", ratio=0.75),
        Row("two clients", "3,000", peer="a|b: 1"),
    ]

    assert lines(rows)[1] == ("", "", "", "pgbench: 4,000", "0.75", "", "")
    assert markdown(rows).splitlines()[2:] == [
        "| one client | 3,000 | other: 1,000 |  | 3.00 | ≥ 3 | yes |",
        "|  |  |  | pgbench: 4,000 | 0.75 |  |  |",
        "| two clients | 3,000 | a\\|b: 1 |  |  |  |  |",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (1234567.0, "1,234,567")]
)
def test_an_amount_has_the_digits_that_it_is_worth(value: float, text: str) -> None:
    assert amount(value) == text


def test_events_lost_doubled_turned_round_and_made_up_are_each_counted() -> None:
    committed = [("a", 0), ("a", 1), ("a", 2), ("b", 0)]

    clean = compare(committed, [("a", 0), ("b", 0), ("a", 1), ("a", 2)], undone=3)
    broken = compare(committed, [("a", 0), ("a", 2), ("a", 1), ("a", 1), ("c", 9)])

    assert clean.is_clean
    assert (clean.committed, clean.undone) == (4, 3)
    assert not broken.is_clean
    assert broken.lost == 1  # b 0
    assert broken.doubled == 1
    assert broken.out_of_order == 2  # a 1, twice after a 2
    assert broken.never_committed == 1


def test_contenders_take_turns_and_the_ratio_is_that_of_a_round() -> None:
    pytest.importorskip("hdrh", reason="make bench-quick installs it")
    from benchmarks.harness.rounds import Contender, Sample, alternate

    turns: list[str] = []

    def contender(name: str, rates: list[int]) -> Contender:
        measured = iter([1, *rates])  # the first turn warms up, and does not count

        def measure(seconds: float) -> Sample:
            turns.append(name)
            return Sample(next(measured), 1.0, [1000, 2000])

        return Contender(name, "", "peer", measure)

    # A minute in which everything is ten times slower changes no ratio.
    fast, slow = alternate(
        [contender("fast", [200, 20, 200]), contender("slow", [100, 10, 100])], rounds=3, seconds=1
    )

    assert turns == ["fast", "slow", "fast", "slow", "slow", "fast", "fast", "slow"]
    assert fast.ratio_to(slow) == 2.0
    assert [sample.operations for sample in fast.samples] == [200, 20, 200]
    assert len(fast.latencies) == 6
    assert fast.latencies.percentiles()["p50"] == pytest.approx(1, rel=0.01)


def test_a_peer_that_fails_is_out_and_indelible_failing_is_an_error() -> None:
    pytest.importorskip("hdrh", reason="make bench-quick installs it")
    from benchmarks.harness.rounds import Contender, Sample, alternate

    def fail(seconds: float) -> Sample:
        raise RuntimeError("out of order")

    fine = Contender("fine", "", "limit", lambda seconds: Sample(1, 1.0))

    _, peer = alternate([fine, Contender("peer", "", "peer", fail)], rounds=2, seconds=1)

    assert peer.failed == "RuntimeError: out of order"
    with pytest.raises(RuntimeError, match="out of order"):
        alternate([fine, Contender("ours", "", "indelible", fail)], rounds=2, seconds=1)


def test_a_profile_has_its_figures_to_the_right() -> None:
    profile = Profile("Costs", ("work", "store", "µs"), [("one client", "other", "1,000")])

    assert profile.markdown().splitlines() == [
        "**Costs**",
        "",
        "| work | store | µs |",
        "| --- | --- | ---: |",
        "| one client | other | 1,000 |",
    ]


def test_what_a_process_spends_is_seen() -> None:
    before = spent_by([os.getpid()])
    begun = time.process_time()
    while time.process_time() - begun < 0.1:
        pass

    spent = spent_by([os.getpid()]) - before

    # The kernel estimates its own part by ticks.
    assert 0.05 < spent.processor < 10
    assert 0 <= spent.kernel <= spent.processor
