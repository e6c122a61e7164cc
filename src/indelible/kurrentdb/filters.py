"""Filters of the log: by the type of an event, or by the name of its stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from indelible import AsyncEventStore, Query
from indelible.events import RecordedEvent

from .failures import bad_argument
from .patterns import Pattern
from .proto.streams_pb2 import ReadRequest

_WINDOW = 32
"""The events between two checkpoints of a client that asks for none in particular."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events of the log a client wants.

    Attributes:
        by_type: whether the type of the event is looked at, and not the name of its stream.
        prefixes: the name begins with one of these; empty for a pattern.
        pattern: the pattern that the name matches; None for prefixes.
        interval: how many events are looked at between two checkpoints.
    """

    by_type: bool
    prefixes: tuple[str, ...]
    pattern: Pattern | None
    interval: int

    @classmethod
    def of(cls, options: ReadRequest.Options) -> Self | None:
        """Return the filter of a request; None if it has none.

        Raises:
            Failure: the filter is wrong.
        """
        if options.WhichOneof("selection") != "filter":
            return None
        message = options.filter
        window = message.WhichOneof("window")
        if window is None:
            raise bad_argument("a filter needs a window: max or count")
        multiplier = message.checkpoint_interval_multiplier
        if multiplier == 0:
            raise bad_argument("checkpointIntervalMultiplier must be 1 or more")
        size = message.max if window == "max" else _WINDOW
        if size == 0:
            raise bad_argument("max of a filter must be 1 or more")
        subject = message.WhichOneof("subject")
        if subject is None:
            raise bad_argument("a filter needs stream_identifier or event_type")
        expression = getattr(message, subject)
        return cls(
            subject == "event_type",
            tuple(prefix for prefix in expression.prefix if prefix),
            Pattern(expression.regex) if expression.regex else None,
            size * multiplier,
        )

    @property
    def matches_all(self) -> bool:
        """Whether it has neither prefixes nor a pattern."""
        return self.pattern is None and not self.prefixes

    def matches(self, event: RecordedEvent) -> bool:
        """Return whether the client wants an event.

        Raises:
            Failure: the pattern takes too long.
        """
        return self._matches(event.type if self.by_type else event.stream)

    def _matches(self, name: str) -> bool:
        if self.pattern is not None:
            return self.pattern.matches(name)
        return not self.prefixes or name.startswith(self.prefixes)

    @property
    def query(self) -> Query | None:
        """The query that finds all that it matches, and maybe more; None for all events."""
        if self.by_type or not self.prefixes or self.pattern is not None:
            return None
        return _any_of([Query(stream_prefix=prefix) for prefix in self.prefixes])

    async def query_of(self, store: AsyncEventStore) -> Query | None:
        """Return the query for a read that ends at the head of now; None for all events.

        It names the types that are stored now and match. If none does, no event can.

        Raises:
            LookupError: no event can match.
            Failure: the pattern takes too long.
        """
        if self.matches_all:
            return None
        if not self.by_type:
            return self.query
        stored = [info.type for info in await store.types()]
        types = [name for name in stored if self._matches(name)]
        if not types:
            raise LookupError
        return None if len(types) == len(stored) else Query(types=types)


def _any_of(queries: list[Query]) -> Query:
    found = queries[0]
    for query in queries[1:]:
        found |= query
    return found
