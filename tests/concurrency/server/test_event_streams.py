"""Event streams of a server under load: nothing is missed or doubled, and idle ones cost little."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from indelible import ANY, EventStore, NewEvent
from tests.support.http_server import HttpServer, children, connect, memory
from tests.support.waiting import wait_until

MANY = 500
_ID = re.compile(rb"^id: ((\d+)\S*)\n(data: [^\n]*\"stream\")?", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="measures memory in /proc"
)


class Listener:
    """A client of server-sent events, which comes back with its last id when it loses the server.

    Attributes:
        positions: the positions of the events, in the order in which they came.
        caught_up: how often the server told that all stored events were sent.
        connections: how often it has connected.
    """

    def __init__(self, port: int) -> None:
        self.positions: list[int] = []
        self.caught_up = self.connections = 0
        self._port = port
        self._last_id = b""

    async def listen(self) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._connect()
            await asyncio.sleep(0.05)

    async def _connect(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            known = b"Last-Event-ID: %b\r\n" % self._last_id if self._last_id else b""
            writer.write(
                b"GET /api/v1/events/subscribe HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % known
            )
            status = await reader.readline()
            if status and not status.startswith(b"HTTP/1.1 200 "):
                raise AssertionError(status)
            self.connections += bool(status)
            kept = b""
            while part := await reader.read(65_536):
                # An event that has not arrived as a whole was not received: the server sends it
                # again after the last id.
                whole, end, kept = (kept + part).rpartition(b"\n\n")
                self.caught_up += whole.count(b"event: caught_up")
                for found in _ID.finditer(whole + end):
                    if found[3]:  # not of a heartbeat, or of what tells that it caught up
                        self.positions.append(int(found[2]))
                    self._last_id = found[1]
        finally:
            writer.close()


@contextmanager
def listening(port: int, count: int) -> Iterator[list[Listener]]:
    """Clients in an event loop of their own."""
    listeners = [Listener(port) for _ in range(count)]
    failures: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        tasks = [asyncio.ensure_future(each.listen()) for each in listeners]
        stopped = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        failures.extend(error for task in done if (error := task.exception()) is not None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield listeners
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()
    assert failures == []


def write(store: EventStore, name: str, count: int) -> None:
    for number in range(count):
        store.append(f"{name}-{number % 7}", NewEvent("A", {"n": number}), expected=ANY)


def write_at_once(work: Callable[[str], Any], names: list[str]) -> None:
    failures: list[BaseException] = []

    def guarded(name: str) -> None:
        try:
            work(name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert failures == []


def all_have(listeners: list[Listener], positions: list[int]) -> bool:
    return all(len(each.positions) >= len(positions) for each in listeners)


def check(listeners: list[Listener], store: EventStore) -> None:
    """Check that each has all events of the log, once and in order."""
    positions = [event.position for event in store.read_all()]
    wait_until(lambda: all_have(listeners, positions), 120)
    for each in listeners:
        assert each.positions == positions


@pytest.fixture
def store(sync_store: EventStore) -> EventStore:
    return sync_store


def test_many_clients_miss_nothing_and_idle_ones_cost_little(
    url: str, schema: str, store: EventStore
) -> None:
    with HttpServer(url, schema) as server:
        write(store, "before", 50)
        with listening(server.port, MANY) as listeners:
            wait_until(lambda: all(each.caught_up for each in listeners), 120)
            write_at_once(lambda name: write(store, name, 100), ["a", "b", "c", "d"])
            check(listeners, store)
            peak = memory(server.pid)

            # Backends report late what they did for the writers.
            wait_until(lambda: _statements_per_second(url) < 20, 90)  # each client polls otherwise
            assert {each.connections for each in listeners} == {1}
        assert server.stop() == 0
    assert peak < 300, "MiB"


def _statements_per_second(url: str, seconds: float = 2.0) -> float:
    """How many transactions the database runs for the server; a backend reports late, so wait."""

    def count() -> tuple[float, int]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            (row,) = connection.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ).fetchall()
        return time.monotonic(), row[0]

    begun_at, before = count()
    time.sleep(seconds)  # the span of the measurement
    ended_at, after = count()
    return (after - before) / (ended_at - begun_at)


def test_clients_resume_when_the_server_is_killed_under_load(
    url: str, schema: str, store: EventStore
) -> None:
    with HttpServer(url, schema) as server:
        address = f"http://127.0.0.1:{server.port}/api/v1"
        is_over = threading.Event()
        stored: dict[str, int] = {}

        def work(name: str) -> None:
            """Append by HTTP, and repeat each request until it is answered."""
            with httpx.Client(timeout=10) as client:
                while not is_over.is_set():
                    event_id = str(uuid4())
                    body = {"events": [{"type": "A", "id": event_id}], "expected": "any"}
                    stored[event_id] = 0
                    while True:
                        with suppress(httpx.TransportError):
                            answer = client.post(f"{address}/streams/{name}-1/events", json=body)
                            if answer.status_code in (200, 201):
                                break
                            assert answer.status_code == 503, answer.text
                        time.sleep(0.01)

        with listening(server.port, 50) as listeners:
            writers = threading.Thread(target=write_at_once, args=(work, ["a", "b", "c"]))
            writers.start()
            try:
                for _ in range(4):
                    seen = max(len(each.positions) for each in listeners)
                    wait_until(
                        lambda: all(len(each.positions) > seen + 50 for each in listeners),  # noqa: B023
                        120,
                    )
                    server.stop(signal.SIGKILL)
                    server.start()
            finally:
                is_over.set()
                writers.join(120)
            check(listeners, store)
            assert all(each.connections >= 4 for each in listeners)
        found = [str(event.id) for event in store.read_all()]
        assert sorted(found) == sorted(stored)


def test_clients_of_a_worker_that_is_killed_resume_at_another(
    url: str, schema: str, store: EventStore
) -> None:
    with HttpServer(url, schema, "--workers=2") as server:
        with listening(server.port, 60) as listeners:
            wait_until(lambda: all(each.caught_up for each in listeners), 60)
            for round_ in range(3):
                write(store, f"round{round_}", 50)
                victims = children(server.pid)
                os.kill(min(victims), signal.SIGKILL)
                write(store, f"after{round_}", 50)
                wait_until(
                    lambda: len(children(server.pid) - {min(victims)}) == 2,  # noqa: B023
                    60,
                )
            check(listeners, store)
            assert sum(each.connections for each in listeners) > 60


def test_clients_that_read_nothing_take_little_memory(
    url: str, schema: str, store: EventStore
) -> None:
    for _ in range(20):
        store.append("a-1", [NewEvent("A", {"x": "x" * 500_000})], expected=ANY)
    request = (
        b"GET /api/v1/events/subscribe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/events HTTP/1.1\r\nAccept: application/x-ndjson\r\nHost: localhost\r\n\r\n",
    )
    with HttpServer(url, schema) as server:
        held = [connect(server.address, receives=4_096) for _ in range(20)]
        try:
            for number, connection in enumerate(held):
                connection.sendall(request[number % 2])
                assert connection.recv(12) == b"HTTP/1.1 200"
            answer = httpx.get(f"{server.address}/api/v1/head", timeout=30)
            assert json.loads(answer.text)["position"] == "20"
            wait_until(lambda: _is_at_rest(server.pid))
            assert memory(server.pid) < 550
        finally:
            for connection in held:
                connection.close()


def _is_at_rest(pid: int) -> bool:
    """Whether a process has used little processor time for a moment."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.5)
    return ticks() - before < 5
