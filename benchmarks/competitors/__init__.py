"""The stores and limits to compare Indelible with, and the interface of a store for drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from benchmarks.events import Event
from benchmarks.harness.rounds import Kind, NotRun
from benchmarks.harness.server import Server

__all__ = ["AsyncStore", "Conflict", "NotRun", "Peer", "Store", "Stream", "new_stream"]


class Conflict(Exception):
    """A store rejected an append because of its expected version or condition."""


@dataclass(frozen=True)
class Peer:
    """A store in the comparison, or one way to use it.

    Attributes:
        mode: the way to use it, in a word or two; its module describes the details.
        client: its class, as `module:class`, or the program that drives it.
        open: creates a database or a server for it, and returns the options of its client.
    """

    name: str
    mode: str
    kind: Kind
    client: str | Sequence[str]
    open: Callable[[Server], AbstractContextManager[Mapping[str, Any]]]

    @property
    def label(self) -> str:
        """The name and mode."""
        return ", ".join(filter(None, (self.name, self.mode)))


@dataclass(frozen=True)
class Stream:
    """A stream with the kinds of names that the stores use."""

    id: UUID

    @property
    def name(self) -> str:
        """Its name for stores that use text as stream names."""
        return f"order-{self.id}"


def new_stream() -> Stream:
    """Make a name for a new stream."""
    return Stream(uuid4())


class Store:
    """The interface of a store for drivers. A competitor has the methods that apply to it."""

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        """Append in one commit, if the stream has the given version; -1 for a new stream.

        Raises:
            Conflict: the stream has another version.
        """
        raise NotImplementedError

    def append_anyway(self, stream: Stream, events: Sequence[Event]) -> None:
        """Append in one commit, without checking the version of the stream."""
        raise NotImplementedError

    def last_version(self, stream: Stream) -> int:
        """Return the last version of a stream."""
        raise NotImplementedError

    def append_if_none(self, tag: str, event: Event, after: int | None) -> int:
        """Append with a tag, if no event with that tag is after a position.

        Returns:
            The position for the next append. Pass None for the first one.

        Raises:
            Conflict: there is such an event.
        """
        raise NotImplementedError

    def load(self, stream: Stream) -> list[Event]:
        """Read a stream into typed objects."""
        raise NotImplementedError

    def scan(self, how: str) -> int:
        """Read the log: `typed`, `raw` (the data of the store without classes) or `matching`.

        Returns:
            The number of events that were read.
        """
        raise NotImplementedError

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        """Pass all events to `note`, from the beginning or from now on, as a subscription does.

        Returns:
            A function that stops it.
        """
        raise NotImplementedError

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        """Append several events, for the correctness benchmark.

        Args:
            stream: a stream that only this writer uses.
            events: the events to append.
            slow: wait between the first event and the commit, if the store allows it.
            fail: roll back at the end, if the store allows it.

        Returns:
            Whether the events were committed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close all that is open."""


class AsyncStore(Protocol):
    """The interface of an async store for drivers."""

    async def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        """As in `Store`."""

    async def close(self) -> None:
        """Close all that is open."""
