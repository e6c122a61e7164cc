"""A server with the real HTTP stack, in a thread of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from indelible import EventStore
from tests.support.http_server import served

Serve = Callable[..., str]


@pytest.fixture
def store(url: str, schema: str) -> Iterator[EventStore]:
    """The store behind the server."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


@pytest.fixture
def serve(url: str, schema: str) -> Iterator[Serve]:
    """Starts a server with given settings, and returns its address."""
    with ExitStack() as running:

        def start(**options: Any) -> str:
            return running.enter_context(served(url, schema, **options))

        yield start


@pytest.fixture
def client(serve: Serve) -> Iterator[httpx.Client]:
    """A client of a server that asks for no tokens."""
    with httpx.Client(base_url=f"{serve()}/api/v1", timeout=30) as opened:
        yield opened
