"""The base class of aggregates: the rules of a domain object as methods of a class."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, ForwardRef, Generic, TypeVar, get_args, get_origin

from indelible.core.timestamps import validate_timestamp
from indelible.errors import InvalidInput
from indelible.events import AppendResult

from .snapshots import Snapshots

Event = TypeVar("Event")


class Aggregate(Generic[Event]):
    """The base class of an event-sourced domain object. Subclass it.

    The methods of the subclass check the rules and `record` events. `evolve` applies an event to
    the state. The class must be callable without arguments; this gives the state before the first
    event.

    Attributes:
        version: the version of the last stored event; -1 before the first.
        stored: the result of the last append; None before the first.
        snapshots: a class attribute: when to store snapshots, so that not all events are read
            again; None for never. A snapshot contains the attributes annotated in the class.

    Example:
        ```python
        class Delivery(Aggregate[DeliveryPickedUp | DeliveryCanceled]):
            state: Literal["open", "picked up", "canceled"] = "open"

            def cancel(self, reason: str) -> None:
                if self.state != "open":
                    raise RuleBroken(f"cannot cancel a delivery that is {self.state}")
                self.record(DeliveryCanceled(reason))

            def evolve(self, event: DeliveryPickedUp | DeliveryCanceled) -> None:
                match event:
                    case DeliveryPickedUp():
                        self.state = "picked up"
                    case DeliveryCanceled():
                        self.state = "canceled"
                    case _:
                        assert_never(event)


        with store.writing(Delivery, "delivery-17") as delivery:
            delivery.cancel("no driver")
        ```
    """

    # Immutable class defaults instead of an __init__, so that a subclass can define its own
    # __init__ or be a dataclass.
    snapshots: ClassVar[Snapshots | None] = None
    version: int = -1
    stored: AppendResult | None = None
    _recorded: tuple[tuple[Event, datetime | None], ...] = ()

    @classmethod
    def _event_classes(cls) -> Any:
        """The event classes that it names, `Aggregate[Opened | Closed]`; what `events=` asks for.

        Raises:
            InvalidInput: it names none.
        """
        for base in cls.__mro__:
            for hint in vars(base).get("__orig_bases__", ()):
                if get_origin(hint) is Aggregate:
                    (event_classes,) = get_args(hint)
                    if not isinstance(event_classes, TypeVar | ForwardRef):
                        return event_classes
        raise InvalidInput(
            f"{cls.__qualname__} does not name its event classes: derive it from"
            " Aggregate[Opened | Closed], or give the event classes themselves"
        )

    @property
    def changes(self) -> list[Event]:
        """The recorded events that are not stored yet, in order."""
        return [event for event, _ in self._recorded]

    def record(self, event: Event, *, valid_at: datetime | None = None) -> None:
        """Record an event: apply it with `evolve` and add it to `changes`.

        Args:
            event: an instance of a registered event class.
            valid_at: the valid time, with a time zone; by default the time when it is recorded in
                the store.

        Raises:
            InvalidInput: `valid_at` is not a datetime with a time zone.
        """
        if valid_at is not None:
            valid_at = validate_timestamp("valid_at", valid_at)
        # evolve may fail; then the event is not recorded.
        self.evolve(event)
        self._recorded = (*self._recorded, (event, valid_at))

    def evolve(self, event: Event) -> None:
        """Apply a stored or newly recorded event to the state. Override it in the subclass.

        Do not check rules here, because the event has already happened.

        Args:
            event: the data of the event.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must define evolve")
