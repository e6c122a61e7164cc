"""UmaDB: a store in Rust, with its Python client.

Its server is in the wheel, and is started with a new file as the documentation says. Clients
connect with gRPC over a local TCP port, while PostgreSQL uses a Unix socket.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.events import DECODERS, Event, encode
from benchmarks.harness.server import Server

from . import Conflict, NotRun, Peer, Store, Stream
from .ports import free_port, wait_for


@contextmanager
def _server(server: Server) -> Iterator[Mapping[str, Any]]:
    program = Path(sys.executable).with_name("umadb")
    if not program.exists():
        raise NotRun("umadb is not installed: make bench installs it")
    folder = Path(tempfile.mkdtemp(prefix="umadb-", dir=server.folder))
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(program), "--listen", f"127.0.0.1:{port}", "--db-path", str(folder / "events")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(port, process)
        yield {"url": f"http://127.0.0.1:{port}"}
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class UmaDB(Store):
    """One client, shared by all threads. A stream is a tag, its version a condition on the tag."""

    def __init__(self, url: str) -> None:
        # Imported here: the import replaces the handler of SIGINT, and fails outside the main
        # thread.
        import umadb

        self._umadb = umadb
        self._client = umadb.Client(url)
        self._positions: dict[Stream, int] = {}

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        self._positions[stream] = self._append_if(
            stream.name, events, self._positions.get(stream) if version >= 0 else None
        )

    def append_anyway(self, stream: Stream, events: Sequence[Event]) -> None:
        self._client.append([self._event(event, stream.name) for event in events])

    def last_version(self, stream: Stream) -> int:
        # Read to the end: dropping a response early resets its connection.
        found = list(self._client.read(self._tagged(stream.name), backwards=True, limit=1))
        if not found:
            return -1
        self._positions[stream] = found[0].position
        return int(found[0].position)

    def append_if_none(self, tag: str, event: Event, after: int | None) -> int:
        return self._append_if(tag, [event], after)

    def load(self, stream: Stream) -> list[Event]:
        return [_typed(found) for found in self._client.read(self._tagged(stream.name))]

    def scan(self, how: str) -> int:
        query = None
        if how == "matching":
            query = self._umadb.Query([self._umadb.QueryItem(types=["OrderReviewed"])])
        if how == "raw":
            return sum(1 for _ in self._client.read(query))
        return sum(1 for _ in map(_typed, self._client.read(query)))

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        subscription = self._client.subscribe(after=self._client.head() if at_end else None)

        def read() -> None:
            try:
                for found in subscription:
                    note(_typed(found))
            except self._umadb.CancelledByUserError:
                return

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            subscription.cancel()
            thread.join(10)

        return stop

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        self.append_anyway(stream, events)  # a call is a commit: it can be neither slow nor undone
        return True

    def close(self) -> None:
        self._client.close()

    def _append_if(self, tag: str, events: Sequence[Event], after: int | None) -> int:
        condition = self._umadb.AppendCondition(self._tagged(tag), after)
        try:
            return int(
                self._client.append([self._event(event, tag) for event in events], condition)
            )
        except self._umadb.IntegrityError as error:
            raise Conflict from error

    def _tagged(self, tag: str) -> Any:
        return self._umadb.Query([self._umadb.QueryItem(tags=[tag])])

    def _event(self, event: Event, tag: str) -> Any:
        return self._umadb.Event(type(event).__name__, encode(event), [tag])


def _typed(found: Any) -> Event:
    event = found.event
    return DECODERS[event.event_type](event.data)


UMADB = Peer("UmaDB", "", "peer", f"{__name__}:UmaDB", _server)
