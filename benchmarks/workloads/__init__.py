"""The workloads, in the order in which they run."""

from __future__ import annotations

from benchmarks.harness.bench import Work

from . import (
    batches,
    bulk_import,
    concurrent_appends,
    conditional_appends,
    conflicts,
    costs,
    filters,
    groups,
    growth,
    head,
    http,
    mixed,
    pages,
    production,
    projections,
    scans,
    single_appends,
    storage,
    stream_loads,
    subscriptions,
)

WORK: dict[str, Work] = {
    "single": single_appends.run,
    "concurrent": concurrent_appends.run,
    "batches": batches.run,
    "costs": costs.run,
    "conditions": conditional_appends.run,
    "conflicts": conflicts.run,
    "mixed": mixed.run,
    "production": production.run,
    "loads": stream_loads.run,
    "scans": scans.run,
    "filters": filters.run,
    "subscriptions": subscriptions.run,
    "groups": groups.run,
    "projections": projections.run,
    "head": head.run,
    "storage": storage.run,
    "http": http.run,
    "pages": pages.run,
    "import": bulk_import.run,
    "growth": growth.run,
}
