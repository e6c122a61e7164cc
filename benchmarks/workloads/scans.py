"""Read the whole log once: typed, raw, and filtered to one event of a hundred."""

from __future__ import annotations

from benchmarks.competitors import copy, eventsourcing
from benchmarks.competitors.indelible import INDELIBLE, RAW
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench


def run(bench: Bench) -> None:
    """Fill each store once, and read it in three ways."""
    events = bench.scale.scanned
    fill = {"events": events, "length": min(events, 1_000), "rare": True}
    with bench.field() as field:
        place = field.place(INDELIBLE)
        ours = field.beside(INDELIBLE, place)
        field.fill(ours, place, fill)
        raw = field.beside(RAW, place)
        peers = {
            "eventsourcing": (eventsourcing.DEFAULT, "pages of 1,000"),
            "message_db": (MESSAGE_DB, "category, pages of 1,000"),
            "umadb": (UMADB, ""),
        }
        drivers = {key: field.filled(peer, fill) for key, (peer, _) in peers.items()}
        for how in ("typed", "raw", "matching"):
            compared = bench.compare(
                {
                    "typed": "log scan into typed objects",
                    "raw": "log scan, data as it comes",
                    "matching": "log scan for 1 % of the events, typed",
                }[how],
                "events/s",
                {
                    "indelible": field.contender_of(
                        RAW if how == "raw" else INDELIBLE,
                        raw if how == "raw" else ours,
                        "scan",
                        how=how,
                    ),
                    **{
                        key: field.contender_of(
                            peers[key][0], driver, "scan", mode=peers[key][1], how=how
                        )
                        for key, driver in drivers.items()
                        if driver is not None
                        and not (
                            how == "matching" and key == "message_db"
                        )  # it has no filter for this
                    },
                    "copy": copy.copy_out(place["url"], events) if how != "matching" else None,
                },
                rounds=3,
                chart="Log scan into typed objects" if how == "typed" else "",
            )
            bench.rows_of(
                compared,
                "indelible",
                budgets={"copy": budgets.TYPED_SCAN_OVER_COPY} if how == "typed" else {},
            )
