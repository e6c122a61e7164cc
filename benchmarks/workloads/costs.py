"""Profile an append: this explains the results of the comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.competitors import Peer, eventsourcing
from benchmarks.competitors.indelible import ASYNC, INDELIBLE
from benchmarks.harness.bench import Bench
from benchmarks.harness.profile import Profile, backends, flushing, spent_by, time_flushes
from benchmarks.harness.table import amount

_COLUMNS = (
    "work", "store", "µs an append", "client", "of it kernel", "server", "disk",
)  # fmt: skip


@dataclass(frozen=True)
class _Case:
    work: str
    peer: Peer
    writers: int = 1
    how: str = "threads"
    batch: int = 1


_CASES = (
    _Case("one client", INDELIBLE),
    _Case("one client", eventsourcing.DEFAULT),
    _Case("16 threads", INDELIBLE, 16),
    _Case("16 threads", eventsourcing.DEFAULT, 16),
    _Case("64 threads", INDELIBLE, 64),
    _Case("100 tasks", ASYNC, 100, "tasks"),
    _Case("one client, 100 events", INDELIBLE, batch=100),
    _Case("one client, 100 events", eventsourcing.DEFAULT, batch=100),
)


def run(bench: Bench) -> None:
    """Append, and read the processor and disk time from the kernel and the server."""
    rows = [row for case in _CASES if (row := _row(bench, case)) is not None]
    bench.profile(Profile("What an append costs, in µs", _COLUMNS, rows))


def _row(bench: Bench, case: _Case) -> tuple[str, ...] | None:
    given: dict[str, Any] = {"how": case.how, "writers": case.writers, "batch": case.batch}
    with bench.field() as field:
        place = field.place_or_none(case.peer)
        if place is None:
            return None
        url = place["url"]
        time_flushes(url)
        flushed = flushing(url)
        with field.apart(case.peer, place) as driver:
            early = driver.sample("append", seconds=bench.scale.seconds, **given)
            client, server = [driver.number], backends(url)
            before = spent_by(client), spent_by(server)
            late = driver.sample("append", seconds=bench.scale.seconds, **given)
            by_client = spent_by(client) - before[0]
            by_server = spent_by(server) - before[1]
        flushed = (flushing(url) - flushed) / (early.operations + late.operations)
    appends = late.operations / case.batch
    return (
        case.work,
        case.peer.label,
        *(
            amount(1e6 * seconds / appends)
            for seconds in (late.seconds, by_client.processor, by_client.kernel)
        ),
        amount(1e6 * by_server.processor / appends),
        amount(1e6 * flushed * case.batch),
    )
