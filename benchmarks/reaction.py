"""From append to handler: how soon a subscription and a consumer group react, at a steady rate.

A process of its own appends at the given rate; each event carries the moment before its append,
and the handler looks at the clock. Beside them the limit: a bare table, an INSERT and a NOTIFY per
commit, a reader that LISTENs and reads what stands after the last row that it saw (which misses
rows that commit late, and serialises all commits). All in turns, on one server with durable
settings. Then the price of head() with and without idle connections, and how many events a second
a group hands out when it catches up.

    python benchmarks/reaction.py [--rounds 3] [--seconds 5] [--rate 1000] [--url postgresql://…]
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from indelible import ANY, EventStore, NewEvent, Query, embedded

_SCHEMA = "bench_reaction"
_SETTINGS = ("server_version", "fsync", "synchronous_commit")


def _paced(rate: float, seconds: float) -> Iterator[int]:
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        while (ahead := begun + number / rate - time.perf_counter()) > 0:
            time.sleep(ahead)
        yield number


def append_at_rate(url: str, rate: float, seconds: float) -> None:
    """What the writing process does for the readers of Indelible."""
    with EventStore.connect(url, schema=_SCHEMA) as store:
        for number in _paced(rate, seconds):
            event = NewEvent("Reacted", {"at": time.time()})
            store.append(f"order-{number % 500}", event, expected=ANY)


def insert_at_rate(url: str, rate: float, seconds: float) -> None:
    """What the writing process does for the limit."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in _paced(rate, seconds):
            with connection.transaction():
                connection.execute(
                    "INSERT INTO bench_limit (data) VALUES (%s)", [json.dumps({"at": time.time()})]
                )
                connection.execute("NOTIFY bench_limit")


class Reader:
    """Takes events in a thread, and notes how late each was."""

    def __init__(self, react: Callable[[Callable[[float], None]], Callable[[], None]]) -> None:
        self.late: list[float] = []
        self.stop = react(lambda at: self.late.append(time.time() - at))


def subscription(store: EventStore) -> Callable[[Callable[[float], None]], Callable[[], None]]:
    def react(note: Callable[[float], None]) -> Callable[[], None]:
        following = store.subscribe(after="head")

        def read() -> None:
            for event in following:
                note(event.data["at"])

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            following.stop()
            thread.join()

        return stop

    return react


def group(store: EventStore) -> Callable[[Callable[[float], None]], Callable[[], None]]:
    def react(note: Callable[[float], None]) -> Callable[[], None]:
        named = store.group(f"reaction-{time.time_ns()}")
        named.create(Query(types="Reacted"), start="head")
        consumer = named.consume()

        def work() -> None:
            for delivery in consumer:
                note(delivery.data["at"])
                delivery.ack()

        thread = threading.Thread(target=work)
        thread.start()
        while consumer.slices == 0:
            time.sleep(0.01)

        def stop() -> None:
            consumer.stop()
            thread.join()
            consumer.close()
            named.delete()

        return stop

    return react


def limit(url: str) -> Callable[[Callable[[float], None]], Callable[[], None]]:
    def react(note: Callable[[float], None]) -> Callable[[], None]:
        stopped = threading.Event()
        connection = psycopg.connect(url, autocommit=True)
        connection.execute("LISTEN bench_limit")
        row = connection.execute("SELECT coalesce(max(id), 0) FROM bench_limit").fetchone()

        def read() -> None:
            last = row[0] if row else 0
            while not stopped.is_set():
                list(connection.notifies(timeout=0.1, stop_after=1))
                rows = connection.execute(
                    "SELECT id, (data ->> 'at')::float8 FROM bench_limit WHERE id > %s ORDER BY id",
                    [last],
                ).fetchall()
                for _, at in rows:
                    note(at)
                last = rows[-1][0] if rows else last
            connection.close()

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            stopped.set()
            thread.join()

        return stop

    return react


