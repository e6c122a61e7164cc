"""Read the whole log once: typed, raw, and filtered to one event of a hundred."""

from __future__ import annotations

from benchmarks.competitors import copy, eventsourcing
from benchmarks.competitors.indelible import (
    INDELIBLE,
    PYDANTIC,
    RAW,
    TAGGED,
    UPCAST,
    leave_unanalyzed,
)
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench

_BUDGETS = {
    "typed": {
        "copy": budgets.TYPED_SCAN_OVER_COPY,
        "message_db": budgets.TYPED_SCAN_OVER_MESSAGE_DB,
    },
    "matching": {"eventsourcing": budgets.FILTERED_SCAN_OVER_EVENTSOURCING},
}


def run(bench: Bench) -> None:
    """Fill each store once, and read it in three ways; then a store without statistics."""
    _beside_peers(bench)
    _kinds(bench)
    _young(bench)


def _kinds(bench: Bench) -> None:
    """Read what takes more than a dataclass: other classes, upcast events, metadata and tags."""
    fill = {"events": bench.scale.scanned, "length": min(bench.scale.scanned, 1_000), "rare": True}
    with bench.field() as field:
        place = field.place(INDELIBLE)
        plain = field.beside(INDELIBLE, place)
        field.fill(plain, place, fill)
        tagged = field.filled(TAGGED, fill)
        drivers = {
            INDELIBLE: plain,
            UPCAST: field.beside(UPCAST, place),
            PYDANTIC: field.beside(PYDANTIC, place),
            TAGGED: tagged,
        }
        compared = bench.compare(
            "log scan of other kinds of events",
            "events/s",
            {
                peer.mode or "dataclasses": field.contender_of(peer, driver, "scan", how="typed")
                for peer, driver in drivers.items()
                if driver is not None
            },
            rounds=3,
        )
    for key in (UPCAST.mode, PYDANTIC.mode, TAGGED.mode):
        bench.rows_of(
            compared,
            key,
            work=f"log scan into typed objects, {key}",
            against=("dataclasses",),
        )


def _young(bench: Bench) -> None:
    """Compare a store that was never analyzed, as one is after a restore, with one that was."""
    fill = {"events": bench.scale.scanned, "length": min(bench.scale.scanned, 10)}
    with bench.field() as field:
        stores = {}
        for name in ("young", "analyzed"):
            place = field.place(INDELIBLE)
            stores[name] = driver = field.beside(INDELIBLE, place)
            driver.ask("open")
            leave_unanalyzed(place["url"])
            field.fill(driver, place, fill, analyze=name == "analyzed")
        compared = bench.compare(
            "log scan of a store without statistics, streams of ten events",
            "events/s",
            {
                name: field.contender_of(INDELIBLE, driver, "scan", mode=name, how="typed")
                for name, driver in stores.items()
            },
            rounds=3,
        )
    bench.rows_of(
        compared, "young", budgets={"analyzed": budgets.YOUNG_OVER_ANALYZED}, against=("analyzed",)
    )


def _beside_peers(bench: Bench) -> None:
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
                budgets=_BUDGETS.get(how, {}),
            )
