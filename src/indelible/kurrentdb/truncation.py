"""What the metadata of a stream hides from the readers of the stream.

The store itself knows nothing of it. So each read of a stream first reads its metadata here, and
only clients of this server see less of the stream. The log shows all events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from indelible import AsyncEventStore, NewEvent

from .wire import NAME_LENGTH

METADATA = "$$"
_DELETED = 2**63 - 1
_LONGEST = timedelta(days=365 * 1_000).total_seconds()


@dataclass(frozen=True, slots=True)
class Truncation:
    """Which events of a stream are kept.

    Attributes:
        before: the events before this revision are hidden.
        max_count: only so many events are kept; None for all.
        max_age: events that are older, in seconds, are hidden; None for none.
    """

    before: int = 0
    max_count: int | None = None
    max_age: int | None = None

    @property
    def hides_all(self) -> bool:
        """Whether the stream looks as if it did not exist: it was deleted."""
        return self.before >= _DELETED

    async def first_kept(self, store: AsyncEventStore, stream: str, last: int) -> int:
        """Return the first revision that is shown; that after the last one if there is none."""
        first = max(self.before, 0 if self.max_count is None else last - self.max_count + 1)
        if self.max_age is not None:
            now = datetime.now(UTC)
            span = (now - timedelta(seconds=self.max_age), now + timedelta(days=1))
            young = [
                event.version async for event in store.read(stream, recorded_between=span, limit=1)
            ]
            first = max(first, *young) if young else last + 1
        return min(first, last + 1)


async def truncation_of(store: AsyncEventStore, stream: str) -> Truncation:
    """Return what the metadata of a stream hides. Malformed metadata hides nothing."""
    if stream.startswith(METADATA):
        return Truncation(max_count=1)
    if len(stream) > NAME_LENGTH - len(METADATA):
        return Truncation()
    async for event in store.read(f"{METADATA}{stream}", backwards=True, limit=1):
        if event.is_erased:
            break
        return _truncation(bytes(event.data))
    return Truncation()


def deletes(stream: str, events: Sequence[NewEvent]) -> bool:
    """Return whether one of these events of metadata hides a whole stream for ever.

    Later events of the stream would be acknowledged, and hidden, too.
    """
    if not stream.startswith(METADATA):
        return False
    return any(_truncation(bytes(event.data)).hides_all for event in events)


def _truncation(data: bytes) -> Truncation:
    document = msgspec.json.decode(data)
    if not isinstance(document, dict):
        return Truncation()
    return Truncation(
        _number(document.get("$tb"), least=0) or 0,
        _number(document.get("$maxCount"), least=1),
        _number(document.get("$maxAge"), least=1, most=int(_LONGEST)),
    )


def _number(value: object, *, least: int, most: int = _DELETED) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if least <= value <= most else None
