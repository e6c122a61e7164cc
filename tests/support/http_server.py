"""`indelible serve` in a process of its own, and requests that no client library would send."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.support.waiting import wait_until

_ADDRESS = re.compile(r"https?://[^\s\"/]+")


class HttpServer:
    """A server; a context manager that stops it.

    Attributes:
        port: its port, which it keeps when it starts again.
        address: its address.
        lines: what it has written to standard error since it started.
    """

    def __init__(self, url: str | None, schema: str, *arguments: str, **environment: str) -> None:
        self._arguments = arguments
        self._environment = {"INDELIBLE_SCHEMA": schema, **environment}
        if url is not None:
            self._environment["INDELIBLE_URL"] = url
        self.port = 0
        self.address = ""
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.process.pid

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.begin()
        wait_until(lambda: self.address or self.process.poll() is not None, 60)
        assert self.address, self.lines
        self.port = urlsplit(self.address).port or 0

    def begin(self) -> None:
        """Start it, and do not wait."""
        self.address, self.lines = "", []
        kept = {name: of for name, of in os.environ.items() if not name.startswith("INDELIBLE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "indelible", "serve", f"--port={self.port}", *self._arguments],
            env={**kept, **self._environment},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        code = self.process.wait(60)
        self._reader.join(30)
        return code

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as written:
            for line in written:
                self.lines.append(line.rstrip("\n"))
                if "indelible serves" in line and (found := _ADDRESS.search(line)):
                    self.address = found.group()


def children(pid: int) -> set[int]:
    """The workers of a server that run."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(child) for child in task.read_text("ascii").split()}
    return {child for child in found if "multiprocessing.spawn" in _command(child)}


def memory(pid: int) -> int:
    """The memory that a process had at its peak, in MiB."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    return int(line) // 1024


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def connect(address: str, *, receives: int | None = None) -> socket.socket:
    """Connect to a server.

    Args:
        address: its address.
        receives: the size of the buffer for what arrives, in bytes.
    """
    place = urlsplit(address)
    assert place.hostname is not None
    connection = socket.socket()
    if receives is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    connection.settimeout(30)
    connection.connect((place.hostname, place.port or 80))
    return connection


def rest(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def talk(address: str, sent: bytes) -> bytes:
    """Send bytes to a server, and return all that it answers until it closes."""
    with connect(address) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
        return rest(connection)
