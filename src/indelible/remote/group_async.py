"""A consumer group over HTTP."""

from __future__ import annotations

import time
from typing import Any, cast

from indelible.consumer_groups.group_async import AsyncGroup
from indelible.consumer_groups.types import GroupInfo
from indelible.core.validation import validate_integer, validate_name
from indelible.core.worker_name import worker_name
from indelible.errors import WaitTimeout
from indelible.serialization.codec import Codec

from . import groups
from .consumer_async import AsyncRemoteConsumer
from .engine_async import AsyncRemoteEngine

_LONGEST_WAIT = 20.0
"""Seconds that the server may wait in one request: proxies end those that take a minute."""


class AsyncRemoteGroup(AsyncGroup[Any]):
    """A consumer group over HTTP; see `AsyncGroup`."""

    def __init__(self, name: str, engine: AsyncRemoteEngine, codec: Codec) -> None:
        self.name: str = validate_name("group", name)
        self._engine = cast(Any, engine)
        self._server = engine
        self._codec = codec

    async def info(self) -> GroupInfo:
        """Return the status of the group; see `AsyncGroup.info`."""
        return await self._engine.run(groups.info(self.name))

    def consume(  # type: ignore[override]  # it has the same methods
        self, *, name: str | None = None
    ) -> AsyncRemoteConsumer:
        """Join the group as a worker; see `AsyncGroup.consume`."""
        return AsyncRemoteConsumer(self._server, self._codec, self.name, name or worker_name())

    async def wait_for(self, position: int, *, timeout: float = 10.0) -> int:
        """Wait until the group's checkpoint reaches a position; see `AsyncGroup.wait_for`."""
        validate_integer("position", position)
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 0)
            try:
                return await self._engine.run(
                    groups.wait_for(self.name, position, min(left, _LONGEST_WAIT))
                )
            except WaitTimeout as error:
                if time.monotonic() >= deadline:
                    raise WaitTimeout(self.name, position, error.checkpoint, timeout) from None
