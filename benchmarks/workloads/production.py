"""A server with the settings of production, next to one with the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.competitors import Peer
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.harness import server
from benchmarks.harness.bench import Bench
from benchmarks.harness.server import Server

_THREADS = 16


def run(bench: Bench) -> None:
    """Append with one client and with threads, and read the log, on both servers."""
    settings = server.production_settings()
    with server.start(settings) as tuned:
        peers = {
            "default": replace(INDELIBLE, mode="defaults"),
            "production": _on(tuned, f"shared_buffers {settings['shared_buffers']}"),
        }
        for writers in (1, _THREADS):
            with bench.field() as field:
                compared = bench.compare(
                    f"production settings, {writers} thread{'s' * (writers > 1)}",
                    "appends/s",
                    {
                        key: field.contender(peer, "append", how="threads", writers=writers)
                        for key, peer in peers.items()
                    },
                )
            bench.rows_of(compared, "production", against=("default",))
        fill = {"events": bench.scale.scanned, "length": min(bench.scale.scanned, 1_000)}
        with bench.field() as field:
            drivers = {key: field.filled(peer, fill) for key, peer in peers.items()}
            compared = bench.compare(
                "production settings, log scan into typed objects",
                "events/s",
                {
                    key: field.contender_of(peers[key], driver, "scan", how="typed")
                    for key, driver in drivers.items()
                    if driver is not None
                },
                rounds=3,
            )
        bench.rows_of(compared, "production", against=("default",))


def _on(tuned: Server, mode: str) -> Peer:
    """Return Indelible on another server than that of the run."""

    @contextmanager
    def place(_: Server) -> Iterator[Mapping[str, Any]]:
        tuned.settle()
        with INDELIBLE.open(tuned) as found:
            yield found

    return replace(INDELIBLE, mode=mode, open=place)
