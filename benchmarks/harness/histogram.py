"""Latencies as HDR histograms: percentiles are right to three digits, and rounds add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

PERCENTILES = (50.0, 95.0, 99.0, 99.9)

_LONGEST_US = 120_000_000


class Latencies:
    """How long operations took, in microseconds."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_US, 3)

    def add(self, microseconds: Iterable[int]) -> None:
        """Add what was measured."""
        for value, count in Counter(microseconds).items():
            self._histogram.record_value(min(max(value, 1), _LONGEST_US), count)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def milliseconds(self, percentile: float) -> float:
        """Give a percentile in milliseconds."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000

    def percentiles(self) -> dict[str, float]:
        """Give the percentiles in milliseconds, and the longest."""
        found = {f"p{percentile:g}": self.milliseconds(percentile) for percentile in PERCENTILES}
        return found | {"max": float(self._histogram.get_max_value()) / 1000}

    def encoded(self) -> str:
        """The whole histogram, compressed, as other HDR libraries read it."""
        found = self._histogram.encode()
        return found.decode() if isinstance(found, bytes) else str(found)
