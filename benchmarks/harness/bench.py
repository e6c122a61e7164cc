"""One run: its server, its comparisons and its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.competitors import Peer

from .budgets import Budget
from .driver import Driver, DriverFailed, python_driver
from .histogram import PERCENTILES
from .profile import Profile
from .rounds import Contender, NotRun, Result, Sample, alternate
from .scale import Scale
from .server import Server
from .table import Row, amount

_FIXED = frozenset({"scan", "catch_up", "import_lines"})
"""Commands with a fixed amount of work instead of a fixed time."""


@dataclass
class Comparison:
    """Contenders that were measured side by side.

    Attributes:
        unit: the unit of the rates: "appends/s".
        chart: its title in the chart, if it is shown there.
    """

    title: str
    unit: str
    results: dict[str, Result] = field(default_factory=dict)
    chart: str = ""

    def measured(self, key: str) -> Result | None:
        """Return the result of a contender; None if it did not take part or failed."""
        found = self.results.get(key)
        return None if found is None or found.failed else found

    def as_json(self) -> dict[str, Any]:
        """Return everything for the file of results."""
        return {
            "title": self.title,
            "unit": self.unit,
            "chart": self.chart,
            "results": [result.as_json() for result in self.results.values()],
        }


class Field:
    """The contenders of one comparison; each has its own place and driver while the block is open.

    `contender`, `filled` and `place_or_none` return None for a contender that does not take part.
    The reason is recorded.
    """

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self._bench = bench
        self._stack = stack

    def beside(
        self, peer: Peer, place: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> Driver:
        """Start a driver in an existing place."""
        return self._stack.enter_context(self.apart(peer, place, options))

    def apart(
        self, peer: Peer, place: Mapping[str, Any], options: Mapping[str, Any] | None = None
    ) -> Driver:
        """Start a driver that the caller closes."""
        command = python_driver(peer.client) if isinstance(peer.client, str) else list(peer.client)
        return Driver(command, {**place, **(options or {})})

    def place_or_none(self, peer: Peer) -> Mapping[str, Any] | None:
        """Make a place for several drivers; None if the competitor cannot take part."""
        if self._bench.is_alone and peer.kind == "peer":
            return None
        try:
            return self.place(peer)
        except NotRun as error:
            self._bench.note_absent(peer.label, error)
            return None

    def place(self, peer: Peer) -> Mapping[str, Any]:
        """Make a place for several drivers."""
        return self._stack.enter_context(peer.open(self._bench.server))

    def contender(
        self,
        peer: Peer,
        do: str,
        *,
        mode: str = "",
        options: Mapping[str, Any] | None = None,
        fill: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Contender | None:
        """Prepare a contender whose driver runs one command.

        Args:
            peer: the store.
            do: the command to measure; `seconds` is added to its arguments.
            mode: an addition to the mode of the competitor.
            options: more options of its client.
            fill: arguments of `fill`, which runs first; the streams become an argument of `do`.
            **arguments: the arguments of the command.
        """
        driver, streams = self._start(peer, options, fill)
        if driver is None:
            return None
        if fill is not None:
            arguments["streams"] = streams
        return self.contender_of(peer, driver, do, mode=mode, **arguments)

    def contender_of(
        self, peer: Peer, driver: Driver, do: str, *, mode: str = "", **arguments: Any
    ) -> Contender:
        """Prepare a contender with an existing driver."""

        def measure(seconds: float) -> Sample:
            given = arguments if do in _FIXED else {**arguments, "seconds": seconds}
            return driver.sample(do, timeout=600, **given)

        modes = ", ".join(filter(None, (peer.mode, mode)))
        return Contender(peer.name, modes, peer.kind, measure)

    def filled(self, peer: Peer, fill: Mapping[str, Any]) -> Driver | None:
        """Start a driver with a filled store; None if the competitor cannot take part."""
        return self._start(peer, None, fill)[0]

    def _start(
        self, peer: Peer, options: Mapping[str, Any] | None, fill: Mapping[str, Any] | None
    ) -> tuple[Driver | None, list[str]]:
        place = self.place_or_none(peer)
        if place is None:
            return None, []
        driver = self.beside(peer, place, options)
        try:
            return driver, self.fill(driver, place, fill) if fill else []
        except DriverFailed as error:
            if peer.kind == "indelible":
                raise
            self._bench.note_absent(peer.label, error)
            return None, []

    def fill(
        self,
        driver: Driver,
        place: Mapping[str, Any],
        fill: Mapping[str, Any],
        *,
        analyze: bool = True,
    ) -> list[str]:
        """Have a driver fill its store; return the streams."""
        streams: list[str] = driver.ask("fill", timeout=600, **fill)["streams"]
        if analyze:
            self._bench.server.analyze(str(place.get("url", "")))
        return streams

    def add(self, opening: AbstractContextManager[Contender]) -> Contender | None:
        """Prepare a contender without a driver."""
        return self._stack.enter_context(opening)


class Bench:
    """One run.

    Attributes:
        is_alone: whether the competitors are left out.
        absent: the competitors that could not take part, and the reasons.
    """

    def __init__(
        self, server: Server, scale: Scale, console: Console, *, is_alone: bool = False
    ) -> None:
        self.server = server
        self.scale = scale
        self.is_alone = is_alone
        self.rows: list[Row] = []
        self.comparisons: list[Comparison] = []
        self.profiles: list[Profile] = []
        self.absent: dict[str, str] = {}
        self._console = console

    @contextmanager
    def field(self) -> Iterator[Field]:
        """Open a comparison for contenders."""
        self.server.settle()
        with ExitStack() as stack:
            yield Field(self, stack)

    def compare(
        self,
        title: str,
        unit: str,
        contenders: Mapping[str, Contender | None],
        *,
        rounds: int | None = None,
        seconds: float | None = None,
        chart: str = "",
    ) -> Comparison:
        """Measure contenders side by side, and show the results."""
        here = {key: found for key, found in contenders.items() if found is not None}
        measured = alternate(
            list(here.values()),
            rounds=min(rounds or self.scale.rounds, self.scale.rounds),
            seconds=min(seconds or self.scale.seconds, self.scale.seconds),
            warm_up=self.scale.warm_up,
        )
        compared = Comparison(title, unit, dict(zip(here, measured, strict=True)), chart)
        for result in compared.results.values():
            if result.failed:
                self.note_absent(f"{title}: {result.label}", result.failed)
        self.comparisons.append(compared)
        self._show(compared)
        return compared

    def rows_of(
        self,
        compared: Comparison,
        ours: str,
        *,
        work: str = "",
        budgets: Mapping[str, Budget] | None = None,
        against: tuple[str, ...] = (),
    ) -> None:
        """Add a row for each other side of a comparison.

        Args:
            compared: the comparison.
            ours: the key of Indelible's result.
            work: the first column; by default the title of the comparison.
            budgets: the budgets of the ratios, by the key of the other side.
            against: the other sides; by default all that are not Indelible.
        """
        budgets = budgets or {}
        mine = compared.measured(ours)
        work = f"{work or compared.title} ({compared.unit})"
        others = against or tuple(
            key for key, found in compared.results.items() if found.kind != "indelible"
        )
        for key in dict.fromkeys([*budgets, *others]):
            theirs = compared.measured(key)
            budget = budgets.get(key)
            if mine is None or theirs is None:
                if budget is not None:
                    reason = "Indelible: not there yet" if mine is None else f"{key}: not run"
                    self.rows.append(Row(work, budget=budget, note=reason))
                continue
            ratio = mine.ratio_to(theirs)
            told = f"{theirs.label}: {amount(theirs.rate)}"
            self.rows.append(
                Row(
                    work=work,
                    indelible=amount(mine.rate),
                    peer=told if theirs.kind != "limit" else "",
                    limit=told if theirs.kind == "limit" else "",
                    ratio=ratio,
                    budget=budget,
                    figure=ratio,
                )
            )

    def profile(self, found: Profile) -> None:
        """Record and show a profile."""
        self.profiles.append(found)
        table = Table(*found.columns, title=found.title, title_justify="left")
        for column in table.columns[2:]:
            column.justify = "right"
        for row in found.rows:
            table.add_row(*row)
        self.show(table)

    def note_absent(self, who: str, why: object) -> None:
        """Record a competitor that could not take part, and the reason."""
        self.absent[who] = str(why)
        self._console.print(f"not run: {who}: {why}", style="yellow", markup=False)

    def say(self, text: str) -> None:
        """Show the progress."""
        self._console.print(text, markup=False)

    def show(self, table: Table) -> None:
        """Show a table."""
        self._console.print(table)

    def _show(self, compared: Comparison) -> None:
        table = Table("", compared.unit, *(f"p{each:g} ms" for each in PERCENTILES), "")
        table.title, table.title_justify = compared.title, "left"
        for column in table.columns[1:]:
            column.justify = "right"
        first = next(iter(compared.results), "")
        base = compared.measured(first)
        for key, result in compared.results.items():
            if result.failed:
                continue
            times = [""] * len(PERCENTILES)
            if len(result.latencies):
                times = [f"{result.latencies.milliseconds(each):.3f}" for each in PERCENTILES]
            ratio = f"× {base.ratio_to(result):.2f}" if base and key != first else ""
            more = " ".join(
                f"{amount(result.figure(name))} {name}" for name in result.samples[0].figures
            )
            table.add_row(
                " · ".join(filter(None, (result.label, more))), amount(result.rate), *times, ratio
            )
        self._console.print(table)


Work = Callable[[Bench], None]
