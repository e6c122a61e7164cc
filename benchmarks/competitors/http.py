"""Indelible through its server: HTTP and JSON, on a local TCP port, without tokens.

The clients are as thin as they can be, so that the server is measured: requests are bytes on a
socket, and of an answer only the status, the length and the body are read.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks.events import DECODERS, Event, encode
from benchmarks.harness.server import Server

from . import Conflict, Peer, Store, Stream
from .indelible import database
from .ports import free_port, wait_for

_decode = msgspec.json.Decoder(type=dict[str, msgspec.Raw]).decode


@contextmanager
def _served(server: Server) -> Iterator[Mapping[str, Any]]:
    """Start a server for a database of its own."""
    with database(server) as place:
        port = free_port()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "indelible",
                "serve",
                "--port",
                str(port),
                "--url",
                place["url"],
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(port, process)
            yield {
                "url": f"http://127.0.0.1:{port}",
                "database": place["url"],
                "process": process.pid,
            }
        finally:
            process.terminate()
            process.wait(20)


def _request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: localhost", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _append(stream: Stream, events: Sequence[Event], version: int) -> bytes:
    expected = "no-stream" if version < 0 else version
    body = encode(
        {
            "expected": expected,
            "events": [{"type": type(event).__name__, "data": event} for event in events],
        }
    )
    return _request("POST", f"/streams/{stream.name}/events", body)


class HttpIndelible(Store):
    """A client with one connection, and one more for each subscription."""

    def __init__(self, url: str, database: str, process: int) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname, place.port
        self._connection = http.client.HTTPConnection(place.netloc)

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        if self._connection.sock is None:
            self._connection.connect()
        self._connection.sock.sendall(_append(stream, events, version))
        answer = http.client.HTTPResponse(self._connection.sock, method="POST")
        answer.begin()
        body = answer.read()
        if answer.status == 409:
            raise Conflict
        if answer.status != 201:
            raise AssertionError(body)

    def scan(self, how: str) -> int:
        answer = self._asked("/api/v1/events", "application/x-ndjson")
        found = 0
        while part := answer.read1(1 << 20):
            found += part.count(b"\n")
        return found

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        connection = socket.create_connection((self._host, self._port), timeout=30)
        start = "head" if at_end else "0"
        connection.sendall(_request("GET", f"/events/subscribe?after={start}"))
        received = b""
        while b"retry:" not in received:  # the subscription has begun
            received += connection.recv(65_536)
        connection.settimeout(None)

        def read() -> None:
            # A part of the chunked body has whole messages.
            rest = b""
            while part := connection.recv(65_536):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    # Other messages, such as that it caught up, are no events.
                    if line.startswith(b'data: {"position"') and b'"stream"' in line:
                        note(DECODERS["OrderPlaced"](bytes(_decode(line[6:])["data"])))

        thread = threading.Thread(target=read)
        thread.start()

        def stop() -> None:
            connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            connection.close()

        return stop

    def close(self) -> None:
        self._connection.close()

    def _asked(self, path: str, media_type: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers={"Accept": media_type})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise AssertionError(answer.read())
        return answer


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None and self._answered is not None:
            self._answered.set_exception(exc or ConnectionError("the server closed a connection"))
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        if len(body) == length:
            self._received = b""
            answered, self._answered = self._answered, None
            if answered is not None:
                answered.set_result((int(head[9:12]), body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return the status and the body of its answer."""
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._answered = answered
        self._transport.write(request)
        return await answered

    def close(self) -> None:
        """Close the connection."""
        transport, self._transport = self._transport, None
        transport.close()


class AsyncHttpIndelible:
    """A connection for each task that waits for an answer."""

    def __init__(self, place: str) -> None:
        host, _, port = place.partition(":")
        self._host, self._port = host, int(port)
        self._idle: list[_Connection] = []

    @classmethod
    async def open(cls, url: str, database: str, process: int) -> AsyncHttpIndelible:
        """Open it in the running loop."""
        return cls(urlsplit(url).netloc)

    async def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        """As in `Store`."""
        if self._idle:
            connection = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        status, body = await connection.ask(_append(stream, events, version))
        if status != 201:
            raise AssertionError(body)
        self._idle.append(connection)

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._idle:
            connection.close()


def resident(process: int) -> float:
    """Return the memory that a process has now, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not report the memory of a process: run it on Linux")


HTTP = Peer("Indelible", "over HTTP", "indelible", f"{__name__}:HttpIndelible", _served)
ASYNC_HTTP = Peer(
    "Indelible", "over HTTP", "indelible", f"{__name__}:AsyncHttpIndelible.open", _served
)
