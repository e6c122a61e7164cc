"""Count lost events: one reader follows writers with lists of events, slow commits and rollbacks.

A position is handed out before its transaction commits, so positions become visible out of order,
and a reader that only remembers the highest one skips late ones. Two processes of eight threads
write to each store, and a third process follows it, as its documentation says. Then the events of
the reader are compared with those that the writers have committed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.competitors import Peer, eventsourcing
from benchmarks.competitors.emmett import EMMETT
from benchmarks.competitors.indelible import GROUP, INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import report
from benchmarks.harness.bench import Bench
from benchmarks.harness.findings import Finding, compare

_PROCESSES = 2
_THREADS = 8
_SLOW = 0.2
_UNDONE = 0.1

COLUMNS = (
    "store", "mode", "writers", "reader", "committed", "undone", "lost", "doubled", "out of order",
    "never committed",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A store, with its way to write and to follow."""

    peer: Peer
    writers: str
    reader: str
    options: Mapping[str, Any]


_POOL = {"connections": _THREADS}
CASES = (
    Case(INDELIBLE, "transactions, slow and undone ones", "subscribe()", {}),
    Case(GROUP, "transactions, slow and undone ones", "a worker that acks", {"group": "check"}),
    Case(eventsourcing.DEFAULT, "insert_events(), some fail", "recorder.subscribe()", _POOL),
    Case(eventsourcing.FUNCTIONS, "insert_events(), some fail", "recorder.subscribe()", _POOL),
    Case(eventsourcing.DCB, "append() without condition", "recorder.subscribe()", _POOL),
    Case(
        eventsourcing.CONDITIONAL_DCB,
        "append() under a condition, some fail",
        "recorder.subscribe()",
        _POOL,
    ),
    Case(EMMETT, "appendToStream()", "a consumer with a reactor", {}),
    Case(UMADB, "append() without condition", "client.subscribe()", {}),
    Case(
        MESSAGE_DB,
        "write_message() in transactions, slow and undone ones",
        "get_category_messages() after the last position",
        _POOL,
    ),
)


def run(bench: Bench, folder: Path) -> int:
    """Check all cases; return the exit status: 1 if Indelible itself is at fault."""
    rows: list[tuple[str, ...]] = []
    findings: list[dict[str, Any]] = []
    status = 0
    for case in CASES:
        finding = _check(bench, case)
        if finding is None:
            continue
        facts = asdict(finding)
        row = (
            case.peer.name, case.peer.mode, case.writers, case.reader,
            *(f"{value:,}" for value in facts.values()),
        )  # fmt: skip
        rows.append(row)
        findings.append(dict(zip(COLUMNS[:4], row[:4], strict=True)) | facts)
        if case.peer.kind == "indelible" and not finding.is_clean:
            status = 1
    _show(bench, rows)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, *rows)]
    lines.insert(1, "| --- | --- | --- | --- |" + " ---: |" * 6)
    (folder / "correctness.md").write_text(
        report.circumstances(bench, f"{bench.scale.check_seconds:g} s each")
        + "\n".join(lines)
        + "\n",
        "utf-8",
    )
    (folder / "correctness.json").write_text(json.dumps(findings, indent=1) + "\n", "utf-8")
    return status


def _check(bench: Bench, case: Case) -> Finding | None:
    with bench.field() as field:
        place = field.place_or_none(case.peer)
        if place is None:
            return None
        writing = INDELIBLE if case.peer is GROUP else case.peer
        options = {} if case.peer is GROUP else case.options
        writers = [field.beside(writing, place, options) for _ in range(_PROCESSES)]
        for writer in writers:
            writer.ask("open")
        reader = field.beside(case.peer, place, case.options)
        reader.ask("follow", at_end=False)
        for writer in writers:
            writer.tell(
                "write_for_check",
                writers=_THREADS,
                seconds=bench.scale.check_seconds,
                slow=_SLOW,
                fail=_UNDONE,
            )
        answers = [writer.answer(timeout=bench.scale.check_seconds + 120) for writer in writers]
        committed = [
            (str(stream), int(number))
            for answer in answers
            for stream, number in answer["committed"]
        ]
        patience = bench.scale.check_patience
        reader.ask("followed", timeout=600, events=len(committed), patience=patience)
        seen = [(str(stream), int(number)) for stream, number in reader.ask("seen")["seen"]]
    return compare(committed, seen, sum(answer["undone"] for answer in answers))


def _show(bench: Bench, rows: Sequence[Sequence[str]]) -> None:
    table = Table(*COLUMNS, title="Events lost, doubled, out of order", title_justify="left")
    for row in rows:
        table.add_row(*row)
    bench.show(table)
