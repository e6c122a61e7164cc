"""Stores over HTTP, and a proxy that breaks their connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from indelible import EventStore
from tests.support.http_server import served

Serve = Callable[..., str]


@pytest.fixture
def direct(url: str, schema: str) -> Iterator[EventStore]:
    """The store behind the server, connected to the database."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


@pytest.fixture
def serve(url: str, schema: str) -> Iterator[Serve]:
    """Starts a server with given settings, and returns its address."""
    with ExitStack() as running:

        def start(**options: Any) -> str:
            return running.enter_context(served(url, schema, **options))

        yield start


class Proxy:
    """Forwards connections to a server, and breaks them.

    Attributes:
        url: the address of the proxy.
        swallows: how many answers to break before their first byte.
        connections: how many connections there were.
    """

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._target = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.swallows = 0
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break all connections."""
        for one in self._open:
            _break(one)

    def close(self) -> None:
        _break(self._listening)
        self.cut()
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            self._open += (client, server)
            for thread in (
                threading.Thread(target=self._forward, args=(client, server, False)),
                threading.Thread(target=self._forward, args=(server, client, True)),
            ):
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while received := source.recv(65_536):
                if is_answer and self.swallows:
                    self.swallows -= 1
                    break
                target.sendall(received)
        _break(source)
        _break(target)


def _break(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@pytest.fixture
def proxy(serve: Serve) -> Iterator[Proxy]:
    """A proxy before a server."""
    opened = Proxy(serve())
    yield opened
    opened.close()
