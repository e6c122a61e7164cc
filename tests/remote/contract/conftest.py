"""The contract of a store, over HTTP: the same tests, with a store behind a server.

Each module here imports the tests of a module of `tests/contract`. Tests that open no store with
`connect` are left out, and so are those in `EXCLUDED`, for the reason that stands there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from indelible import EventStore
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from tests.conftest import Connect
from tests.remote.contract.excluded import EXCLUDED
from tests.support.accounts import AccountEvent
from tests.support.http_server import served


class RemoteConnect(Connect):
    """Opens stores over HTTP, on a server for the test's schema."""

    def __init__(self, variant: str, url: str, schema: str, runner: asyncio.Runner) -> None:
        super().__init__(variant, url, schema, runner)
        self._servers = ExitStack()
        self._address: str | None = None

    def __call__(self, url: str | None = None, **options: Any) -> EventStore:
        if self._address is None:
            self._address = self._servers.enter_context(served(self._url, self._schema))
        options = {"timeout": 10.0, "schema": None, **options}
        return super().__call__(self._address, **options)

    def close(self) -> None:
        super().close()
        self._servers.close()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, url: str, schema: str) -> Iterator[Connect]:
    """Opens stores sync and async; the async one is shown behind a synchronous API."""
    with asyncio.Runner() as runner:
        opened = RemoteConnect(request.param, url, schema, runner)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def account_stores(server_url: str) -> Iterator[dict[str, EventStore]]:
    """A fresh store by variant, for the whole of a file, whose tests have streams of their own."""
    schema = f"test_{uuid4().hex[:12]}"
    migrate_store(Settings(server_url, schema))
    with asyncio.Runner() as runner:
        opened = {
            variant: RemoteConnect(variant, server_url, schema, runner)
            for variant in ("sync", "async")
        }
        yield {variant: connect(events=AccountEvent) for variant, connect in opened.items()}
        for connect in opened.values():
            connect.close()
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def stream() -> str:
    """A stream that was never written."""
    return f"account-{uuid4()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, left_out = [], []
    for item in items:
        (left_out if _is_left_out(item) else kept).append(item)
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def _is_left_out(item: pytest.Item) -> bool:
    if Path(__file__).parent not in item.path.parents or item.path.stem == "test_all":
        return False
    name = getattr(item, "originalname", item.name)
    opens = {"connect", "account_stores"} & set(getattr(item, "fixturenames", ()))
    return not opens or name in EXCLUDED.get(item.path.stem, {})
