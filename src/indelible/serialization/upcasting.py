"""Upcasters: read stored events of earlier types and shapes as current ones.

The upcasters of a store form a graph from types to types without cycles. Stored data never changes:
upcasters are applied after reading, before the data becomes an instance of a class.
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
    """Read stored events of one type as another type, with changed data, as several, or as none.

    Declare an upcaster in the attribute `event_upcasters` of the class that the events are read as.
    If the events become several types or none, pass it next to the classes in `events=`. Upcasters
    are chained until no further one applies.

    Args:
        from_type: the stored type. Use the same type as `into` if the data changed under one name.
            `change` then also gets data of the current shape, and must return it unchanged.
        change: takes the plain JSON data of an event and returns the data of the other type. It may
            change and return the same dict. If `into` is a tuple, it returns any number of pairs
            of a type and data. None if the data stays the same.
        into: the type that the events are read as. If `change` returns several types, a tuple of
            all the types that it may return. An empty tuple drops the events. By default the type
            of the class that declares the upcaster.

    Raises:
        InvalidInput: a type is not a valid name, or `change` does not match `into`.

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
                f"the upcaster of {from_type!r} has a change, but into=() drops the events: remove"
                " change, or name in into the types that it returns"
            )
        if isinstance(targets, tuple) and targets and change is None:
            raise InvalidInput(
                f"the upcaster of {from_type!r} needs a change that returns pairs of a type and"
                f" data, since into is a tuple: {', '.join(targets)}"
            )
        object.__setattr__(self, "from_type", from_type)
        object.__setattr__(self, "change", change)
        object.__setattr__(self, "into", targets)

    def declared_by(self, event_type: str) -> Upcaster:
        """Return this upcaster with the type of the class that declares it as `into`."""
        if self.into is not None:
            return self
        return Upcaster(self.from_type, self.change, into=event_type)

    @property
    def targets(self) -> tuple[str, ...]:
        """The types that the events are read as."""
        return (self.into,) if isinstance(self.into, str) else self.into or ()

    def __str__(self) -> str:
        change = self.change
        name = "" if change is None else f" by {getattr(change, '__qualname__', repr(change))}"
        return f"{self.from_type} -> {', '.join(self.targets) or 'nothing'}{name}"


class UpcasterFailure(Exception):
    """An upcaster raised an error or returned invalid data."""

    def __init__(self, upcaster: Upcaster, reason: str) -> None:
        self.upcaster = upcaster
        self.reason = reason
        super().__init__(upcaster, reason)


class Upcasting:
    """All upcasters of a store.

    Args:
        upcasters: the upcasters, in the order of their declaration. Upcasters that keep the type
            are applied in this order.
        classes: the registered classes by type.
        keep_unknown: whether events without a class are read as plain data.

    Raises:
        InvalidInput: the upcasters contradict each other or the classes, or form a cycle.
    """

    def __init__(
        self, upcasters: Iterable[Upcaster], classes: Mapping[str, type], *, keep_unknown: bool
    ) -> None:
        self.steps: dict[str, list[Upcaster]] = {}
        """The upcasters from each type; types without any are left out."""
        for upcaster in upcasters:
            if upcaster.into is None:
                raise InvalidInput(
                    f"the upcaster of {upcaster.from_type!r} has no target type and no class"
                    " declares it: pass into= with a type, or into=() to drop the events"
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
                f"two upcasters lead from type {upcaster.from_type!r} to other types: {steps[-1]}"
                f" and {upcaster}; chain them, so that one starts where the other ends"
            )
        steps.append(upcaster)

    def _check_ends(self, classes: Mapping[str, type], keep_unknown: bool) -> None:
        for event_type, steps in self.steps.items():
            if event_type in classes and event_type not in steps[-1].targets:
                raise InvalidInput(
                    f"event type {event_type!r} has both the class"
                    f" {classes[event_type].__qualname__} and the upcaster {steps[-1]}, so no event"
                    " would be read as that class; remove one of them"
                )
            for target in self._reachable(event_type, ()):
                if not keep_unknown and target not in classes and target not in self.steps:
                    raise InvalidInput(
                        f"an upcaster leads from {event_type!r} to type {target!r}, which has no"
                        " registered class: add it to events= of connect"
                    )

    def _reachable(self, event_type: str, path: tuple[str, ...]) -> set[str]:
        """Return all types that events of a type may be read as; reject cycles."""
        if event_type in path:
            circle = " -> ".join((*path[path.index(event_type) :], event_type))
            raise InvalidInput(f"upcasters form a cycle: {circle}")
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
        """Return whether an upcaster leads from or to a type."""
        return event_type in self.steps or event_type in self._sources

    def apply(self, event_type: str, data: Any) -> Iterator[tuple[str, Any, Upcaster]]:
        """Apply the upcasters of a type until no further one applies.

        Args:
            event_type: the stored type of an event.
            data: its plain data, which upcasters may change.

        Returns:
            For each resulting event its type, its data and the last upcaster.

        Raises:
            UpcasterFailure: an upcaster raised an error or returned no data.
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
        """Return the type that an event with erased data is read as.

        A type that may become several is kept, since the choice depends on the erased data. None if
        such events are dropped.
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
        """Return the types that a stored type is read as now.

        A type without upcasters, or whose events are dropped, is returned itself.
        """
        if not self._is_replaced(event_type):
            return {event_type}
        types: set[str] = set()
        for target in self.steps[event_type][-1].targets:
            types |= self.current_types(target)
        return types or {event_type}

    def current(self, query: Query) -> Query:
        """Return a query with the types that its types are read as now."""
        return query.with_types(self.current_types) if self.steps else query

    def stored(self, query: Query) -> Query:
        """Return a query with all stored types that are read as the types of a query."""
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
            raise UpcasterFailure(
                step, f"returned the type {target!r}, but its into allows only {named}"
            )
        if part_data is None:
            raise UpcasterFailure(step, "returned None for data: it must return the changed data")
        # Parts may share values, and the next upcaster may change them.
        yield target, part_data if index == len(results) - 1 else deepcopy(part_data)
