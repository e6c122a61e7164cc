"""A store with accounts, for the tests of deciders, aggregates and snapshots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from indelible import EventStore
from indelible.postgres.migrations import migrate_store
from indelible.postgres.settings import Settings
from tests.conftest import Connect
from tests.support.accounts import AccountEvent


@pytest.fixture(scope="module")
def account_stores(server_url: str) -> Iterator[dict[str, EventStore]]:
    """A fresh store by variant, for the whole of a file, whose tests have streams of their own."""
    schema = f"test_{uuid4().hex[:12]}"
    migrate_store(Settings(server_url, schema))
    with asyncio.Runner() as runner:
        opened = {
            variant: Connect(variant, server_url, schema, runner) for variant in ("sync", "async")
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


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Keep the log from pytest, which cannot send half a surrogate pair from process to process."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
