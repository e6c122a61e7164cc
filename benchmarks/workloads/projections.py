"""The throughput of projections: documents are built from the beginning of the log to its head."""

from __future__ import annotations

from benchmarks.competitors.indelible import INDELIBLE, PROJECTION
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.harness.table import Row, amount


def run(bench: Bench) -> None:
    """Compare them with a typed read of the same log, which is the limit of a projection.

    The streams are interleaved: with one document per stream, a batch hardly ever has two events of
    the same document.
    """
    events = bench.scale.scanned
    with bench.field() as field:
        place = field.place(INDELIBLE)
        reader = field.beside(INDELIBLE, place)
        field.fill(reader, place, {"events": events, "length": 10})
        projector = field.beside(PROJECTION, place)
        compared = bench.compare(
            f"a projection takes in {events:,} events",
            "events/s",
            {
                "stream": field.contender_of(
                    PROJECTION, projector, "scan", mode="a document for ten events", how="stream"
                ),
                "hundred": field.contender_of(
                    PROJECTION, projector, "scan", mode="a hundred documents", how="hundred"
                ),
                "live": field.contender_of(
                    PROJECTION, projector, "scan", mode="live, nothing kept", how="live"
                ),
                "read": field.contender_of(INDELIBLE, reader, "scan", mode="read", how="typed"),
            },
            rounds=3,
        )
    read = compared.results["read"]
    for key, found in compared.results.items():
        if key != "read":
            bench.rows.append(
                Row(
                    work=f"a projection takes in events, {found.mode} (events/s)",
                    indelible=amount(found.rate),
                    ratio=found.ratio_to(read),
                    limit=f"a typed read: {amount(read.rate)}",
                    budget=budgets.PROJECTED if key != "live" else None,
                    figure=found.rate,
                )
            )
