"""The server over HTTP, beside the library: appends, reading as lines, subscriptions, memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from benchmarks.competitors import copy
from benchmarks.competitors.http import ASYNC_HTTP, HTTP, resident
from benchmarks.competitors.indelible import ASYNC, INDELIBLE, RAW
from benchmarks.harness import budgets
from benchmarks.harness.bench import Bench
from benchmarks.harness.table import Row, amount

from .subscriptions import late, latency_rows

_CONNECTIONS = 64
_SUBSCRIBERS = 500


def run(bench: Bench) -> None:
    """Measure each beside the same work through the library."""
    _appends(bench)
    _lines(bench)
    _latency(bench)
    _memory(bench)


def _appends(bench: Bench) -> None:
    tasks: dict[str, Any] = {"how": "tasks", "writers": _CONNECTIONS}
    with bench.field() as field:
        compared = bench.compare(
            f"{_CONNECTIONS} connections over HTTP, one event per append",
            "appends/s",
            {
                "http": field.contender(ASYNC_HTTP, "append", **tasks),
                "threads": field.contender(
                    INDELIBLE, "append", mode="64 threads", how="threads", writers=_CONNECTIONS
                ),
                "tasks": field.contender(ASYNC, "append", mode="64 tasks", **tasks),
            },
            rounds=3,
        )
    bench.rows_of(
        compared,
        "http",
        budgets={"threads": budgets.HTTP_APPENDS_OVER_LIBRARY},
        against=("threads", "tasks"),
    )


def _lines(bench: Bench) -> None:
    events = bench.scale.scanned
    with bench.field() as field:
        place = field.place(HTTP)
        served = field.beside(HTTP, place)
        served.ask("fill", timeout=600, events=events, length=min(events, 1_000))
        bench.server.analyze(place["database"])
        raw = field.beside(RAW, {"url": place["database"]})
        compared = bench.compare(
            "the log as lines of JSON over HTTP",
            "events/s",
            {
                "http": field.contender_of(HTTP, served, "scan", how="raw"),
                "library": field.contender_of(RAW, raw, "scan", how="raw"),
                "copy": copy.copy_out(place["database"], events),
            },
            rounds=3,
        )
    bench.rows_of(compared, "http", against=("library", "copy"))
    found = compared.results["http"]
    bench.rows.append(
        Row(
            work="the log as lines of JSON over HTTP (events/s)",
            indelible=amount(found.rate),
            budget=budgets.HTTP_LINES,
            figure=found.rate,
        )
    )


def _latency(bench: Bench) -> None:
    with bench.field() as field:
        compared = bench.compare(
            f"append → server-sent event at {bench.scale.latency_rate:,.0f} events/s",
            "events/s",
            {
                "http": late(bench, field, HTTP),
                "library": late(bench, field, INDELIBLE),
            },
            rounds=3,
            seconds=bench.scale.latency_seconds,
        )
    latency_rows(bench, compared, "http", ("library",), ((50.0, budgets.HTTP_LATENCY_P50),))


def _memory(bench: Bench) -> None:
    with bench.field() as field:
        place = field.place(HTTP)
        before = resident(place["process"])
        with _subscribers(place["url"], _SUBSCRIBERS):
            after = resident(place["process"])
    bench.say(f"memory: {before:.0f} MiB, with {_SUBSCRIBERS} subscribers {after:.0f} MiB")
    bench.rows.append(
        Row(
            work=f"memory of the server with {_SUBSCRIBERS} subscribers (MiB)",
            indelible=amount(after),
            limit=f"without: {amount(before)}",
            budget=budgets.HTTP_MEMORY,
            figure=after,
        )
    )


@contextmanager
def _subscribers(url: str, count: int) -> Iterator[None]:
    """Subscribe so many times, until each has got its first message."""
    place = urlsplit(url)
    request = (
        b"GET /api/v1/events/subscribe HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream"
        b"\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(count):
            found = stack.enter_context(
                socket.create_connection((place.hostname, place.port), timeout=30)
            )
            found.sendall(request)
            received = b""
            while b"caught_up" not in received:
                part = found.recv(4096)
                if not part:
                    raise AssertionError(f"the server ended a subscription: {received!r}")
                received += part
        yield
