"""A server with the real HTTP stack, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from indelible import EventStore
from indelible.server import ServerSettings
from indelible.server.run import configuration
from tests.support.waiting import wait_until

Serve = Callable[..., str]


@pytest.fixture
def store(url: str, schema: str) -> Iterator[EventStore]:
    """The store behind the server."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


@pytest.fixture
def serve(url: str, schema: str) -> Iterator[Serve]:
    """Starts a server with given settings, and returns its address."""
    running = []

    def start(**options: Any) -> str:
        settings = ServerSettings(url=url, schema=schema, pool_size=4, **options)
        server = uvicorn.Server(configuration(settings, port=0))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        port = server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def client(serve: Serve) -> Iterator[httpx.Client]:
    """A client of a server that asks for no tokens."""
    with httpx.Client(base_url=f"{serve()}/api/v1", timeout=30) as opened:
        yield opened
