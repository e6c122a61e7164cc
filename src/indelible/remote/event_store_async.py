"""An event store over HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeVar, cast, overload

from indelible.admin.event_types import TypeInfo
from indelible.admin.statistics import StoreStats
from indelible.consumer_groups.types import GroupInfo
from indelible.core.validation import validate_integer
from indelible.errors import InvalidInput, NeedsDatabase, WaitTimeout
from indelible.postgres.engine_async import AsyncPoolEngine
from indelible.query import Query
from indelible.serialization.event_classes import EventClasses, Unknown
from indelible.store.base_async import AsyncStoreBase
from indelible.store.connect import append_settings, check_timeout
from indelible.store.event_store_async import AsyncEventStore
from indelible.streams import head
from indelible.streams.append_input import AppendSettings
from indelible.streams.read_log import BoundedLogReading
from indelible.streams.read_options import LogReadOptions, StreamReadOptions
from indelible.streams.read_stream import StreamReading
from indelible.subscriptions.log_follower import Start

from . import facts, groups, readings
from .engine_async import AsyncRemoteEngine
from .group_async import AsyncRemoteGroup
from .subscription_async import AsyncRemoteSubscription

Data = TypeVar("Data")

TOKEN_VARIABLE = "INDELIBLE_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the token. It is used if no token is passed."""


class AsyncRemoteEventStore(AsyncEventStore):
    """An event store over HTTP, which `AsyncEventStore.connect` opens for `https://…`.

    It appends, reads, decides, subscribes and consumes as a store that is connected to the
    database. What needs the database raises `NeedsDatabase`: transactions with your own SQL,
    projections, imports, tokens. States of aggregates are loaded without snapshots.

    Example:
        ```python
        async with AsyncEventStore.connect("https://events.example.com", token=token) as store:
            await store.append("order-17", NewEvent("OrderPaid", {"total": 12}), expected=4)
        ```
    """

    def __init__(self, engine: AsyncRemoteEngine, writing: AppendSettings) -> None:
        AsyncStoreBase.__init__(self, cast(AsyncPoolEngine, engine), writing)
        self._server = engine

    @property
    def _wakeup(self) -> NoReturn:  # type: ignore[override]
        """Refuse what follows the database by itself."""
        raise NeedsDatabase

    def _stream_reading(self, stream: str, options: StreamReadOptions) -> StreamReading:
        return readings.stream_reading(self._append_settings.codec, stream, options)

    def _log_reading(self, query: Any, options: LogReadOptions) -> BoundedLogReading:
        return readings.log_reading(self._append_settings.codec, query, options)

    async def stats(self) -> StoreStats:
        """Return the size of the store, in total and per channel."""
        return await self._server.run(facts.stats())

    async def types(self) -> list[TypeInfo]:
        """Return the event types in the log, in order of name; see `AsyncEventStore.types`."""
        return await self._server.run(facts.types(self._append_settings.codec))

    @overload
    def subscribe(
        self, query: type[Data], *, after: Start = 0, deliver_when_valid: bool = False
    ) -> AsyncRemoteSubscription[Data]: ...

    @overload
    def subscribe(
        self,
        query: Query | UnionType | None = None,
        *,
        after: Start = 0,
        deliver_when_valid: bool = False,
    ) -> AsyncRemoteSubscription[Any]: ...

    def subscribe(
        self, query: Any = None, *, after: Start = 0, deliver_when_valid: bool = False
    ) -> AsyncRemoteSubscription[Any]:
        """Subscribe to the log by server-sent events; see `AsyncEventStore.subscribe`."""
        return AsyncRemoteSubscription(
            self._server,
            self._append_settings.codec,
            query,
            after=after,
            deliver_when_valid=deliver_when_valid,
        )

    def group(self, name: str) -> AsyncRemoteGroup:
        """Return a handle to a consumer group; see `AsyncEventStore.group`."""
        return AsyncRemoteGroup(name, self._server, self._append_settings.codec)

    async def groups(self) -> list[GroupInfo]:
        """Return the status of all consumer groups, in order of name."""
        return await self._server.run(groups.infos())

    async def wait_for(self, reader: str, position: int, timeout: float = 10.0) -> int:
        """Wait until a reader has processed a position; see `AsyncEventStore.wait_for`."""
        validate_integer("position", position)
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 0)
            found = await self._server.run(facts.wait_for(reader, position, left))
            if found >= position:
                return found
            if time.monotonic() >= deadline:
                raise WaitTimeout(reader, position, found, timeout)

    async def close(self) -> None:
        """Close all connections. A closed store raises `StoreClosed`. You may close it twice."""
        await self._server.close()


async def open_remote_async(
    url: str,
    *,
    token: str | None,
    ca_file: str | Path | None,
    events: EventClasses,
    unknown: Unknown,
    channel: str | None,
    metadata: Callable[[], Mapping[str, Any] | None] | None,
    max_event_bytes: int,
    pool_size: int,
    timeout: float,
    direct: Mapping[str, object],
) -> AsyncRemoteEventStore:
    """Open a store over HTTP; see `AsyncEventStore.connect`.

    Args:
        url: the URL of the server.
        token: the token; None for `$INDELIBLE_TOKEN`.
        ca_file: the certificates that are trusted; None for those of the system.
        events: as for `connect`.
        unknown: as for `connect`.
        channel: as for `connect`.
        metadata: as for `connect`.
        max_event_bytes: as for `connect`.
        pool_size: how many connections are kept open.
        timeout: as for `connect`.
        direct: options that only a connection to the database has.

    Raises:
        InvalidInput: an option is not valid, or needs a connection to the database.
        DatabaseUnreachable: the server cannot be reached.
        TokenRefused: the server does not accept the token.
    """
    for option, value in direct.items():
        if value not in (None, False, []):
            raise InvalidInput(
                f"{option} needs a connection to the database, and {url} is a server: leave it out,"
                " or connect with the URL of the database (postgresql://…)"
            )
    writing = append_settings(
        events=events,
        unknown=unknown,
        channel=channel,
        metadata=metadata,
        max_event_bytes=max_event_bytes,
    )
    engine = AsyncRemoteEngine(
        url,
        writing.codec,
        token=os.environ.get(TOKEN_VARIABLE) if token is None else token,
        ca_file=ca_file,
        pool_size=validate_integer("pool_size", pool_size, 1),
        timeout=check_timeout(timeout),
    )
    try:
        await engine.run(head.epoch())
    except BaseException:
        await engine.close()
        raise
    return AsyncRemoteEventStore(engine, writing)
