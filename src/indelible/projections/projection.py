"""Projections as an application writes them."""

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
"""What an event is about: a key, several, or nothing."""


def handles(*types: Any) -> Callable[[F], F]:
    """Say which event types a method of a projection handles.

    Args:
        types: event classes, unions of them, or names of event types.

    Returns:
        A decorator that gives the method back as it is.

    Raises:
        InvalidInput: no types, or something else.

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
        raise InvalidInput("handles() needs the event types: @handles(OrderCreated)")

    marked = [
        found for one in types for found in ([one] if isinstance(one, str) else classes_of(one))
    ]

    def mark(method: F) -> F:
        method._handled_types = marked  # type: ignore[attr-defined]
        return method

    return mark


class Projection:
    """A read model kept up to date from events: the root of the three kinds.

    Derive from `DocumentProjection`, `TableProjection` or `ExternalProjection`.

    Attributes:
        name: its name, under which its state and checkpoint are kept.
        version: the version of its code. Raise it when the same events are to make another state:
            the new one is built beside the old one.
        query: which events; None for all of the types that it handles. Events of other types are
            passed over.
        partitions: into how many parts it is split, which are kept up to date side by side. Fixed
            for a version.
        max_attempts: how often a `Daemon` tries a batch at which the code fails.
        retry_after: seconds before the first retry; each later one waits twice as long.
        on_error: what a `Daemon` does then: `"stop"` the partition until an operator restarts it,
            or `"park"` the event: leave it out, note it, and go on. An error that no single event
            is to blame for stops it.

    A projection that a `Daemon` runs may have a method `on_live(event)`, for what others are to
    notice: it is called after the event's batch was committed, for events that came since the
    projection was begun, by the newest version that serves; never for those that a new projection
    or a rebuild goes through, and at most once, so that it may be missing after a crash. What has
    to happen belongs to a consumer group.
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
                        f" and {name}: one of them must handle both"
                    )
                own[event_type] = name
        cls._methods = methods | own


class DocumentProjection(Projection, Generic[D]):
    """A projection whose state is a document per key, kept by Indelible as JSONB.

    A handler takes the document as it is (None where there is none), and the event; it returns the
    document as it is then, or None where there is to be none any more. It must say the same for
    the same events whenever it is called: no clock, no I/O.

    The document is a dataclass, an attrs class, a msgspec Struct or a pydantic model. Or it is
    plain JSON data: `dict`, `int`, `float`, `str`, `bool`, or a list of these (`list[str]`).

    Attributes:
        indexes: fields of the document that `Documents.find` is to find quickly.

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
        """Say which documents an event is about: by default the one of its stream.

        Args:
            event: an event of a type that is handled.

        Returns:
            A key, several, or None where it is about none.
        """
        return event.stream


class TableProjection(Projection):
    """A projection whose state is in tables of yours, written by SQL of yours.

    A handler takes the event and the connection whose transaction is to hold what it writes; the
    checkpoint moves in the same one. For an `AsyncEventStore` handlers are coroutines. Write
    `project` instead of handlers to have a whole batch at once.

    With several `partitions` an event falls to one by its stream.

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
    """A projection whose state is elsewhere: at least once, with the checkpoint here.

    A handler takes the event. After a crash the last batch comes again: what it does must bear
    that (write with the event's id or position). For an `AsyncEventStore` handlers are coroutines.

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
