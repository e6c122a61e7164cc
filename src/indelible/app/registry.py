"""The registered handlers and projections of an application."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from indelible.consumer_groups.types import GroupInfo, GroupStart
from indelible.core.handlers import check_handler, name_of
from indelible.core.validation import validate_integer, validate_name
from indelible.errors import ConnectionLost, DatabaseUnreachable, IndelibleError, InvalidInput
from indelible.projections.projection import Projection
from indelible.projections.types import ProjectionStatus
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.serialization.event_classes import EventClasses
from indelible.store.connect import place, schema_of

Handler = TypeVar("Handler", bound=Callable[..., Any])

_MOST_BATCHES = 8
"""The largest number of projection batches that an application processes at once."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

_log = logging.getLogger("indelible.app")


@dataclass(slots=True)
class HandlerGroup(Generic[Handler]):
    """One consumer group of an application, with its settings, handlers and counters."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    resources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By event type, the names of the resources that its handler takes."""
    handled: int = 0
    failed: int = 0

    @property
    def query(self) -> Query:
        """The query for all event types that have a handler."""
        return Query(types=sorted(self.handlers))

    def calls(self, opened: Mapping[str, object]) -> dict[str, Callable[[Any], object]]:
        """Return the handlers by event type, with the resources that they take."""
        return {
            name: partial(handler, **{taken: opened[taken] for taken in self.resources[name]})
            if self.resources[name]
            else handler
            for name, handler in self.handlers.items()
        }


