"""The stores and limits that Indelible is compared with, and what a driver can ask of a store."""

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
    """A store refused an append because of its expected version or condition."""


@dataclass(frozen=True)
class Peer:
    """A store that takes part, or one way to use it.

    Attributes:
        mode: which of its ways this is, in a word or two; the rest is told in its module.
        client: its class, as `module:class`; or the program that drives it.
        open: makes a place for it: a database, a server. Gives the options of its client.
    """

    name: str
    mode: str
    kind: Kind
    client: str | Sequence[str]
    open: Callable[[Server], AbstractContextManager[Mapping[str, Any]]]

    @property
    def label(self) -> str:
        """Its name and mode."""
        return ", ".join(filter(None, (self.name, self.mode)))


@dataclass(frozen=True)
class Stream:
    """A stream under the names that the stores want."""

    id: UUID

    @property
    def name(self) -> str:
        """Its name, where streams are named by text."""
        return f"order-{self.id}"


def new_stream() -> Stream:
    """Name a stream that nobody has written to."""
    return Stream(uuid4())


class Store:
    """A store as drivers use it. A peer has the methods that make sense for it."""

    def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        """Append in one commit, if the stream's last version is the given one, -1 for none.

        Raises:
            Conflict: it is at another one.
        """
        raise NotImplementedError

    def append_anyway(self, stream: Stream, events: Sequence[Event]) -> None:
        """Append in one commit, whatever the stream's version."""
        raise NotImplementedError

    def last_version(self, stream: Stream) -> int:
        """Ask the store for the stream's last version."""
        raise NotImplementedError

    def append_if_none(self, tag: str, event: Event, after: int | None) -> int:
        """Append under a tag, if nothing under that tag stands after a position.

        Returns:
            The position, for the next one; None stands for the beginning.

        Raises:
            Conflict: something stands there.
        """
        raise NotImplementedError

    def load(self, stream: Stream) -> list[Event]:
        """Read a stream into typed objects."""
        raise NotImplementedError

    def scan(self, how: str) -> int:
        """Read the log: `typed`, `raw` (whatever the store gives without classes) or `matching`.

        Returns:
            How many events were read.
        """
        raise NotImplementedError

    def follow(self, note: Callable[[Event], None], *, at_end: bool) -> Callable[[], None]:
        """Hand all events to `note`, from the beginning or from now on, as a subscription does.

        Returns:
            What stops it.
        """
        raise NotImplementedError

    def write(self, stream: Stream, events: Sequence[Event], *, slow: bool, fail: bool) -> bool:
        """Append several events, for the correctness bench.

        Args:
            stream: the stream of this writer alone.
            events: those to append.
            slow: leave time between the first event and the commit, where a user can.
            fail: undo it at the end, where a user can.

        Returns:
            Whether it was committed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close all that is open."""


class AsyncStore(Protocol):
    """A store with coroutines, as drivers use it."""

    async def append(self, stream: Stream, events: Sequence[Event], version: int) -> None:
        """As in `Store`."""

    async def close(self) -> None:
        """Close all that is open."""
