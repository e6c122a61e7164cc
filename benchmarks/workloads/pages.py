"""The page at `/` over a long log: the time of each screen at the server."""

from __future__ import annotations

import http.client
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import psycopg

from benchmarks.competitors.http import HTTP
from benchmarks.competitors.indelible import fill, some_streams
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.harness.table import Row
from indelible import EventStore

_LENGTH = 10
_TIMES = 20


def run(bench: Bench) -> None:
    """Fill one store, and ask for each screen several times, over one connection."""
    with bench.field() as field:
        place = field.place(HTTP)
        events = max(bench.scale.growth)
        fill(place["database"], events, _LENGTH)
        with EventStore.connect(place["database"]) as store:
            store.group("billing").create()
            stream = f"order-{some_streams(place['database'], 1)[0]}"
            (event,) = list(store.read(stream, limit=1))
        _add_long_stream(place["database"])
        bench.server.settle()
        connection = http.client.HTTPConnection(urlsplit(place["url"]).netloc, timeout=60)
        slowest = ("", 0.0)
        for name, path, parameters in _screens(stream, event):
            address = f"{path}?{urlencode(parameters)}" if parameters else path
            seconds = [_seconds(connection, address) for _ in range(_TIMES)]
            first, rest = seconds[0], sorted(seconds[1:])
            p95 = rest[int(len(rest) * 0.95)]
            bench.say(
                f"{name}: first {first * 1000:.0f} ms, p50 {rest[len(rest) // 2] * 1000:.0f} ms,"
                f" p95 {p95 * 1000:.0f} ms"
            )
            if p95 > slowest[1]:
                slowest = name, p95
    bench.rows.append(
        Row(
            work=f"the slowest screen of the page among {events:,} events: {slowest[0]} (p95 ms)",
            indelible=f"{slowest[1] * 1000:.0f}",
            budget=budgets.PAGE_P95,
            figure=slowest[1] * 1000,
        )
    )


def _screens(stream: str, event: Any) -> list[tuple[str, str, dict[str, Any]]]:
    middle = {"before": event.position + 1_000_000}
    return [
        ("overview", "/", {}),
        ("streams", "/streams", {}),
        ("streams by prefix", "/streams", {"prefix": stream[:9]}),
        ("streams after a name", "/streams", {"after": stream}),
        ("streams that are closed", "/streams", {"state": "closed"}),
        ("stream", "/stream", {"name": stream}),
        ("stream as of", "/stream", {"name": stream, "as_of": event.position + 10}),
        ("stream valid at", "/stream", {"name": stream, "valid_at": "now"}),
        ("stream of 100,000 events", "/stream", {"name": "long-1"}),
        ("long stream valid at", "/stream", {"name": "long-1", "valid_at": "now"}),
        ("log", "/log", {}),
        ("log in the middle", "/log", middle),
        ("log of an absent type", "/log", {"type": "Absent"}),
        ("log of an absent tag", "/log", {"tag": "order:none"}),
        ("types", "/types", {}),
        ("type", "/type", {"type": "OrderPlaced"}),
        ("groups", "/groups", {}),
        ("group", "/group", {"name": "billing"}),
        ("projections", "/projections", {}),
        ("health", "/health", {}),
        ("event", "/event", {"id": str(event.id)}),
    ]


def _add_long_stream(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            WITH made AS (
                INSERT INTO indelible.streams (version, name, channel)
                VALUES (99999, 'long-1', 'long') RETURNING id
            )
            INSERT INTO indelible.events
                (position, stream_id, version, recorded_at, id, type, data)
            SELECT
                nextval('indelible.events_position'), made.id, number, clock_timestamp(),
                uuidv7(), 'Moved', jsonb_build_object('to', number)
            FROM made, generate_series(0, 99999) AS given (number)
            """
        )


def _seconds(connection: http.client.HTTPConnection, address: str) -> float:
    begun = time.perf_counter()
    connection.request("GET", address, headers={"Accept": "text/html", "Host": "localhost"})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - begun
    if answer.status not in (200, 303):
        raise AssertionError(f"{address}: {answer.status} {body[:300]!r}")
    return seconds
