"""Register event classes: dataclasses, attrs, msgspec and pydantic."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from string import Formatter
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from indelible.errors import InvalidInput

from .exactness import Exactness, is_pydantic, names_of_fields, resolved
from .json_encoding import decode_other
from .upcasting import Upcaster

Unknown = Literal["raise", "keep"]
EventClasses = Any
"""A value for `events=`: classes, a union of classes, or a mapping from type names to classes, and
upcasters. An aggregate class stands for the event classes that it names."""


@dataclass(frozen=True, slots=True)
class Known:
    """The properties of a registered class.

    Attributes:
        type: the event type of its instances.
        tags: the templates of their tags.
        exactness: whether JSON keeps its instances unchanged.
    """

    type: str
    tags: tuple[str, ...]
    exactness: Exactness

    def tags_of(self, event: object) -> list[str]:
        """Return the tags that the class declares, filled in with the event's values.

        A registered class declares them as `event_tags = ("course:{course}", "student:{student}")`.
        A tag with a value of None is left out.
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
    """A field that a tag uses is None."""


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


def registrations(events: EventClasses) -> Iterator[tuple[str, type | Upcaster]]:
    """Iterate over the classes, with their types, and the upcasters in the value of `events=`.

    Raises:
        InvalidInput: a value is neither a class nor an upcaster.
    """
    events = resolved(events)
    origin: Any = get_origin(events)
    if isinstance(events, Upcaster):
        yield events.from_type, events
    elif isinstance(events, Mapping):
        for event_type, event_class in events.items():
            _check_class(event_class)
            yield event_type, event_class
    elif origin in (types.UnionType, Union):
        yield from registrations(get_args(events))
    elif origin is not None:
        raise InvalidInput(f"{events!r} cannot be an event class: give it without parameters")
    elif hasattr(events, "_event_classes"):
        yield from registrations(events._event_classes())
    elif isinstance(events, type):
        _check_class(events)
        event_type = getattr(events, "event_type", events.__name__)
        yield event_type, events
    elif isinstance(events, Iterable) and not isinstance(events, str | bytes):
        for event_class in events:
            yield from registrations(event_class)
    else:
        raise InvalidInput(
            "events= must be classes, a union of classes, or a mapping from type names to classes,"
            f" and upcasters, not {events!r}"
        )


def declared_upcasters(event_type: str, event_class: type) -> Iterator[Upcaster]:
    """Iterate over the upcasters that a class declares.

    Raises:
        InvalidInput: a value is not an upcaster.
    """
    # Inherited upcasters are ignored: a derived class is a different event.
    declared = vars(event_class).get("event_upcasters", ())
    for upcaster in (declared,) if isinstance(declared, Upcaster) else declared:
        if not isinstance(upcaster, Upcaster):
            raise InvalidInput(
                f"event_upcasters of {event_class.__qualname__} must be Upcaster values, not"
                f" {upcaster!r}"
            )
        yield upcaster.declared_by(event_type)


def tag_templates(event_class: type) -> tuple[str, ...]:
    """Return the templates of the tags that a class declares.

    Raises:
        InvalidInput: a value is not a template, or uses a field that the class does not have.
    """
    declared = getattr(event_class, "event_tags", ())
    templates = (declared,) if isinstance(declared, str) else tuple(declared)
    fields = names_of_fields(event_class) or []
    for template in templates:
        try:
            names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"event_tags of {event_class.__qualname__} must be texts such as"
                f' "course:{{course}}", not {template!r} ({error})'
            ) from error
        for name in names:
            if name not in fields:
                raise InvalidInput(
                    f"event_tags of {event_class.__qualname__}: {template!r} uses {name!r}, which"
                    f" is not one of its fields ({', '.join(fields)})"
                )
    return templates


def decoder_of(event_class: type) -> Callable[[bytes], Any]:
    """Make the decoder for the data of a class.

    Raises:
        InvalidInput: the class cannot be read from JSON.
    """
    if is_pydantic(event_class):
        validate: Callable[[bytes], Any] = event_class.model_validate_json  # type: ignore[attr-defined]
        return validate
    _check_fields(event_class)
    try:
        return msgspec.json.Decoder(event_class, dec_hook=decode_other).decode
    except Exception as error:
        way_out = _UNION if "type union" in str(error).lower() else ""
        raise InvalidInput(
            f"{event_class.__qualname__} cannot be an event class: {error}{way_out}"
        ) from error


_UNION = (
    ". JSON does not say which class of a union a value is of: use one class with optional fields,"
    " or msgspec Structs with tag=True, or make the event a pydantic model with a discriminated"
    " union"
)


def _check_fields(event_class: type) -> None:
    """Check that every field is written: msgspec skips private fields of attrs classes."""
    for attribute in getattr(event_class, "__attrs_attrs__", ()):
        if attribute.name.startswith("_"):
            raise InvalidInput(
                f"{event_class.__qualname__} cannot be an event class: its private field"
                f" {attribute.name} would not be stored; give it a public name"
            )


def _check_class(event_class: object) -> None:
    if not is_event_class(event_class) or hasattr(event_class, "_event_classes"):
        raise InvalidInput(
            f"{event_class!r} cannot be an event class: use a dataclass, an attrs class, a msgspec"
            " Struct or a pydantic model"
        )


def is_redefined(event_class: type, previous_class: type) -> bool:
    """Return whether a class is a new definition of a previous class."""
    return (event_class.__module__, event_class.__qualname__) == (
        previous_class.__module__,
        previous_class.__qualname__,
    )


def classes_of(kind: object) -> list[type]:
    """Return the classes that a class, a union of classes, or an alias of one means.

    Raises:
        InvalidInput: the value is something else.
    """
    kind = resolved(kind)
    if get_origin(kind) in (types.UnionType, Union):
        return [event_class for member in get_args(kind) for event_class in classes_of(member)]
    if hasattr(kind, "_event_classes"):
        return classes_of(kind._event_classes())
    if isinstance(kind, type):
        return [kind]
    raise InvalidInput(f"{kind!r} is not an event class, a union of them, or an event type name")


def is_event_class(event_class: object) -> bool:
    """Return whether a value is a class of a kind whose instances can be events."""
    return isinstance(event_class, type) and (
        is_dataclass(event_class)
        or issubclass(event_class, msgspec.Struct)
        or hasattr(event_class, "__attrs_attrs__")
        or is_pydantic(event_class)
    )


def field_names(value: Any) -> list[str] | None:
    """Return the names of an instance's fields in JSON; None if it has no fields."""
    names = names_of_fields(type(value))
    return names if names is None else [*names, *(getattr(value, "model_extra", None) or ())]
