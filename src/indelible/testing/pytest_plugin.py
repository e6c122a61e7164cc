"""The pytest plugin: fixtures for tests that need a store.

pytest loads it automatically if Indelible is installed. No server is started until a test uses
one of the fixtures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from indelible.core.concurrency_async import AsyncOpening
from indelible.store import AsyncEventStore, EventStore
from indelible.store.connect import URL_VARIABLE

from .temporary_stores import FreshStore, FreshStores, fresh_stores


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the database of the test stores."""
    parser.getgroup("indelible").addoption(
        "--indelible-url",
        metavar="URL",
        help="the database of the test stores, each in its own schema: a postgresql:// or"
        f" embedded:// URL (default: ${URL_VARIABLE}, else a temporary embedded PostgreSQL)",
    )


@pytest.fixture(scope="session")
def indelible_url(request: pytest.FixtureRequest) -> str | None:
    """The URL of the database for test stores; None for a temporary embedded PostgreSQL.

    Override this fixture to choose the database in another way.
    """
    given: str | None = request.config.getoption("--indelible-url")
    return given or os.environ.get(URL_VARIABLE) or None


@pytest.fixture(scope="session")
def indelible_events() -> Any:
    """The event classes of `event_store` and `async_event_store`. Override it with your own."""
    return ()


@pytest.fixture(scope="session")
def indelible_stores(indelible_url: str | None) -> Iterator[FreshStores]:
    """The factory of the stores of this test run. It reuses stores between tests."""
    with fresh_stores(indelible_url) as stores:
        yield stores


@pytest.fixture
def fresh_store(indelible_stores: FreshStores) -> Iterator[FreshStore]:
    """The URL and schema of an empty store, for tests that open it themselves."""
    with indelible_stores.store() as store:
        yield store


@pytest.fixture
def event_store(fresh_store: FreshStore, indelible_events: Any) -> Iterator[EventStore]:
    """An open, empty store that only this test uses."""
    with fresh_store.connect(events=indelible_events) as store:
        yield store


@pytest.fixture
def async_event_store(
    fresh_store: FreshStore, indelible_events: Any
) -> AsyncOpening[AsyncEventStore]:
    """An empty async store. Open it with `async with async_event_store as store:`.

    It is opened in the event loop of the test.
    """
    return fresh_store.connect_async(events=indelible_events)
