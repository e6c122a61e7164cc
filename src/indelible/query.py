"""Values: which events to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from indelible.core.validation import is_integer
from indelible.errors import UNSTORABLE, InvalidInput

from .events import RecordedEvent


class Unregistered(str):
    """The name of an event type that needs no class; see `unregistered`."""

    __slots__ = ()


def unregistered(event_type: str) -> str:
    """Say that the events of a type are meant although no class is registered for it.

    Where event classes are registered, a name of a type that is none of theirs is refused: most
    often it is misspelt. What is said in this way is let through.

    Args:
        event_type: the name.

    Returns:
        The name, for `Query(types=…)`, `@handles(…)` and `@app.on(…)`.

    Raises:
        InvalidInput: it is no name.

    Example:
        ```python
        Query(types=["OrderCreated", unregistered("LegacyOrderImported")])
        ```
    """
    return Unregistered(_name("types", event_type))


@dataclass(frozen=True, slots=True)
class QueryItem:
    """One alternative of a query: all that it names must hold."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    channel: str | None = None
    stream: str | None = None
    stream_prefix: str | None = None

    def matches(self, event: RecordedEvent) -> bool:
        """Whether all that is named holds for an event."""
        return (
            (not self.types or event.type in self.types)
            and all(tag in event.tags for tag in self.tags)
            and (self.channel is None or event.channel == self.channel)
            and (self.stream is None or event.stream == self.stream)
            and (self.stream_prefix is None or event.stream.startswith(self.stream_prefix))
        )


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """Which events: any of the types, all of the tags, the channel, the stream or its prefix.

    Queries joined by `|` match what any of them matches. `Query()` matches every event.

    Args:
        types: names of event types, or one name; any of them.
        tags: labels `key:value`, or one; all of them.
        channel: the service that owns the stream.
        stream: the name of one stream.
        stream_prefix: what the stream's name starts with: `order-1` finds `order-17` too.

    Raises:
        InvalidInput: something that is no text, or empty.

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
        """Match what either of the two matches."""
        if not isinstance(other, Query):
            return NotImplemented
        return _of_items(self.items + other.items)

    def with_types(self, also_called: Callable[[str], Iterable[str]]) -> Query:
        """Give the same query with other names in the place of each type; at least one for each."""
        return _of_items(
            replace(item, types=tuple(sorted({n for t in item.types for n in also_called(t)})))
            for item in self.items
        )

    @property
    def matches_everything(self) -> bool:
        """Whether some alternative names nothing, so that every event matches."""
        return QueryItem() in self.items

    def matches(self, event: RecordedEvent) -> bool:
        """Whether an event is among those that the query names, as the store would say."""
        return any(item.matches(event) for item in self.items)


@dataclass(frozen=True, slots=True)
class ConsistencyMarker:
    """What a decision has seen of the log: the `after` of an `AppendCondition`.

    Everything up to the head was settled when it read; above it some events were there already,
    and those are not held against it, while anything else that stands there is.

    Attributes:
        head: the settled position before it read.
        seen: the positions above the head of the matching events that it read.
        epoch: the epoch of the log that it read; None if that is not known.
        event_id: the id of the event at the head; None if there is none, or it is not known.
    """

    head: int
    seen: frozenset[int] = frozenset()
    epoch: UUID | None = field(default=None, compare=False)
    event_id: UUID | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class AppendCondition:
    """Append only if no event that matches a query stands after what was seen.

    The rule of a Dynamic Consistency Boundary (https://dcb.events). It holds under any
    concurrency; only decisions whose queries and events share tags wait for each other.

    Args:
        query: which events would change the decision. Name tags in it: an item without tags makes
            all appends wait for this one.
        after: the marker of `read_matching`, or a position that was a head (0: no such event at
            all).

    Raises:
        InvalidInput: the query is none, or `after` is neither marker nor position.

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
                "after of a condition must be a marker, or a position that was a head, not"
                f" {after!r}"
            )

    @property
    def marker(self) -> ConsistencyMarker:
        """What was seen, as a marker."""
        return (
            self.after
            if isinstance(self.after, ConsistencyMarker)
            else ConsistencyMarker(self.after)
        )


def _of_items(items: Iterable[QueryItem]) -> Query:
    query = object.__new__(Query)
    object.__setattr__(query, "items", tuple(dict.fromkeys(items)))
    return query


def _names(field: str, value: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, Iterable):
        raise InvalidInput(f"{field} of a query must be text or a list of it, not {value!r}")
    values = (value,) if isinstance(value, str) else tuple(value)
    return tuple(sorted({_name(field, name) for name in values}))


def _name(field: str, value: object) -> str:
    if not isinstance(value, str) or not value or UNSTORABLE.search(value):
        raise InvalidInput(
            f"{field} of a query must be text that is not empty, without NUL and half surrogate"
            f" pairs, not {value!r}"
        )
    return value
