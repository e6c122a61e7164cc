"""Values: queries, and conditions for appends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from indelible.core.validation import is_integer
from indelible.errors import UNSTORABLE, InvalidInput

from .events import RecordedEvent


class Unregistered(str):
    """The name of an event type that needs no registered class; see `unregistered`."""

    __slots__ = ()


def unregistered(event_type: str) -> str:
    """Mark the name of an event type that has no registered class.

    A store with event classes rejects names of types without a class, because most of them are
    misspelt. A marked name is accepted.

    Args:
        event_type: the name of the event type.

    Returns:
        The marked name, for `Query(types=…)`, `@handles(…)` and `@app.on(…)`.

    Raises:
        InvalidInput: the name is empty, or not valid text.

    Example:
        ```python
        Query(types=["OrderCreated", unregistered("LegacyOrderImported")])
        ```
    """
    return Unregistered(_name("types", event_type))


@dataclass(frozen=True, slots=True)
class QueryItem:
    """One alternative of a query. An event must satisfy all its criteria.

    Attributes:
        types: the event must have one of these types; empty for any type.
        tags: the event must have all of these tags.
        channel: the event must be in a stream of this channel; None for any.
        stream_prefix: the name of the stream must start with this text; None for any.
    """

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    channel: str | None = None
    stream: str | None = None
    stream_prefix: str | None = None

    def matches(self, event: RecordedEvent) -> bool:
        """Return whether an event satisfies all criteria."""
        return (
            (not self.types or event.type in self.types)
            and all(tag in event.tags for tag in self.tags)
            and (self.channel is None or event.channel == self.channel)
            and (self.stream is None or event.stream == self.stream)
            and (self.stream_prefix is None or event.stream.startswith(self.stream_prefix))
        )


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """Select events by type, tags, channel, stream and stream prefix.

    An event must satisfy all arguments. Join queries with `|` to match events that satisfy any of
    them. `Query()` matches every event.

    Args:
        types: one or more names of event types. The event must have one of them.
        tags: one or more tags `key:value`. The event must have all of them.
        channel: the channel of the stream.
        stream: the name of one stream.
        stream_prefix: the start of the stream's name. `order-1` matches `order-17` too.

    Raises:
        InvalidInput: an argument is empty, or not text.

    Example:
        ```python
        Query(types=["OrderCreated"], channel="ordering") | Query(tags="order:17")
        ```
    """

    items: tuple[QueryItem, ...]

    def __init__(
        self,
        types: str | Sequence[str] = (),
        tags: str | Sequence[str] = (),
        channel: str | None = None,
        stream_prefix: str | None = None,
        *,
        stream: str | None = None,
    ) -> None:
        item = QueryItem(
            types=_names("types", types),
            tags=_names("tags", tags),
            channel=None if channel is None else _name("channel", channel),
            stream=None if stream is None else _name("stream", stream),
            stream_prefix=None if stream_prefix is None else _name("stream_prefix", stream_prefix),
        )
        object.__setattr__(self, "items", (item,))

    def __or__(self, other: Query) -> Query:
        """Return a query that matches the events of either query."""
        if not isinstance(other, Query):
            return NotImplemented
        return of_items(self.items + other.items)

    def with_types(self, also_called: Callable[[str], Iterable[str]]) -> Query:
        """Return the query with each type replaced by other names.

        Args:
            also_called: returns the names for a type; at least one.
        """
        return of_items(
            replace(item, types=tuple(sorted({n for t in item.types for n in also_called(t)})))
            for item in self.items
        )

    @property
    def matches_everything(self) -> bool:
        """Whether the query matches every event, because an alternative has no criteria."""
        return QueryItem() in self.items

    def matches(self, event: RecordedEvent) -> bool:
        """Return whether the query matches an event, by the same rules as in the store."""
        return any(item.matches(event) for item in self.items)


@dataclass(frozen=True, slots=True)
class ConsistencyMarker:
    """The events that a decision has seen. Pass it as `after` to an `AppendCondition`.

    The decision has seen all matching events up to `head`, and those after it that are in `seen`.
    Any other matching event after `head` makes the condition fail.

    Attributes:
        head: the settled position before the read.
        seen: the positions of the matching events after `head` that were read.
        epoch: the epoch of the log that was read; None if it is not known.
        event_id: the id of the event at `head`; None if there is none or it is not known.
    """

    head: int
    seen: frozenset[int] = frozenset()
    epoch: UUID | None = field(default=None, compare=False)
    event_id: UUID | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class AppendCondition:
    """Append only if no event after `after` matches a query.

    This is the append condition of a Dynamic Consistency Boundary (https://dcb.events). It holds
    under any concurrency. Only decisions whose queries and events share tags wait for each other.

    Args:
        query: the events that would change the decision. Use tags: an alternative without tags
            makes all other appends wait for this one.
        after: the marker of `read_matching`, or a position that was a head. With 0, no event in
            the whole log may match.

    Raises:
        InvalidInput: `query` is not a `Query`, or `after` is neither a marker nor a position.

    Example:
        ```python
        AppendCondition(Query(tags="username:ann"), after=0)  # the name was never taken
        ```
    """

    query: Query
    after: ConsistencyMarker | int

    def __post_init__(self) -> None:
        if not isinstance(self.query, Query):
            raise InvalidInput(f"query of a condition must be a Query, not {self.query!r}")
        after: object = self.after
        if not isinstance(after, ConsistencyMarker) and not is_integer(after):
            raise InvalidInput(
                "after of a condition must be a ConsistencyMarker, or a position that was a head,"
                f" not {after!r}"
            )

    @property
    def marker(self) -> ConsistencyMarker:
        """The value of `after` as a marker."""
        return (
            self.after
            if isinstance(self.after, ConsistencyMarker)
            else ConsistencyMarker(self.after)
        )


def of_items(items: Iterable[QueryItem]) -> Query:
    """Return the query with these alternatives, each once."""
    query = object.__new__(Query)
    object.__setattr__(query, "items", tuple(dict.fromkeys(items)))
    return query


def _names(field: str, value: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, Iterable):
        raise InvalidInput(f"{field} of a query must be text or a list of text, not {value!r}")
    values = (value,) if isinstance(value, str) else tuple(value)
    return tuple(sorted({_name(field, name) for name in values}))


def _name(field: str, value: object) -> str:
    if not isinstance(value, str) or not value or UNSTORABLE.search(value):
        raise InvalidInput(
            f"{field} of a query must be non-empty text without NUL and lone surrogates, not"
            f" {value!r}"
        )
    return value
