"""Measure contenders in rounds: each gets a turn per round, so that a slow minute affects all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .histogram import Latencies

Kind = Literal["indelible", "peer", "limit"]


class NotRun(Exception):
    """A contender cannot take part; the message is the reason."""


@dataclass(frozen=True)
class Sample:
    """The result of one turn.

    Attributes:
        operations: the number of operations: appends, events, loads.
        latencies: the latencies in microseconds, if single operations were timed.
        figures: other figures, such as conflicts.
    """

    operations: int
    seconds: float
    latencies: Sequence[int] = ()
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds


@dataclass(frozen=True)
class Contender:
    """One side of a comparison.

    Attributes:
        mode: the way to set it up and use it.
        measure: runs a turn of a number of seconds; fixed work ignores the seconds.
    """

    name: str
    mode: str
    kind: Kind
    measure: Callable[[float], Sample]


@dataclass
class Result:
    """All turns of one contender."""

    name: str
    mode: str
    kind: Kind
    samples: list[Sample] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)
    failed: str = ""

    @property
    def label(self) -> str:
        """The name and mode."""
        return ", ".join(filter(None, (self.name, self.mode)))

    def add(self, sample: Sample) -> None:
        """Add a turn."""
        self.samples.append(sample)
        self.latencies.add(sample.latencies)

    @property
    def rate(self) -> float:
        """Operations per second: the median of the rounds."""
        return statistics.median(sample.rate for sample in self.samples)

    def figure(self, name: str) -> float:
        """Return the median of another figure."""
        return statistics.median(sample.figures[name] for sample in self.samples)

    def ratio_to(self, other: Result) -> float:
        """Return the median of the ratios of the rounds: both sides ran in the same minute."""
        pairs = zip(self.samples, other.samples, strict=True)
        return statistics.median(mine.rate / theirs.rate for mine, theirs in pairs)

    def as_json(self) -> dict[str, Any]:
        """Return everything for the file of results."""
        if self.failed:
            return {"name": self.name, "mode": self.mode, "kind": self.kind, "failed": self.failed}
        figures = {name: self.figure(name) for name in self.samples[0].figures}
        found: dict[str, Any] = {
            "name": self.name,
            "mode": self.mode,
            "kind": self.kind,
            "per_second": self.rate,
            "rounds": [sample.rate for sample in self.samples],
            "operations": sum(sample.operations for sample in self.samples),
            "seconds": sum(sample.seconds for sample in self.samples),
        }
        if len(self.latencies):
            found["milliseconds"] = self.latencies.percentiles()
            found["hdr_histogram_us"] = self.latencies.encoded()
        return found | figures


def alternate(
    contenders: Sequence[Contender], *, rounds: int, seconds: float, warm_up: bool = True
) -> list[Result]:
    """Give every contender a turn in every round.

    Before the first round each gets a warm-up turn that does not count. Each round begins with
    another contender. A contender that fails is dropped, and its result has the reason. A failure
    of Indelible is an error.
    """
    results = [Result(each.name, each.mode, each.kind) for each in contenders]
    pairs = list(zip(contenders, results, strict=True))
    for number in range(-1 if warm_up else 0, rounds):
        first = max(number, 0) % len(pairs)
        for contender, result in pairs[first:] + pairs[:first]:
            if result.failed:
                continue
            try:
                sample = contender.measure(seconds if number >= 0 else min(seconds, 1.0))
            except Exception as error:
                if contender.kind == "indelible":
                    raise
                result.failed = f"{type(error).__name__}: {error}"
                continue
            if number >= 0:
                result.add(sample)
    return results
