"""The plugin for pytest: fixtures for tests that need a store.

pytest finds it by itself where Indelible is installed; nothing is started until a test asks for one
of the fixtures.
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
    """Add the option that says on which database the stores of tests are made."""
    parser.getgroup("indelible").addoption(
        "--indelible-url",
        metavar="URL",
        help="the database in which stores for tests are made, each in a schema of its own: a"
        f" postgresql:// or embedded:// URL (default: ${URL_VARIABLE}, else an embedded PostgreSQL"
        " that is gone afterwards)",
    )


@pytest.fixture(scope="session")
def indelible_url(request: pytest.FixtureRequest) -> str | None:
    """The database in which stores are made; None for an embedded one that is gone afterwards.

    Override it for another way to find it.
    """
    given: str | None = request.config.getoption("--indelible-url")
    return given or os.environ.get(URL_VARIABLE) or None


@pytest.fixture(scope="session")
def indelible_events() -> Any:
    """The event classes of `event_store` and `async_event_store`: override it with yours."""
    return ()


@pytest.fixture(scope="session")
def indelible_stores(indelible_url: str | None) -> Iterator[FreshStores]:
    """What makes the stores of this run, and keeps them from one test to the next."""
    with fresh_stores(indelible_url) as stores:
        yield stores


@pytest.fixture
def fresh_store(indelible_stores: FreshStores) -> Iterator[FreshStore]:
    """Where an empty store of this test's own is, for those who open it themselves."""
    with indelible_stores.store() as store:
        yield store


@pytest.fixture
def event_store(fresh_store: FreshStore, indelible_events: Any) -> Iterator[EventStore]:
    """An empty store of this test's own."""
    with fresh_store.connect(events=indelible_events) as store:
        yield store


@pytest.fixture
def async_event_store(
    fresh_store: FreshStore, indelible_events: Any
) -> AsyncOpening[AsyncEventStore]:
    """The same for `async` code, to be entered: `async with async_event_store as store:`.

    It is opened on the event loop of the test, whatever runs that.
    """
    return fresh_store.connect_async(events=indelible_events)
