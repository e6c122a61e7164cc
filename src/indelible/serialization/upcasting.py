"""Upcasters: stored events of earlier types and shapes, read as those of today.

Together the upcasters of a store are a graph from types to types without cycles. What is stored
never changes: they are applied to what was read, before it becomes an instance of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from indelible.core.validation import validate_name
from indelible.errors import InvalidInput, describe
from indelible.query import Query

Change = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, init=False)
class Upcaster:
    """How stored events of one type are read: under another type, changed, as several, as none.

    It stands in the attribute `event_upcasters` of the class that such events are read as, or, for
    what became several or none, beside the classes in `events=`. Chains are followed to their end.

    Args:
        from_type: the type that the events are stored under. The same as `into` for data that
            changed under one name: then `change` gets the new data as well, and leaves it as it is.
        change: takes the plain JSON data of an event, and gives the data of the other type (which
            may be the same dict, changed); where `into` is a tuple, it gives any number of pairs
            of a type and data. None where the data stays as it is.
        into: the type that they are read as. A tuple for several types, any of which `change` may
            give or leave out; an empty one where nothing is left of them. By default the type of
            the class that the upcaster stands in.

    Raises:
        InvalidInput: a type is no name, or `change` does not go with `into`.

    Example:
        ```python
        def with_reason(data):
            return {"reason": "unknown", **data}

        @dataclass(frozen=True)
        class DeliveryCanceled:
            event_upcasters = (
                Upcaster("DeliveryStopped"),                 # another name, nothing else
                Upcaster("DeliveryAborted", with_reason),    # another name, and a new field
            )
            order_id: UUID
            reason: str

        EventStore.connect(events=[DeliveryCanceled, Upcaster("HeartbeatSeen", into=())])
        ```
    """

    from_type: str
    change: Change | None
    into: str | tuple[str, ...] | None

    def __init__(
        self,
        from_type: str,
        change: Change | None = None,
        *,
        into: str | Iterable[str] | None = None,
    ) -> None:
        validate_name("event type", from_type)
        targets = into if into is None or isinstance(into, str) else tuple(into)
        for target in [targets] if isinstance(targets, str) else targets or ():
            validate_name("event type", target)
        if change is not None and not callable(change):
            raise InvalidInput(
                f"change of the upcaster of {from_type!r} must be a function, not {change!r}"
            )
        if targets == () and change is not None:
            raise InvalidInput(
                f"the upcaster of {from_type!r} leaves nothing of an event, and has nothing to"
                " change: leave change out, or name in into what it gives"
            )
        if isinstance(targets, tuple) and targets and change is None:
            raise InvalidInput(
                f"the upcaster of {from_type!r} needs a change that gives pairs of a type and data:"
                f" into names {', '.join(targets)}"
            )
        object.__setattr__(self, "from_type", from_type)
        object.__setattr__(self, "change", change)
        object.__setattr__(self, "into", targets)

    def declared_by(self, event_type: str) -> Upcaster:
        """Give the same upcaster with the type of the class that it stands in."""
        if self.into is not None:
            return self
        return Upcaster(self.from_type, self.change, into=event_type)

    @property
    def targets(self) -> tuple[str, ...]:
        """The types that it leads to."""
        return (self.into,) if isinstance(self.into, str) else self.into or ()

    def __str__(self) -> str:
        change = self.change
        name = "" if change is None else f" by {getattr(change, '__qualname__', repr(change))}"
        return f"{self.from_type} -> {', '.join(self.targets) or 'nothing'}{name}"


class UpcasterFailure(Exception):
    """An upcaster raised an error, or gave something that is no data."""

    def __init__(self, upcaster: Upcaster, reason: str) -> None:
        self.upcaster = upcaster
        self.reason = reason
        super().__init__(upcaster, reason)


class Upcasting:
    """All upcasters of a store.

    Args:
        upcasters: them, in the order of their declaration: those that change a type's data in
            place come one after the other.
        classes: the registered classes by type.
        keep_unknown: whether events without a class are read as plain data.

    Raises:
        InvalidInput: they contradict each other or the classes, or lead round in a circle.
    """

    def __init__(
        self, upcasters: Iterable[Upcaster], classes: Mapping[str, type], *, keep_unknown: bool
    ) -> None:
        self.steps: dict[str, list[Upcaster]] = {}
        """The upcasters that lead from a type; empty where there are none."""
        for upcaster in upcasters:
            if upcaster.into is None:
                raise InvalidInput(
                    f"the upcaster of {upcaster.from_type!r} stands in no class: say into= which"
                    " type it leads, () for nothing"
                )
            self._add(upcaster)
        self._check_ends(classes, keep_unknown)
        self._sources: dict[str, set[str]] = {}
        for event_type in self.steps:
            for target in self._reachable(event_type, ()):
                self._sources.setdefault(target, set()).add(event_type)

    def _add(self, upcaster: Upcaster) -> None:
        steps = self.steps.setdefault(upcaster.from_type, [])
        if upcaster.into == upcaster.from_type and upcaster.change is None:
            raise InvalidInput(f"the upcaster {upcaster} changes nothing: give it a change")
        if steps and upcaster.from_type not in steps[-1].targets:
            raise InvalidInput(
                f"two upcasters lead from type {upcaster.from_type!r} to others: {steps[-1]} and"
                f" {upcaster}; let one lead on from where the other ends"
            )
        steps.append(upcaster)

    def _check_ends(self, classes: Mapping[str, type], keep_unknown: bool) -> None:
        for event_type, steps in self.steps.items():
            if event_type in classes and event_type not in steps[-1].targets:
                raise InvalidInput(
                    f"event type {event_type!r} is registered with"
                    f" {classes[event_type].__qualname__} and led away from by the upcaster"
                    f" {steps[-1]}: no event would be read as that class; leave one of them out"
                )
            for target in self._reachable(event_type, ()):
                if not keep_unknown and target not in classes and target not in self.steps:
                    raise InvalidInput(
                        f"an upcaster leads from {event_type!r} to type {target!r}, which has no"
                        " registered class: add it to events= of connect"
                    )

    def _reachable(self, event_type: str, path: tuple[str, ...]) -> set[str]:
        """All types that events of a type may come to be, refusing circles."""
        if event_type in path:
            circle = " -> ".join((*path[path.index(event_type) :], event_type))
            raise InvalidInput(f"upcasters lead round in a circle: {circle}")
        targets = set()
        for target in self._next_types(event_type):
            targets |= {target} | self._reachable(target, (*path, event_type))
        return targets

    def _next_types(self, event_type: str) -> list[str]:
        return [
            target
            for step in self.steps.get(event_type, ())
            for target in step.targets
            if target != event_type
        ]

    def knows(self, event_type: str) -> bool:
        """Whether an upcaster leads from a type or to it."""
        return event_type in self.steps or event_type in self._sources

    def apply(self, event_type: str, data: Any) -> Iterator[tuple[str, Any, Upcaster]]:
        """Follow the upcasters of a type to their end.

        Args:
            event_type: the type that an event is stored under.
            data: its plain data, which may be changed.

        Returns:
            What it is read as: for each event its type, its data and the last upcaster.

        Raises:
            UpcasterFailure: one of them raised an error, or gave no data.
        """
        return self._follow(event_type, data, 0, None)

    def _follow(
        self, event_type: str, data: Any, step_count: int, last_step: Upcaster | None
    ) -> Iterator[tuple[str, Any, Upcaster]]:
        steps = self.steps.get(event_type, ())
        if step_count == len(steps):
            if last_step is not None:
                yield event_type, data, last_step
            return
        step = steps[step_count]
        for target, changed_data in _apply_step(step, data):
            next_step_count = step_count + 1 if target == event_type else 0
            yield from self._follow(target, changed_data, next_step_count, step)

    def type_of_erased(self, event_type: str) -> str | None:
        """Say as which type an event is read whose data was erased.

        What may have become several keeps its type, since nobody knows any more what it was; None
        where nothing is left of such events.
        """
        while self._is_replaced(event_type):
            step = self.steps[event_type][-1]
            if not step.targets:
                return None
            if not isinstance(step.into, str):
                break
            event_type = step.into
        return event_type

    def _is_replaced(self, event_type: str) -> bool:
        steps = self.steps.get(event_type)
        return bool(steps) and event_type not in steps[-1].targets  # type: ignore[index]

    def current_types(self, event_type: str) -> set[str]:
        """Say what that is called today; itself where it still is, and where nothing is left."""
        if not self._is_replaced(event_type):
            return {event_type}
        types: set[str] = set()
        for target in self.steps[event_type][-1].targets:
            types |= self.current_types(target)
        return types or {event_type}

    def current(self, query: Query) -> Query:
        """Give a query with the names that its types are read under today."""
        return query.with_types(self.current_types) if self.steps else query

    def stored(self, query: Query) -> Query:
        """Give a query with all the types that the events that it asks for are stored under."""
        return query.with_types(self._stored_types) if self.steps else query

    def _stored_types(self, event_type: str) -> set[str]:
        current = self.current_types(event_type)
        return current.union(*(self._sources.get(name, ()) for name in current))


def _apply_step(step: Upcaster, data: Any) -> Iterator[tuple[str, Any]]:
    if step.change is None:
        if isinstance(step.into, str):
            yield step.into, data
        return
    try:
        results = step.change(data)
        if isinstance(step.into, tuple):
            results = [(target, part_data) for target, part_data in results]
    except Exception as error:
        raise UpcasterFailure(step, f"failed: {describe(error)}") from error
    if isinstance(step.into, str):
        results = [(step.into, results)]
    for index, (target, part_data) in enumerate(results):
        if target not in step.targets:
            named = ", ".join(step.targets)
            raise UpcasterFailure(step, f"gave the type {target!r}, and its into names {named}")
        if part_data is None:
            raise UpcasterFailure(step, "gave None for data: it must return what it changed")
        # Parts may share what they hold, and be changed further.
        yield target, part_data if index == len(results) - 1 else deepcopy(part_data)
