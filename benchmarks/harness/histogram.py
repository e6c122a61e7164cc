"""Latencies as HDR histograms: percentiles have three significant digits; rounds can be added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

PERCENTILES = (50.0, 95.0, 99.0, 99.9)

_LONGEST_US = 120_000_000


class Latencies:
    """The durations of operations, in microseconds."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_US, 3)

    def add(self, microseconds: Iterable[int]) -> None:
        """Add durations."""
        for value, count in Counter(microseconds).items():
            self._histogram.record_value(min(max(value, 1), _LONGEST_US), count)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def milliseconds(self, percentile: float) -> float:
        """Return a percentile in milliseconds."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000

    def percentiles(self) -> dict[str, float]:
        """Return the percentiles and the maximum in milliseconds."""
        found = {f"p{percentile:g}": self.milliseconds(percentile) for percentile in PERCENTILES}
        return found | {"max": float(self._histogram.get_max_value()) / 1000}

    def encoded(self) -> str:
        """Return the histogram in the compressed format of HDR libraries."""
        found = self._histogram.encode()
        return found.decode() if isinstance(found, bytes) else str(found)
