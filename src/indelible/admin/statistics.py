"""Count streams and events."""

from __future__ import annotations

from dataclasses import dataclass

from indelible.core.operation import Operation, Statement
from indelible.streams.head import head


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """The streams and events of one channel."""

    channel: str
    streams: int
    events: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The size of a store.

    Attributes:
        streams: how many streams there are.
        events: how many events they hold.
        head: the settled position.
        last_position: the last assigned position, settled or not.
        bytes: the size of the store's tables and indexes on disk.
        channels: the streams and events per channel, in order of name.
    """

    streams: int
    events: int
    head: int
    last_position: int
    bytes: int
    channels: tuple[ChannelStats, ...]


def stats() -> Operation[StoreStats]:
    """Return the size of the store."""
    settled = yield from head()
    ((last_position, size),) = yield Statement("admin.statistics")
    channels = tuple(ChannelStats(*row) for row in (yield Statement("admin.channels")))
    return StoreStats(
        streams=sum(channel.streams for channel in channels),
        events=sum(channel.events for channel in channels),
        head=settled,
        last_position=last_position,
        bytes=size,
        channels=channels,
    )
