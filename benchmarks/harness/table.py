"""The final table: work, both sides, ratio, budget, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .budgets import Budget

COLUMNS = ("work", "Indelible", "peer", "limit", "ratio", "budget", "met?")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        figure: the figure to compare with the budget; None if there is none.
        note: the reason for a missing figure.
    """

    work: str
    indelible: str = ""
    peer: str = ""
    limit: str = ""
    ratio: float | None = None
    budget: Budget | None = None
    figure: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the budget is met; None without a budget or a figure."""
        if self.budget is None or self.figure is None:
            return None
        return self.budget.holds(self.figure)

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the columns."""
        verdict = "" if self.met is None else "yes" if self.met else "NO"
        return (
            self.work,
            self.indelible,
            self.peer,
            self.limit,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.budget is None else str(self.budget),
            self.note or verdict,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the row for the file of results."""
        found = asdict(self)
        found["budget"] = None if self.budget is None else str(self.budget)
        return found | {"met": self.met}


def lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of all rows; texts that repeat the row above are empty."""
    found = []
    above = Row("")
    for row in rows:
        cells = list(row.cells)
        if row.work == above.work:
            cells[0] = ""
            cells[1] = "" if row.indelible == above.indelible else row.indelible
        found.append(tuple(cells))
        above = row
    return found


def markdown(rows: Sequence[Row]) -> str:
    """Write the table as Markdown."""
    written = ["| " + " | ".join(COLUMNS) + " |", "| --- | --- | --- | --- | ---: | ---: | --- |"]
    written.extend(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in lines(rows)
    )
    return "\n".join(written) + "\n"


def verdict(rows: Sequence[Row]) -> str:
    """Return a line with the number of budgets that are met."""
    held = [row for row in rows if row.met is not None]
    missed = [row for row in held if not row.met]
    unmeasured = sum(row.budget is not None and row.met is None for row in rows)
    text = f"{len(held) - len(missed)} of {len(held)} budgets met"
    if unmeasured:
        text += f", {unmeasured} not measured"
    return text


def amount(value: float) -> str:
    """Format a figure with its significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