class HandlerRegistry(Generic[Handler]):
    """The base class of `App` and `AsyncApp`."""

    _is_async: bool

    def __init__(
        self,
        group: str,
        *,
        events: EventClasses = (),
        url: str | None = None,
        schema: str | None = None,
        channel: str | None = None,
        concurrency: int = 4,
        projections: Iterable[Projection | type[Projection]] = (),
        inline: Iterable[Projection | type[Projection]] = (),
        resources: Mapping[str, Callable[[], Any]] = {},
    ) -> None:
        validate_integer("concurrency", concurrency, 1)
        self.group_name: str = validate_name("group", group)
        self.events = events
        self.url = url
        self.schema = schema
        self.channel = channel
        self.concurrency = concurrency
        self.projections: tuple[Projection | type[Projection], ...] = tuple(projections)
        self.inline: tuple[Projection | type[Projection], ...] = tuple(inline)
        self.resources: dict[str, Any] = dict(resources)
        for name, factory in self.resources.items():
            if not callable(factory) or inspect.iscoroutinefunction(factory):
                raise InvalidInput(_not_a_resource(name, factory))
        self._parts: dict[str, HandlerGroup[Handler]] = {}

    def group(
        self,
        name: str,
        *,
        start: GroupStart = "beginning",
        partition_by: str = "stream",
        max_attempts: int = 5,
        retry_after: float = 1.0,
        lease: float = 10.0,
        park_blocks_stream: bool = True,
        deliver_when_valid: bool = False,
    ) -> None:
        """Set the settings of a consumer group of this application.

        A group without this call has the default settings shown here. The settings are described
        at `Group.create`.

        Args:
            name: the name of the group.
            start: the position at which a new group starts.
            partition_by: the key whose events stay in order, as for `Group.create`.
            max_attempts: the number of attempts before an event is parked.
            retry_after: the seconds before the first retry.
            lease: the lease of a worker in seconds.
            park_blocks_stream: whether a parked event blocks later events of its stream.
            deliver_when_valid: whether events are delivered when their valid time comes.

        Example:
            ```python
            app.group("mails", max_attempts=10, retry_after=5.0)

            @app.on(OrderCreated, group="mails")
            def send_confirmation(event: Delivery) -> None: ...
            ```
        """
        self._part(name).options = {
            "start": start,
            "partition_by": partition_by,
            "max_attempts": max_attempts,
            "retry_after": retry_after,
            "lease": lease,
            "park_blocks_stream": park_blocks_stream,
            "deliver_when_valid": deliver_when_valid,
        }

    def on(self, *types: Any, group: str | None = None) -> Callable[[Handler], Handler]:
        """Register a handler for event types.

        The handler gets the delivered event; `event.data` is the instance of the class. If it
        returns, the event is acked. If it raises an error, the event is retried later.

        A further parameter with the name of one of the application's `resources` gets that
        resource.

        Args:
            types: event classes, unions of classes, aggregate classes, or names of event types.
            group: the consumer group of the handler; by default the application's.

        Returns:
            A decorator that returns the handler unchanged.

        Raises:
            InvalidInput: one of these: no types were passed; a name has no registered class and is
                not marked with `unregistered`; the type already has a handler in this group; an
                upcaster replaces the type; the handler is a coroutine function in `App`; or it does
                not take the event and resources of the application.

        Example:
            ```python
            @app.on(OrderCreated, OrderCanceled)
            def notify(event: Delivery) -> None:
                print(event.type, event.data)
            ```
        """
        if not types:
            raise InvalidInput("on() needs the event types to handle: @app.on(OrderCreated)")
        codec = Codec(self.events)
        names = codec.types_of(types)
        for name in names:
            if (current := codec.upcasting.current_types(name)) != {name}:
                raise InvalidInput(
                    f"events of type {name!r} are upcast to {', '.join(sorted(current))}: register"
                    " a handler for that instead"
                )
        part = self._part(group or self.group_name)

        def register(handler: Handler) -> Handler:
            if inspect.iscoroutinefunction(handler) and not self._is_async:
                raise InvalidInput(
                    f"App takes plain functions, not {handler!r}: use AsyncApp for it"
                )
            taken = self._resources_of(handler)
            check_handler(handler, "event", **dict.fromkeys(taken))
            for name in names:
                if name in part.handlers:
                    raise InvalidInput(
                        f"event type {name!r} already has a handler in group {part.name!r}:"
                        " register this one in a group of its own, on(…, group=…)"
                    )
            part.handlers.update(dict.fromkeys(names, handler))
            part.resources.update(dict.fromkeys(names, taken))
            return handler

        return register

    def _resources_of(self, handler: Handler) -> tuple[str, ...]:
        """Return the names of the resources that a handler takes, after the event.

        Raises:
            InvalidInput: it takes something that is no resource of the application.
        """
        try:
            _, *parameters = inspect.signature(handler).parameters.values()
        except (TypeError, ValueError):  # it takes nothing, or is built in and does not say
            return ()
        named = [found for found in parameters if found.kind in _BY_NAME]
        for found in named:
            if found.name not in self.resources and found.default is found.empty:
                raise InvalidInput(
                    f"handler {name_of(handler)} takes {found.name!r}, which is no resource of"
                    f" the application: {type(self).__name__}(…,"
                    f" resources={{{found.name!r}: …}}) names a function that opens it"
                )
        return tuple(found.name for found in named if found.name in self.resources)

    def _made(self, name: str) -> Any:
        """Return the context manager of a resource.

        Raises:
            InvalidInput: its function returned something else.
        """
        made = self.resources[name]()
        if hasattr(made, "__exit__") or (self._is_async and hasattr(made, "__aexit__")):
            return made
        raise InvalidInput(_not_a_resource(name, made))

    def _part(self, name: str) -> HandlerGroup[Handler]:
        return self._parts.setdefault(name, HandlerGroup(validate_name("group", name)))

    def _working(self) -> list[HandlerGroup[Handler]]:
        parts = [part for part in self._parts.values() if part.handlers]
        if not parts and not self.projections:
            raise InvalidInput(
                "the application has no handlers: register one with @app.on(…), or pass"
                " projections="
            )
        return parts

    def _tell_start(
        self, url: str | None, schema: str | None, parts: Iterable[HandlerGroup[Handler]]
    ) -> None:
        """Log the store, groups and projections at the start."""
        known = {
            "store": place(url),
            "schema": schema_of(schema),
            "groups": ", ".join(part.name for part in parts),
            "projections": ", ".join(projection.name for projection in self.projections),
            "inline": ", ".join(projection.name for projection in self.inline),
        }
        _log.info("running", extra={name: told for name, told in known.items() if told})

    @property
    def _batches(self) -> int:
        """The number of projection batches that are processed at once."""
        wanted = sum(max(1, projection.partitions) for projection in self.projections)
        return min(2 * wanted, _MOST_BATCHES)

    @contextmanager
    def _asking(self, asked: str | None = None) -> Iterator[None]:
        """Log a warning if a status cannot be read, and continue, because the workers do too.

        Args:
            asked: what has the status; if the database is away, raise that. None for everything.
        """
        try:
            yield
        except IndelibleError as error:
            if asked is not None and isinstance(error, ConnectionLost | DatabaseUnreachable):
                raise
            _log.warning(
                "cannot read the status of %s: %s", asked or "groups and projections", error
            )

    def _report_projections(self, statuses: Iterable[ProjectionStatus]) -> None:
        names = {getattr(projection, "name", None) for projection in self.projections}
        for status in statuses:
            build = status.build
            if build.name in names:
                _log.info(
                    "projection status",
                    extra={
                        "projection": build.name,
                        "version": build.version,
                        "state": build.state,
                        "checkpoint": build.checkpoint,
                        "lag_events": status.lag_events,
                        "lag_seconds": round(status.lag_seconds, 3),
                        "events_per_second": round(status.events_per_second, 1),
                        "parked": status.parked,
                        "stopped": status.stopped,
                        "workers": status.workers,
                    },
                )

    def _report(self, part: HandlerGroup[Handler], info: GroupInfo) -> None:
        _log.info(
            "group status",
            extra={
                "group": part.name,
                "checkpoint": info.checkpoint,
                "lag_events": info.lag_events,
                "lag_seconds": round(info.lag_seconds, 3),
                "handled": part.handled,
                "failed": part.failed,
                "retrying": info.retrying,
                "parked": info.parked,
                "workers": len(info.workers),
            },
        )


def _not_a_resource(name: str, found: object) -> str:
    return (
        f"resource {name!r} must be a function that returns a context manager, not {found!r}:"
        " decorate a generator function with contextlib.contextmanager, or return"
        " contextlib.nullcontext(value)"
    )
