"""The chart: a small panel for each kind of work that has a place in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot  # the backend is chosen before

from .bench import Comparison
from .rounds import Result
from .table import amount

_COLORS = {"indelible": "#3f51b5", "peer": "#b0b7c3", "limit": "#ffffff"}
_EDGES = {"indelible": "#3f51b5", "peer": "#b0b7c3", "limit": "#8a93a3"}
_INK = "#2b3040"
_COLUMNS = 2


def draw(compared: Sequence[Comparison], file: Path) -> None:
    """Draw the panels; write them as SVG and PNG.

    Args:
        compared: those that have a title for it.
        file: the name without an ending.
    """
    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": _INK,
        "svg.hashsalt": "indelible",
    }
    with mpl.rc_context(style):
        bars = [len(_bars(each)) for each in compared]
        lines = [max(bars[at : at + _COLUMNS]) for at in range(0, len(bars), _COLUMNS)]
        figure, axes = pyplot.subplots(
            len(lines),
            _COLUMNS,
            figsize=(12, sum(lines) * 0.27 + 0.75 * len(lines) + 0.5),
            squeeze=False,
            gridspec_kw={"height_ratios": [line + 1.2 for line in lines]},
        )
        for place, ax in enumerate(axes.flat):
            if place < len(compared):
                _panel(ax, compared[place])
            else:
                ax.set_axis_off()
        figure.text(
            0.995, 0.004, "longer is better; filled: stores, outlined: limits of the same machine",
            ha="right", fontsize=8, color="#6b7280",
        )  # fmt: skip
        figure.tight_layout(pad=1.0, w_pad=2.5, h_pad=1.6)
        figure.savefig(file.with_suffix(".svg"), facecolor="white", metadata={"Date": None})
        figure.savefig(file.with_suffix(".png"), facecolor="white", dpi=130)
        pyplot.close(figure)


def _bars(compared: Comparison) -> list[Result]:
    found = [result for result in compared.results.values() if not result.failed]
    return sorted(found, key=lambda result: result.rate)


def _panel(ax: Any, compared: Comparison) -> None:
    bars = _bars(compared)
    longest = max(result.rate for result in bars)
    ax.barh(
        range(len(bars)),
        [result.rate for result in bars],
        color=[_COLORS[result.kind] for result in bars],
        edgecolor=[_EDGES[result.kind] for result in bars],
        linewidth=1,
        height=0.66,
    )
    ax.set_yticks(range(len(bars)), [result.label for result in bars])
    for label, result in zip(ax.get_yticklabels(), bars, strict=True):
        label.set_fontsize(8)
        if result.kind == "indelible":
            label.set_fontweight("bold")
    for place, result in enumerate(bars):
        ax.text(result.rate + longest * 0.012, place, amount(result.rate), va="center", fontsize=8)
    ax.set_xlim(0, longest * 1.14)
    ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)
    ax.set_title(
        f"{compared.chart} ({compared.unit})", loc="left", fontsize=10, fontweight="bold", pad=5
    )
