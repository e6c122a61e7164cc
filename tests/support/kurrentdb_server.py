"""A server for KurrentDB's clients, in a thread of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from indelible.kurrentdb import KurrentSettings
from indelible.kurrentdb.run import serving
from tests.support.waiting import wait_until


@contextmanager
def kurrentdb_served(url: str, schema: str, **options: Any) -> Iterator[str]:
    """Serve a store; give the connection string for clients.

    Args:
        url: the database.
        schema: the schema of the store.
        **options: settings of the server.
    """
    settings = KurrentSettings(url=url, schema=schema, **{"port": 0, "pool_size": 4, **options})
    addresses: list[str] = []
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        async with serving(settings) as address:
            stops.append((asyncio.get_running_loop(), stop))
            addresses.append(address)
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        wait_until(lambda: addresses or not thread.is_alive())
        yield addresses[0]
    finally:
        for loop, stop in stops:
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
