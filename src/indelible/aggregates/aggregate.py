"""An aggregate: the rules of a domain object as methods of a class."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, ForwardRef, Generic, TypeVar, get_args, get_origin

from indelible.core.timestamps import validate_timestamp
from indelible.errors import InvalidInput
from indelible.events import AppendResult

from .snapshots import Snapshots

Event = TypeVar("Event")


class Aggregate(Generic[Event]):
    """A domain object that is what its events tell: subclass it.

    Its methods check the rules and `record` what happens; `evolve` says what an event makes of it.
    It is made without arguments, as it is before its first event.

    Attributes:
        version: the version of its last stored event; -1 before the first.
        stored: what storing its changes did last; None before that.
        snapshots: of the class: when its aggregates are kept, so that not all events need be read
            again; None for never. The attributes to be kept are annotated in the class.

    Example:
        ```python
        class Delivery(Aggregate[DeliveryPickedUp | DeliveryCanceled]):
            state: Literal["open", "picked up", "canceled"] = "open"

            def cancel(self, reason: str) -> None:
                if self.state != "open":
                    raise RuleBroken(f"a delivery that is {self.state} cannot be canceled")
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

    # Defaults of the class, and none of them one that could change: no __init__ of ours has to run,
    # so a subclass may have one of its own, or be a dataclass.
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
        """What was recorded and is not stored yet, in order."""
        return [event for event, _ in self._recorded]

    def record(self, event: Event, *, valid_at: datetime | None = None) -> None:
        """Record that something happened: it is among the `changes`, and the aggregate evolves.

        Args:
            event: what happened, an instance of a registered class.
            valid_at: when it holds in the world; by default when it is stored.

        Raises:
            InvalidInput: `valid_at` is no moment.
        """
        if valid_at is not None:
            valid_at = validate_timestamp("valid_at", valid_at)
        # First what may fail: an event that cannot be taken in was not recorded.
        self.evolve(event)
        self._recorded = (*self._recorded, (event, valid_at))

    def evolve(self, event: Event) -> None:
        """Take in an event, stored or just recorded: the subclass says what it makes of it.

        It checks nothing: what happened has happened.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must say what events make of it")
