"""The servers of the tests, and stores on them.

Every contract test runs sync and async on every server: the embedded PostgreSQL 18, an installed
PostgreSQL (15 on Debian 12), and the database of `$INDELIBLE_TEST_URL` if it is set. Each test has
its own schema, from the pytest plugin of the library.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from indelible import AsyncEventStore, EventStore, embedded
from indelible.testing.temporary_stores import FreshStores
from tests.support.servers import SystemServer, system_binaries
from tests.support.sync_adapter import SyncAdapter

# A background job of a shell ignores interrupts, and so would all processes that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Both measure wall-clock time, which depends on the load of the machine and not on the test.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")


def _server_names() -> list[str]:
    """The servers that are there; of these, if it is set, those of $INDELIBLE_TEST_SERVERS."""
    names = ["embedded"]
    if system_binaries() is not None:
        names.append("system")
    if os.environ.get("INDELIBLE_TEST_URL"):
        names.append("given")
    wanted = os.environ.get("INDELIBLE_TEST_SERVERS", ",".join(names)).split(",")
    return [name for name in names if name in wanted]


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder below the system's temporary one, which the server's account can reach."""
    folder = Path(tempfile.mkdtemp(prefix="indelible-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(server_folder: Path) -> Iterator[Callable[[str], str]]:
    """Start a server by its name, once; give the URL of a database on it, as its superuser.

    It goes on until the end: where tests run in several processes, one that is done takes over
    from another, and comes back to a server that it had left.
    """
    with ExitStack() as running:

        @functools.cache
        def start(name: str) -> str:
            if name == "given":
                return os.environ["INDELIBLE_TEST_URL"]
            if name == "system":
                return running.enter_context(SystemServer(server_folder / "system")).url
            return running.enter_context(closing(embedded.start(server_folder / "embedded"))).url

        yield start


@pytest.fixture(scope="session", params=_server_names())
def server_url(request: pytest.FixtureRequest, servers: Callable[[str], str]) -> str:
    """The URL of a database on one of the servers, as its superuser."""
    return servers(request.param)


@pytest.fixture(scope="session")
def indelible_url(server_url: str) -> str:
    """Where the library's own plugin for pytest makes stores: on each of the servers."""
    return server_url


@pytest.fixture
def schema(request: pytest.FixtureRequest, server_url: str) -> Iterator[str]:
    """The name of the test's schema: there is none in the database, unless it asks for `url`."""
    if "url" in request.fixturenames:
        yield request.getfixturevalue("fresh_store").schema
        return
    name = f"test_{uuid4().hex[:12]}"
    yield name
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def second_schema(indelible_stores: FreshStores) -> Iterator[str]:
    """The name of a schema with a second store."""
    with indelible_stores.store() as store:
        yield store.schema


@pytest.fixture
def url(server_url: str, schema: str) -> str:
    """The URL of a database with an empty store in `schema`."""
    return server_url


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection]:
    """A connection as the owner of the store, in autocommit, that finds its tables by name."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


class Connect:
    """Opens stores of one variant on the test's schema, and closes them after the test."""

    def __init__(self, variant: str, url: str, schema: str, runner: asyncio.Runner) -> None:
        self.variant = variant
        self._url = url
        self._schema = schema
        self._runner = runner
        self._stores: list = []

    def __call__(self, url: str | None = None, **options: Any) -> EventStore:
        options = {"schema": self._schema, "pool_size": 4, **options}
        store: Any
        if self.variant == "sync":
            store = EventStore.connect(url or self._url, **options)
        else:
            store = SyncAdapter(self._open(url or self._url, options), self._runner)
        self._stores.append(store)
        opened: EventStore = store
        return opened

    def _open(self, url: str, options: dict) -> AsyncEventStore:
        async def connect() -> AsyncEventStore:
            return await AsyncEventStore.connect(url, **options)

        return self._runner.run(connect())

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, url: str, schema: str) -> Iterator[Connect]:
    """Opens stores sync and async; the async one is shown behind a synchronous API."""
    with asyncio.Runner() as runner:
        opened = Connect(request.param, url, schema, runner)
        yield opened
        opened.close()


@pytest.fixture
def store(connect: Connect) -> EventStore:
    """A fresh store without registered classes, sync and async on every server."""
    return connect()


@pytest.fixture
def sync_store(url: str, schema: str) -> Iterator[EventStore]:
    """A fresh store in the sync variant only, for tests whose subject is not the client API."""
    with EventStore.connect(url, schema=schema, pool_size=20) as store:
        yield store


@pytest.fixture
def second_store(server_url: str, second_schema: str) -> Iterator[EventStore]:
    """Another store of its own beside `sync_store`."""
    with EventStore.connect(server_url, schema=second_schema) as store:
        yield store
