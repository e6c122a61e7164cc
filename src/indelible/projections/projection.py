"""The base classes of the projections that an application writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from indelible.errors import InvalidInput
from indelible.events import RecordedEvent
from indelible.query import Query
from indelible.serialization.event_classes import classes_of

D = TypeVar("D")
F = TypeVar("F", bound=Callable[..., Any])

Kind = Literal["documents", "tables", "external"]
OnError = Literal["stop", "park"]
Keys = str | Iterable[str] | None
"""The documents that an event changes: a key, several keys, or None."""


def handles(*types: Any) -> Callable[[F], F]:
    """Mark a method of a projection as the handler of event types.

    Args:
        types: event classes, unions of them, or names of event types.

    Returns:
        A decorator that returns the method unchanged.

    Raises:
        InvalidInput: no types are given, or an argument is not an event type.

    Example:
        ```python
        class Orders(DocumentProjection[Order]):
            name = "orders"

            @handles(OrderCreated)
            def created(self, order: Order | None, event: RecordedEvent) -> Order:
                return Order(total=event.data.total)
        ```
    """
    if not types:
        raise InvalidInput("handles() needs event types, as in @handles(OrderCreated)")

    marked = [
        found for one in types for found in ([one] if isinstance(one, str) else classes_of(one))
    ]

    def mark(method: F) -> F:
        method._handled_types = marked  # type: ignore[attr-defined]
        return method

    return mark


class Projection:
    """A read model kept up to date from events: the base class of the three kinds.

    Derive from `DocumentProjection`, `TableProjection` or `ExternalProjection`.

    Attributes:
        name: its name, under which its state and checkpoint are stored.
        version: the version of its code. Increase it when the same events must produce another
            state. The new version is built next to the old one.
        query: which events to read; None for all events of the types that it handles. Events of
            other types are skipped.
        partitions: the number of parts that are kept up to date in parallel. It is fixed for a
            version.
        max_attempts: how often a `Daemon` tries a batch that fails.
        retry_after: seconds before the first retry; the delay doubles with each further retry.
        on_error: what a `Daemon` does after the last attempt: `"stop"` the partition until an
            operator restarts it, or `"park"` the event and continue without it. An error that does
            not belong to a single event always stops the partition.

    A projection that a `Daemon` runs may have a method `on_live(event)`, for example to notify
    clients. The newest version that serves calls it after the event's batch was committed. It is
    called only for events appended after the projection was first registered, never during the
    catch-up of a new projection or a rebuild. It is called at most once per event, so a crash may
    lose a call. If an effect must happen, use a consumer group.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    query: ClassVar[Query | None] = None
    partitions: ClassVar[int] = 1
    max_attempts: ClassVar[int] = 5
    retry_after: ClassVar[float] = 1.0
    on_error: ClassVar[OnError] = "stop"

    _kind: ClassVar[Kind]
    _methods: ClassVar[Mapping[type | str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        methods = dict(cls._methods)
        own: dict[type | str, str] = {}
        for name, member in vars(cls).items():
            for event_type in getattr(member, "_handled_types", ()):
                if event_type in own:
                    raise InvalidInput(
                        f"{cls.__qualname__} has two methods for {event_type!r}, {own[event_type]}"
                        f" and {name}: handle the event type in one of them"
                    )
                own[event_type] = name
        cls._methods = methods | own


class DocumentProjection(Projection, Generic[D]):
    """A projection whose state is one document per key, stored by Indelible as JSONB.

    A handler takes the current document (None if it does not exist) and the event. It returns the
    new document, or None to remove it. A handler must be deterministic: it must not use a clock or
    do I/O.

    The document is a dataclass, an attrs class, a msgspec Struct or a pydantic model. Or it is
    plain JSON data: `dict`, `int`, `float`, `str`, `bool`, or a list of these (`list[str]`).

    Attributes:
        indexes: the fields of the document that `Documents.find` finds by index.

    Example:
        ```python
        @dataclass
        class Order:
            total: int
            status: str = "open"

        class Orders(DocumentProjection[Order]):
            name = "orders"
            indexes = ("status",)

            @handles(OrderCreated)
            def created(self, order: Order | None, event: RecordedEvent) -> Order:
                return Order(event.data.total)

            @handles(OrderCanceled)
            def canceled(self, order: Order | None, event: RecordedEvent) -> None:
                return None
        ```
    """

    indexes: ClassVar[Sequence[str]] = ()

    _kind = "documents"

    def key(self, event: RecordedEvent) -> Keys:
        """Return the keys of the documents that an event changes: by default its stream's name.

        Args:
            event: an event of a type that is handled.

        Returns:
            A key, several keys, or None for no document.
        """
        return event.stream


class TableProjection(Projection):
    """A projection whose state is in your own tables, written by your own SQL.

    A handler takes the event and a connection. What it writes on this connection commits together
    with the checkpoint, in one transaction. For an `AsyncEventStore` handlers are coroutines. To
    handle a whole batch at once, write `project` instead of handlers.

    With several `partitions`, the stream of an event decides its partition.

    Attributes:
        ddl: SQL that creates the tables. It runs once, in the transaction that registers this
            version of the projection: when a process first connects with it inline, or first runs
            it. It runs again if the projection was dropped. The role that registers needs the right
            to create the tables, and owns them.

    Example:
        ```python
        class OpenOrders(TableProjection):
            name = "open-orders"
            ddl = "CREATE TABLE open_orders (id text PRIMARY KEY)"

            @handles(OrderCreated)
            def created(self, event: RecordedEvent, connection: Connection) -> None:
                connection.execute("INSERT INTO open_orders VALUES (%s)", [event.stream])
        ```
    """

    ddl: ClassVar[str] = ""

    _kind = "tables"


class ExternalProjection(Projection):
    """A projection whose state is outside the database; delivery is at-least-once.

    The checkpoint is in the store. A handler takes the event. After a crash the last batch is
    handled again, so a handler must be idempotent: write with the event's id or position. For an
    `AsyncEventStore` handlers are coroutines.

    Example:
        ```python
        class Search(ExternalProjection):
            name = "search"

            @handles(OrderCreated)
            def created(self, event: RecordedEvent) -> None:
                index.put(id=event.stream, body={"total": event.data.total})
        ```
    """

    _kind = "external"
