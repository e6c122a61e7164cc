"""What people see of a run: a table, JSON, Markdown, a chart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Comparison
from benchmarks.size import Figure

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Verdict:
    """A row of the last table: what Indelible was held against, and whether that is met."""

    work: str
    ours: str
    against: str
    ratio: str
    budget: str
    met: str


def verdicts(comparisons: Iterable[Comparison], figures: Iterable[Figure]) -> list[Verdict]:
    """Hold Indelible against its budgets, and otherwise against each peer and limit."""
    rows = []
    for comparison in comparisons:
        work, own = comparison.work, comparison.results[0]
        budgets = {budget.against: budget.at_least for budget in work.budgets}
        for other in comparison.results[1:]:
            if other.role == "indelible":
                continue
            ratio = own.rate / other.rate
            at_least = budgets.get(other.name)
            rows.append(
                Verdict(
                    work.name,
                    f"{own.rate:,.0f} {work.unit}",
                    f"{other.name} {other.rate:,.0f}",
                    f"{ratio:.2f} ×",
                    "" if at_least is None else f"≥ {at_least:g} ×",
                    "" if at_least is None else _met(ratio >= at_least),
                )
            )
        rows += [
            Verdict(work.name, own.name, f"not run: {name}: {reason}", "", "", "")
            for name, reason in comparison.absent.items()
        ]
        for bound in work.bounds:
            found = own.percentiles.get(f"p{bound.percentile:g}", float("nan"))
            rows.append(
                Verdict(
                    f"{work.name}, p{bound.percentile:g}",
                    f"{found:.2f} ms",
                    "",
                    "",
                    f"≤ {bound.milliseconds:g} ms",
                    _met(found <= bound.milliseconds),
                )
            )
    for figure in figures:
        rows.append(
            Verdict(
                figure.work,
                figure.ours,
                figure.against,
                f"{figure.ratio:.2f} ×" if figure.ratio else "",
                "" if figure.at_most is None else f"≤ {figure.at_most:g} ×",
                "" if figure.at_most is None else _met(figure.ratio <= figure.at_most),
            )
        )
    return rows


def _met(is_met: bool) -> str:
    return "yes" if is_met else "NO"


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print how all contenders did one kind of work."""
    work = comparison.work
    table = Table(title=work.name, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column(work.unit, justify="right")
    for percentile in ("p50", "p95", "p99", "p99.9"):
        table.add_column(f"{percentile} ms", justify="right")
    own = comparison.results[0].rate
    table.add_column(f"{comparison.results[0].name} is", justify="right")
    for result in comparison.results:
        table.add_row(
            result.name,
            f"{result.rate:,.0f}",
            *(
                f"{result.percentiles[name]:.3f}" if name in result.percentiles else ""
                for name in ("p50", "p95", "p99", "p99.9")
            ),
            f"{own / result.rate:.2f} ×",
        )
    for name, reason in comparison.absent.items():
        table.add_row(f"{name}: not run: {reason}")
    console.print(table, "")


def show_verdicts(rows: Sequence[Verdict], console: Console) -> None:
    """Print the last table."""
    table = Table(title="work · Indelible · against · ratio · budget · met?", box=None)
    for heading in ("work", "Indelible", "against", "ratio", "budget", "met?"):
        table.add_column(heading, justify="right" if heading in ("ratio", "budget") else "left")
    for row in rows:
        style = "red" if row.met == "NO" else "green" if row.met else None
        table.add_row(row.work, row.ours, row.against, row.ratio, row.budget, row.met, style=style)
    console.print(table)


def write(
    facts: dict[str, str],
    comparisons: Sequence[Comparison],
    figures: Sequence[Figure],
    rows: Sequence[Verdict],
) -> list[Path]:
    """Write JSON, Markdown and the chart; give their paths."""
    RESULTS.mkdir(exist_ok=True)
    results = {
        "facts": facts,
        "works": [
            {
                "work": comparison.work.name,
                "unit": comparison.work.unit,
                "contenders": [
                    {**asdict(result), "rate": result.rate} for result in comparison.results
                ],
                "not_run": comparison.absent,
            }
            for comparison in comparisons
        ],
        "figures": [asdict(figure) for figure in figures],
        "verdicts": [asdict(row) for row in rows],
    }
    written = [RESULTS / "results.json", RESULTS / "table.md"]
    written[0].write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    written[1].write_text(_markdown(facts, rows), "utf-8")
    return written + (_chart(comparisons) if comparisons else [])


def _markdown(facts: dict[str, str], rows: Sequence[Verdict]) -> str:
    lines = [
        "| work | Indelible | against | ratio | budget | met? |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.work} | {row.ours} | {row.against} | {row.ratio} | {row.budget} | {row.met} |"
            for row in rows
        ),
        "",
        "; ".join(f"{name} {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def _chart(comparisons: Sequence[Comparison]) -> list[Path]:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "indelible"  # so that the same figures are the same file
    from matplotlib import pyplot as plt

    colours = {"indelible": "#1b6ca8", "peer": "#c9c9c9", "limit": "#7d7d7d"}
    heights = [len(comparison.results) + 1.6 for comparison in comparisons]
    figure, panels = plt.subplots(
        len(comparisons),
        1,
        figsize=(9, 0.26 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for (panel,), comparison in zip(panels, comparisons, strict=True):
        results = comparison.results[::-1]
        bars = panel.barh(
            [result.name for result in results],
            [result.rate for result in results],
            color=[colours[result.role] for result in results],
        )
        panel.bar_label(bars, [f"{result.rate:,.0f}" for result in results], padding=3, fontsize=8)
        panel.set_title(
            f"{comparison.work.name} ({comparison.work.unit})",
            loc="left",
            fontsize=9,
            weight="bold",
        )
        panel.margins(x=0.12)
        panel.tick_params(labelsize=8, length=0)
        panel.xaxis.set_visible(False)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    paths = [RESULTS / "chart.svg", RESULTS / "chart.png"]
    figure.savefig(paths[0], metadata={"Date": None})
    figure.savefig(paths[1], dpi=110)
    plt.close(figure)
    return paths
