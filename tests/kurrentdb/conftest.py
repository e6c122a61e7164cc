"""A server for KurrentDB's clients, its store, and the Python client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kurrentdbclient import KurrentDBClient

from indelible import EventStore
from tests.support.kurrentdb_calls import Calls, calls_of
from tests.support.kurrentdb_server import kurrentdb_served

Serve = Callable[..., str]


@pytest.fixture
def store(url: str, schema: str) -> Iterator[EventStore]:
    """The store behind the server."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


@pytest.fixture
def serve(url: str, schema: str) -> Iterator[Serve]:
    """Starts a server with given settings, and returns the connection string of its clients."""
    with ExitStack() as running:

        def start(**options: Any) -> str:
            return running.enter_context(kurrentdb_served(url, schema, **options))

        yield start


@pytest.fixture
def address(serve: Serve) -> str:
    """The connection string of a server."""
    return serve()


@pytest.fixture
def client(address: str) -> Iterator[KurrentDBClient]:
    """A client of a server."""
    opened = KurrentDBClient(address)
    yield opened
    opened.close()


@pytest.fixture
def calls(address: str) -> Iterator[Calls]:
    """The calls of a server, without a client."""
    with calls_of(address) as opened:
        yield opened