def react(url: str, arguments: argparse.Namespace) -> None:
    with EventStore.connect(url, schema=_SCHEMA, migrate=True) as store:
        contenders = {
            "limit: NOTIFY in every commit": (limit(url), "insert"),
            "indelible subscription": (subscription(store), "append"),
            "indelible consumer group": (group(store), "append"),
        }
        late: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for name, (begin, how) in contenders.items():
                reader = Reader(begin)
                subprocess.run(
                    [
                        *(sys.executable, __file__, "--url", url, "--write", how),
                        *("--rate", str(arguments.rate), "--seconds", str(arguments.seconds)),
                    ],
                    check=True,
                )
                wanted = int(arguments.rate * arguments.seconds)
                deadline = time.monotonic() + 30
                while len(reader.late) < wanted and time.monotonic() < deadline:
                    time.sleep(0.01)
                reader.stop()
                if len(reader.late) != wanted:
                    raise SystemExit(f"{name}: {len(reader.late)} of {wanted} events came")
                late[name] += reader.late
    print(f"\nappend → handler at {arguments.rate:,.0f} events/s (ms)")
    print(f"{'':32}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>8}   p50 / limit")
    base = statistics.median(late["limit: NOTIFY in every commit"])
    for name, found in late.items():
        found.sort()
        cells = [found[int(len(found) * part)] * 1000 for part in (0.5, 0.9, 0.99)]
        cells.append(found[-1] * 1000)
        row = "".join(f"{cell:8.2f}" for cell in cells)
        print(f"{name:32}{row}{statistics.median(found) / base:14.2f}")


def price_of_head(url: str) -> None:
    print("\nhead(), one caller (ms)")
    with EventStore.connect(url, schema=_SCHEMA) as store, ExitStack() as idle:
        for connections in (0, 100):
            for _ in range(connections):
                idle.enter_context(psycopg.connect(url, autocommit=True))
            store.head()
            taken = []
            for _ in range(2000):
                begun = time.perf_counter()
                store.head()
                taken.append(time.perf_counter() - begun)
            taken.sort()
            print(
                f"{connections:4} idle connections: p50 {taken[1000] * 1000:.3f}"
                f"  p99 {taken[1980] * 1000:.3f}"
            )


def catch_up(url: str) -> None:
    with EventStore.connect(url, schema=_SCHEMA) as store:
        total = sum(1 for _ in store.read_all(Query(types="Reacted")))
        for name, threads in (("1 thread", 1), ("4 threads", 4)):
            named = store.group(f"catch-up-{time.time_ns()}")
            named.create(Query(types="Reacted"))
            begun = time.perf_counter()
            with named.consume() as consumer:

                def work(consumer=consumer) -> None:  # type: ignore[no-untyped-def]
                    for delivery in consumer:
                        delivery.ack()

                workers = [threading.Thread(target=work) for _ in range(threads)]
                for worker in workers:
                    worker.start()
                named.wait_for(store.head(), timeout=300)
                seconds = time.perf_counter() - begun
                consumer.stop()
                for worker in workers:
                    worker.join()
            named.delete()
            print(f"a group catches up, {name}: {total / seconds:,.0f} events/s")


@contextmanager
def server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="indelible-bench-"))
    folder.chmod(0o755)
    started = embedded.start(folder / "server")
    try:
        yield started.url
    finally:
        started.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--url", help="a database to use instead of a server of its own")
    parser.add_argument("--write", choices=["append", "insert"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write = append_at_rate if arguments.write == "append" else insert_at_rate
        write(arguments.url, arguments.rate, arguments.seconds)
        return
    with server(arguments.url) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            shown = {
                name: connection.execute(f"SHOW {name}").fetchone()[0]  # type: ignore[index]
                for name in _SETTINGS
            }
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE")
            connection.execute("DROP TABLE IF EXISTS bench_limit")
            connection.execute(
                "CREATE TABLE bench_limit (id bigserial PRIMARY KEY, data jsonb NOT NULL)"
            )
        print(
            f"Python {platform.python_version()};", ", ".join(f"{n} {v}" for n, v in shown.items())
        )
        react(url, arguments)
        price_of_head(url)
        print()
        catch_up(url)


if __name__ == "__main__":
    main()
