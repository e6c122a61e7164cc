"""The chart: a small panel for each comparison with a chart title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot  # the backend must be set before this import

from .table import amount

_FILLS = {"indelible": "#3f51b5", "peer": "#b0b7c3", "limit": "#ffffff"}
_EDGES = {"indelible": "#3f51b5", "peer": "#b0b7c3", "limit": "#8a93a3"}
_INK = "#2b3040"
_COLUMNS = 2

Bar = Mapping[str, Any]


def draw(comparisons: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw the panels; write them as SVG and PNG.

    Args:
        comparisons: the comparisons in the format of the file of results.
        file: the file name without its extension.
    """
    charted = [each for each in comparisons if each["chart"]]
    if not charted:
        return
    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": _INK,
        "svg.hashsalt": "indelible",
    }
    with mpl.rc_context(style):
        bars = [len(_bars(each)) for each in charted]
        heights = [max(bars[at : at + _COLUMNS]) + 1.2 for at in range(0, len(bars), _COLUMNS)]
        figure, axes = pyplot.subplots(
            len(heights),
            _COLUMNS,
            figsize=(12, sum(heights) * 0.27 + 0.5 * len(heights) + 0.4),
            squeeze=False,
            gridspec_kw={"height_ratios": heights},
        )
        for place, ax in enumerate(axes.flat):
            if place < len(charted):
                _panel(ax, charted[place])
            else:
                ax.set_axis_off()
        figure.tight_layout(pad=1.0, w_pad=2.0, h_pad=1.6, rect=(0, 0.02, 1, 1))
        figure.text(
            0.99, 0.008, "longer is better · filled: stores · outlined: limits of the same machine",
            ha="right", fontsize=8, color="#6b7280",
        )  # fmt: skip
        figure.savefig(file.with_suffix(".svg"), facecolor="white", metadata={"Date": None})
        figure.savefig(file.with_suffix(".png"), facecolor="white", dpi=130)
        pyplot.close(figure)


def _bars(comparison: Mapping[str, Any]) -> list[Bar]:
    found = [result for result in comparison["results"] if "failed" not in result]
    return sorted(found, key=lambda result: float(result["per_second"]))


def _panel(ax: Any, comparison: Mapping[str, Any]) -> None:
    bars = _bars(comparison)
    longest = bars[-1]["per_second"]
    places = range(len(bars))
    ax.barh(
        places,
        [bar["per_second"] for bar in bars],
        color=[_FILLS[bar["kind"]] for bar in bars],
        edgecolor=[_EDGES[bar["kind"]] for bar in bars],
        linewidth=1,
        height=0.66,
    )
    ax.set_yticks(places, [", ".join(filter(None, (bar["name"], bar["mode"]))) for bar in bars])
    for label, bar in zip(ax.get_yticklabels(), bars, strict=True):
        label.set_fontsize(8)
        label.set_fontweight("bold" if bar["kind"] == "indelible" else "normal")
    for place, bar in zip(places, bars, strict=True):
        unit = f" {comparison['unit']}" if bar is bars[-1] else ""
        told = amount(bar["per_second"]) + unit
        ax.text(bar["per_second"] + longest * 0.012, place, told, va="center", fontsize=8)
    ax.set_xlim(0, longest * 1.42)
    ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "bottom", "left"]].set_visible(False)
    ax.set_title(comparison["chart"], loc="left", fontsize=10, fontweight="bold", pad=5)
