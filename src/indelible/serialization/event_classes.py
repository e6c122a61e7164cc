"""Register event classes: dataclasses, attrs, msgspec and pydantic."""

from __future__ import annotations

import types
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from indelible.errors import InvalidInput

from .exactness import Exactness, is_pydantic, names_of_fields, resolved

Unknown = Literal["raise", "keep"]
EventClasses = Any
"""What `events=` takes: classes, a union of classes, or a mapping from type names to classes, and
upcasters."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a registered class.

    Attributes:
        type: the type that its instances are stored under.
        tags: the templates of their tags.
        exactness: whether they come back as they are.
    """

    type: str
    tags: tuple[str, ...]
    exactness: Exactness

    def tags_of(self, event: object) -> list[str]:
        """Give the tags that the class declares, with the event's values.

        `event_tags = ("course:{course}", "student:{student}")` on a registered class; one of
        which a value is None is left out.
        """
        values = _Values(event)
        tags = []
        for template in self.tags:
            try:
                tags.append(template.format_map(values))
            except _NoValue:
                continue
        return tags


class _NoValue(Exception):
    """A field that a tag needs is None."""


class _Values(dict[str, Any]):
    """The values of an event's fields, by name."""

    def __init__(self, event: object) -> None:
        super().__init__()
        self._event = event

    def __missing__(self, name: str) -> Any:
        value = getattr(self._event, name)
        if value is None:
            raise _NoValue
        return value


def classes_of(given: object) -> list[type]:
    """The classes that are given: one, or a union of them, or an alias of one.

    Raises:
        InvalidInput: it is something else.
    """
    given = resolved(given)
    if get_origin(given) in (types.UnionType, Union):
        return [found for part in get_args(given) for found in classes_of(part)]
    if isinstance(given, type):
        return [given]
    raise InvalidInput(f"{given!r} is no event class, union of them, or name of an event type")


def is_event_class(event_class: object) -> bool:
    """Whether it is a class of a kind whose instances can be events."""
    return isinstance(event_class, type) and (
        is_dataclass(event_class)
        or issubclass(event_class, msgspec.Struct)
        or hasattr(event_class, "__attrs_attrs__")
        or is_pydantic(event_class)
    )


def field_names(value: Any) -> list[str] | None:
    """The names of an instance's fields that are written as JSON; None for what has no fields."""
    names = names_of_fields(type(value))
    return names if names is None else [*names, *(getattr(value, "model_extra", None) or ())]
