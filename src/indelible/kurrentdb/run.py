"""Run a server until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from indelible import AsyncEventStore, InvalidInput

from . import appends, cluster, not_served, reads
from .first_start import write_system_events
from .served_store import ServedStore
from .settings import KurrentSettings
from .transport import Transport

_GRACE = 10.0
"""Seconds that calls may take to end when the server stops."""


def serve(settings: KurrentSettings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. Then end the calls: clients try them again.

    Args:
        settings: the settings of the server.
        ready: called once with the connection string for clients, when the server answers.

    Raises:
        InvalidInput: the address cannot be used.
    """
    asyncio.run(_serve_until_stopped(settings, ready))


async def _serve_until_stopped(settings: KurrentSettings, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as address:
        ready(address)
        await stop.wait()


@asynccontextmanager
async def serving(settings: KurrentSettings) -> AsyncIterator[str]:
    """Serve while the block runs; give the connection string for clients.

    Raises:
        InvalidInput: the address cannot be used.
    """
    listening = _listen(settings)
    port = listening.getsockname()[1]
    async with AsyncEventStore.connect(
        settings.url,
        schema=settings.schema,
        pool_size=settings.pool_size,
        timeout=settings.timeout,
        max_event_bytes=settings.max_event_bytes,
    ) as store:
        # Data passes through as it is stored, under names that begin with $, too.
        store._append_settings.codec.keep_as_stored()
        store._append_settings = replace(store._append_settings, takes_reserved_names=True)
        await write_system_events(store)
        served = ServedStore(store, settings)
        main = [*appends.methods(served), *reads.methods(served)]
        transport = Transport(
            [
                *main,
                *cluster.methods(served, lambda: settings.advertised(port), main),
                *not_served.methods(),
            ],
            max_calls=settings.max_calls,
            max_message_bytes=settings.max_message_bytes,
        )
        await transport.start(listening)
        try:
            yield settings.address(port)
        finally:
            await transport.stop(_GRACE)


def _listen(settings: KurrentSettings) -> socket.socket:
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
        )
    except OSError as error:
        raise InvalidInput(
            f"the server cannot listen on {settings.host}:{settings.port}"
            f" ({error.strerror or error}): stop the program that uses the port, or choose another"
            " with --port"
        ) from error
