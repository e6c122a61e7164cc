"""The store that a server serves, and what this server has acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import uuid4

from indelible import AsyncEventStore, DuplicateEvent, NewEvent, StreamAppend, WrongExpectedVersion
from indelible.errors import AppendRejected, StreamClosed
from indelible.events import ANY, STREAM_EXISTS
from indelible.streams.head import head_info

from .expected import Expected, Written, WrongRevision, outcome_of
from .failures import Failure, bad_argument
from .settings import KurrentSettings
from .truncation import deletes
from .wire import NAME_LENGTH

_LONGEST_WAIT = 1.0
"""Seconds for which a read of the log waits for what was acknowledged."""


class ServedStore:
    """The store of a server.

    Attributes:
        store: the store.
        settings: the settings of the server.
        instance_id: a random id of this process.
    """

    def __init__(self, store: AsyncEventStore, settings: KurrentSettings) -> None:
        self.store = store
        self.settings = settings
        self.instance_id = uuid4()
        self._acknowledged = 0
        self._last_position = 0

    async def append(
        self, stream: str, expected: Expected, events: Sequence[NewEvent]
    ) -> Written | WrongRevision | Failure:
        """Append to a stream; without events, check its revision only."""
        if deletes(stream, events):
            return bad_argument(
                "a stream cannot be deleted by its metadata yet ($tb = 2**63 - 1): close it with"
                " `indelible streams close`, or hide its events with a $tb that is their number"
            )
        channel = _channel(stream)
        try:
            if events:
                result = await self.store.append(
                    stream, list(events), expected=expected, channel=channel
                )
            else:
                (result,) = await self.store.append_many([StreamAppend(stream, [], expected)])
        except (WrongExpectedVersion, DuplicateEvent, StreamClosed) as error:
            if await self._has_metadata_only(stream, error, expected):
                return await self.append(stream, ANY, events)
            ids = [event.id for event in events]
            outcome = await outcome_of(self.store, stream, expected, ids, error)
            if isinstance(outcome, Written):
                self._acknowledge(outcome.position or 0)
            return outcome
        self._acknowledge(result.position)
        return Written(result.version, result.position or None)

    async def _has_metadata_only(
        self, stream: str, error: AppendRejected, expected: Expected
    ) -> bool:
        """Return whether a stream has metadata but no events, and an append wants it to exist."""
        return (
            expected is STREAM_EXISTS
            and isinstance(error, WrongExpectedVersion)
            and len(stream) <= NAME_LENGTH - 2
            and await self.store.stream(f"$${stream}") is not None
        )

    async def settled_head(self) -> int:
        """Return the head, which has all that this server has acknowledged.

        Another transaction that is open may hold the head back. Then it is what the head is after
        a second.
        """
        deadline = time.monotonic() + _LONGEST_WAIT
        pause = 0.001
        acknowledged = self._acknowledged
        while (head := await self.store.head()) < acknowledged and time.monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
        return head

    async def was_assigned(self, position: int) -> bool:
        """Return whether a position is at or before the last one that any event got."""
        if position <= max(self._acknowledged, self._last_position):
            return True
        if position <= await self.store.head():
            return True
        info = await self.store._engine.run(head_info())
        self._last_position = info.last_position
        return position <= self._last_position

    def _acknowledge(self, position: int) -> None:
        self._acknowledged = max(self._acknowledged, position)


def _channel(stream: str) -> str | None:
    """Return the channel of a stream; None for the one in its name.

    The metadata of a stream belongs to its channel. What has no channel in its name gets `-`.
    """
    name = stream.removeprefix("$$")
    if name.startswith("-"):
        return "-"
    return name.partition("-")[0] if name != stream else None
