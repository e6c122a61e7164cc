"""Bytes on disk per event of 180 bytes, for tables and all indexes."""

from __future__ import annotations

import psycopg

from benchmarks.competitors import Peer, eventsourcing
from benchmarks.competitors.indelible import INDELIBLE
from benchmarks.competitors.message_db import MESSAGE_DB
from benchmarks.events import DATA_BYTES
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.harness.profile import Profile
from benchmarks.harness.table import Row, amount

_LENGTH = 10
_NOTABLE = 0.5
"""The smallest bytes per event of a table or an index that the report lists."""
_SIZES = """
SELECT relname::text, CASE relkind WHEN 'r' THEN pg_table_size(oid) ELSE pg_relation_size(oid) END
FROM pg_class
WHERE relkind IN ('r', 'i')
    AND relnamespace::regnamespace::text
        NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


def run(bench: Bench) -> None:
    """Append to all streams in turn, one event at a time; subtract the size of an empty store."""
    peers = {
        "indelible": INDELIBLE,
        "eventsourcing": eventsourcing.DEFAULT,
        "message_db": MESSAGE_DB,
    }
    parts = {key: _bytes(bench, peer) for key, peer in peers.items()}
    found = {key: None if each is None else sum(each.values()) for key, each in parts.items()}
    ours = found["indelible"]
    for key, peer in peers.items():
        other = found[key]
        if key == "indelible" or other is None or ours is None:
            continue
        bench.rows.append(
            Row(
                work=f"bytes on disk per event of {DATA_BYTES} bytes, streams of {_LENGTH}",
                indelible=amount(ours),
                peer=f"{peer.label}: {amount(other)}",
                ratio=ours / other,
                budget={
                    "eventsourcing": budgets.BYTES_OVER_EVENTSOURCING,
                    "message_db": budgets.BYTES_OVER_MESSAGE_DB,
                }[key],
                figure=ours / other,
            )
        )
    rows = [
        (peer.label, name, amount(size))
        for key, peer in peers.items()
        for name, size in sorted((parts[key] or {}).items(), key=lambda part: -part[1])
        if size >= _NOTABLE
    ]
    bench.profile(Profile("Bytes per event, by table and index", ("store", "what", "bytes"), rows))


def _bytes(bench: Bench, peer: Peer) -> dict[str, float] | None:
    """Return the bytes per event of each table and each index."""
    with bench.field() as field:
        place = field.place_or_none(peer)
        if place is None:
            return None
        driver = field.beside(peer, place)
        driver.ask("open")
        before = _sizes(place["url"])
        events = driver.ask(
            "write_one_by_one", timeout=600, streams=bench.scale.streams_stored, length=_LENGTH
        )["events"]
        return {
            name: (size - before.get(name, 0)) / events
            for name, size in _sizes(place["url"]).items()
        }


def _sizes(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute(_SIZES).fetchall())
