"""The latency of a subscription at a steady rate, and its speed when it catches up."""

from __future__ import annotations

from benchmarks.competitors import Peer, eventsourcing
from benchmarks.competitors.indelible import GROUP, INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.competitors.notify import NOTIFY
from benchmarks.competitors.umadb import UMADB
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench, Comparison, Field
from benchmarks.harness.budgets import Budget
from benchmarks.harness.rounds import Contender, Result, Sample
from benchmarks.harness.table import Row, amount

_LATENCIES = ((50.0, budgets.LATENCY_P50), (99.0, budgets.LATENCY_P99))


def run(bench: Bench) -> None:
    """Measure the latency, under load and after pauses, then the speed of catching up."""
    _latency(bench)
    _latency_after_pauses(bench)
    _catching_up(bench)


def _latency_after_pauses(bench: Bench) -> None:
    """Measure an event per second, to which nothing that came just before has woken anybody."""
    seconds = bench.scale.slow_seconds
    with bench.field() as field:
        compared = bench.compare(
            "append → handler at 1 event/s",
            "events/s",
            {
                "indelible": late(bench, field, INDELIBLE, rate=1, seconds=seconds),
                "eventsourcing": late(bench, field, eventsourcing.DEFAULT, rate=1, seconds=seconds),
                "notify": late(bench, field, NOTIFY, rate=1, seconds=seconds),
            },
            rounds=3,
        )
    latency_rows(bench, compared, "indelible", ("eventsourcing", "notify"), rate=" at 1 event/s")


def _latency(bench: Bench) -> None:
    rate = bench.scale.latency_rate
    with bench.field() as field:
        compared = bench.compare(
            f"append → handler at {rate:,.0f} events/s",
            "events/s",
            {
                "indelible": late(bench, field, INDELIBLE),
                "group": late(bench, field, GROUP, group="latency"),
                "eventsourcing": late(bench, field, eventsourcing.DEFAULT),
                "message_db": late(bench, field, MESSAGE_DB),
                "umadb": late(bench, field, UMADB),
                "notify": late(bench, field, NOTIFY),
            },
            rounds=3,
            seconds=bench.scale.latency_seconds,
        )
    for key in ("indelible", "group"):
        latency_rows(bench, compared, key, ("eventsourcing", "message_db", "umadb", "notify"))


def latency_rows(
    bench: Bench,
    compared: Comparison,
    ours: str,
    others: tuple[str, ...],
    percentiles: tuple[tuple[float, Budget], ...] = _LATENCIES,
    rate: str = "",
) -> None:
    """Add a row for each percentile and each other side."""
    for percentile, budget in percentiles:
        for other in others:
            _row(
                bench,
                compared.measured(ours),
                compared.measured(other),
                percentile,
                budget,
                rate=rate,
            )


def _row(
    bench: Bench,
    ours: Result | None,
    theirs: Result | None,
    percentile: float,
    budget: Budget,
    rate: str = "",
) -> None:
    if ours is None or theirs is None:
        return
    mine, other = (each.latencies.milliseconds(percentile) for each in (ours, theirs))
    told = f"{theirs.label}: {amount(other)}"
    is_limit = theirs.kind != "peer"  # every run has it, so the budget is here
    bench.rows.append(
        Row(
            work=f"append → handler{rate}, {ours.mode or 'subscription'}: p{percentile:g} (ms)",
            indelible=amount(mine),
            peer="" if is_limit else told,
            limit=told if is_limit else "",
            ratio=mine / other,
            budget=budget if is_limit else None,
            figure=mine if is_limit else None,
        )
    )


def late(
    bench: Bench,
    field: Field,
    peer: Peer,
    rate: float | None = None,
    seconds: float | None = None,
    **options: str,
) -> Contender | None:
    """Follow in one process, and append at the rate in another.

    Args:
        bench: the run.
        field: the contenders of the comparison.
        peer: who follows. It appends too; for Indelible, the library does.
        rate: events per second.
        seconds: how long; by default a turn.
        **options: more options of the reader's client.
    """
    place = field.place_or_none(peer)
    if place is None:
        return None
    reader = field.beside(peer, place, options)
    if peer.kind == "indelible":
        writer = field.beside(INDELIBLE, {"url": place.get("database", place["url"])})
    else:
        writer = field.beside(peer, place)

    def measure(turn: float) -> Sample:
        reader.ask("follow", at_end=True)
        written = writer.ask(
            "append_at_rate", rate=rate or bench.scale.latency_rate, seconds=seconds or turn
        )
        found = reader.sample("followed", events=written["events"], patience=10)
        if found.operations != written["events"]:
            raise AssertionError(f"{found.operations} of {written['events']} events came")
        return Sample(found.operations, written["seconds"], found.latencies)

    return Contender(peer.name, peer.mode, peer.kind, measure)


def _catching_up(bench: Bench) -> None:
    events = bench.scale.followed
    fill = {"events": events, "length": min(events, 1_000)}
    peers = {
        "indelible": INDELIBLE,
        "eventsourcing": eventsourcing.DEFAULT,
        "message_db": MESSAGE_DB,
        "umadb": UMADB,
    }
    with bench.field() as field:
        drivers = {key: field.filled(peer, fill) for key, peer in peers.items()}
        compared = bench.compare(
            f"a subscription catches up {events:,} events, typed",
            "events/s",
            {
                key: field.contender_of(peers[key], driver, "catch_up", events=events)
                for key, driver in drivers.items()
                if driver is not None
            },
            rounds=3,
            chart="A subscription catches up",
        )
    bench.rows_of(compared, "indelible")
