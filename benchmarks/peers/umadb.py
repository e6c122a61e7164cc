"""UmaDB: a DCB store of its own in Rust, its server from the wheel, called from Python."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from benchmarks import samples
from benchmarks.harness import NotHere, Role, Turn, in_threads
from benchmarks.machine import Bench

_interrupt = signal.getsignal(signal.SIGINT)
try:
    import umadb
except ImportError:
    umadb = None  # type: ignore[assignment]
signal.signal(signal.SIGINT, _interrupt)  # importing it replaces the handler


class Server:
    """Its server, on a port of its own."""

    def __init__(self, bench: Bench) -> None:
        program = Path(sys.executable).parent / "umadb"
        if not program.exists():
            raise NotHere("the package umadb is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._process = subprocess.Popen(
            [
                str(program),
                "--listen",
                f"127.0.0.1:{port}",
                "--db-path",
                str(bench.folder / f"uma-{uuid4().hex[:8]}.db"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise NotHere("umadb did not start") from error
                time.sleep(0.05)
        self.client = umadb.Client(f"http://127.0.0.1:{port}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class UmaDB:
    """Appends events, each with one tag, from threads."""

    role: Role = "peer"

    def __init__(self, bench: Bench, *, writers: int, size: int) -> None:
        self.name = "UmaDB" if writers == 1 else f"UmaDB, {writers} threads"
        self._server = Server(bench)
        self._writers, self._size = writers, size

    def turn(self, bench: Bench) -> Turn:
        return in_threads(self._writers, bench.seconds, self._append)

    def _append(self, writer: int, times: int) -> int:
        self._server.client.append(
            [
                umadb.Event(
                    event_type="OrderCreated",
                    data=samples.encode(samples.order(times)),
                    tags=[f"order:{writer}-{times % samples.STREAMS}"],
                )
                for _ in range(self._size)
            ]
        )
        return self._size

    def close(self) -> None:
        self._server.close()


def appending(*, writers: int = 1, size: int = 1) -> Callable[[Bench], UmaDB]:
    def umadb_(bench: Bench) -> UmaDB:
        return UmaDB(bench, writers=writers, size=size)

    return umadb_
