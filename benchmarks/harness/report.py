"""The output before and after a run: settings, the table, the files of results."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import packages, server
from .bench import Bench
from .chart import draw
from .scale import Scale
from .table import COLUMNS, lines, markdown, verdict

DOCS_CHART = Path(__file__).parents[2] / "docs" / "explanation" / "performance.svg"


def introduce(console: Console, started: server.Server, scale: Scale) -> None:
    """Show the machine, the versions and the settings."""
    for name, facts in (
        ("machine", server.machine()),
        ("versions", _versions()),
        ("server", started.settings),
    ):
        told = ", ".join(f"{fact} {value}" for fact, value in facts.items())
        console.print(f"{name}: {told}", markup=False, highlight=False)
    console.print(
        f"scale: {scale.name}, {scale.rounds} rounds of {scale.seconds:g} s", markup=False
    )


def conclude(
    console: Console, bench: Bench, folder: Path, seconds: float, *, for_docs: bool
) -> None:
    """Show the table; write table, chart and everything else into a folder.

    Args:
        console: the console to show the table on.
        bench: the run.
        folder: the folder to write to.
        seconds: the duration of the run.
        for_docs: whether to write the chart for the documentation too.
    """
    shown = Table(*COLUMNS, title="Budgets", title_justify="left")
    for row, cells in zip(bench.rows, lines(bench.rows), strict=True):
        style = "" if row.met is None else "green" if row.met else "bold red"
        shown.add_row(*cells, style=style)
    console.print(shown)
    for who, why in bench.absent.items():
        console.print(f"not run: {who}: {why}", markup=False)
    console.print(f"{verdict(bench.rows)}; {seconds / 60:.1f} minutes", markup=False)
    if not bench.scale.warm_up:
        console.print("There was no warm-up and only one round: these figures mean nothing.")

    folder.mkdir(parents=True, exist_ok=True)
    when = datetime.now(UTC).isoformat(timespec="minutes")
    machine, versions = server.machine(), _versions()
    everything = {
        "when": when,
        "command": command(sys.argv[1:]),
        "seconds": round(seconds),
        "machine": machine,
        "versions": versions,
        "server": bench.server.settings,
        "scale": asdict(bench.scale),
        "rows": [row.as_json() for row in bench.rows],
        "comparisons": [compared.as_json() for compared in bench.comparisons],
        "profiles": [profile.as_json() for profile in bench.profiles],
        "not_run": bench.absent,
    }
    (folder / "results.json").write_text(
        json.dumps(everything, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    rounds = f"{bench.scale.rounds} round{'s' if bench.scale.rounds > 1 else ''}"
    extent = f"{rounds} (at most 3 where there are many contenders) of {bench.scale.seconds:g} s"
    absent = "".join(f"- not run: {who}: {why}\n" for who, why in bench.absent.items())
    (folder / "table.md").write_text(
        circumstances(bench, extent) + markdown(bench.rows) + (f"\n{absent}" if absent else ""),
        "utf-8",
    )
    if bench.profiles:
        (folder / "profiles.md").write_text(
            "\n".join(profile.markdown() for profile in bench.profiles), "utf-8"
        )
    draw([compared.as_json() for compared in bench.comparisons], folder / "chart")
    if for_docs:
        shutil.copyfile(folder / "chart.svg", DOCS_CHART)
    console.print(f"{folder}: {', '.join(sorted(found.name for found in folder.iterdir()))}")


def _versions() -> dict[str, str]:
    return server.versions() | packages.PACKAGES


def circumstances(bench: Bench, extent: str) -> str:
    """Return a paragraph of Markdown with the date, duration, machine and settings of the run."""
    machine, versions, settings = server.machine(), _versions(), bench.server.settings
    return (
        f"`{command(sys.argv[1:])}` on {datetime.now(UTC).date()}: {extent};"
        f" {machine['processor']}, {machine['cores']} cores, {machine['memory']},"
        f" {machine['system']}, Python {machine['python']}; PostgreSQL"
        f" {settings['server_version'].split()[0]}, fsync {settings['fsync']}, synchronous_commit"
        f" {settings['synchronous_commit']}, shared_buffers {settings['shared_buffers']};"
        f" eventsourcing {versions['eventsourcing']}, UmaDB {versions['umadb']}, Message DB"
        f" {versions['@eventide/message-db']}, Emmett"
        f" {versions['@event-driven-io/emmett-postgresql']}.\n\n"
    )


def command(arguments: Sequence[str]) -> str:
    """Return the command that repeats the run, without the folder for results."""
    told = list(arguments)
    if "--out" in told:
        place = told.index("--out")
        del told[place : place + 2]
    return shlex.join(["python", "-m", "benchmarks", *told])
