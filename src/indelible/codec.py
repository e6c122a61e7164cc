"""Event classes <-> type names and JSON.

JSON is written and read by msgspec: dataclasses, attrs classes and msgspec Structs directly,
pydantic models through pydantic's own JSON, so that their validators and aliases hold.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from string import Formatter
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from .errors import (
    DecodingFailed,
    EncodingFailed,
    InvalidInput,
    UnknownEventType,
    UnregisteredEventClass,
)
from .names import check_name
from .upcasting import Upcaster, UpcasterFailure, Upcasting

Unknown = Literal["raise", "keep"]
Decoder = Callable[[bytes], Any]
EventClasses = Any
"""What `events=` takes: classes, a union of classes, or a mapping from type names to classes, and
upcasters."""

# What may hide something that JSON or the store cannot keep. Written JSON is searched, which is
# fast; only where one of these is found is the value itself looked at. Each begins with a letter:
# the search jumps from one to the next, and takes five times as long for a choice of beginnings.
_find_null_or_nul = re.compile(rb"u(?:(?<=nu)ll|(?<=\\u)0000)").search
_find_time = re.compile(rb"T\d\d:").search
_find_moment_without_zone = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?"').search

# The same for JSON from elsewhere, in which null is nothing but null.
_ESCAPES = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


class Codec:
    """The registered event classes, and how their instances become JSON and back.

    Args:
        events: classes, a union of classes, an iterable of these, or a mapping from type names to
            classes; upcasters among them. The type of an event is its class's name, unless the
            mapping or a class attribute `event_type` gives another.
        unknown: what to do with a stored type that has no class: `raise` an `UnknownEventType`, or
            `keep` its data as plain JSON. Without any class, plain data is always kept.

    Raises:
        InvalidInput: something that is no class, two classes for one type, a class that cannot be
            read from JSON, or upcasters that contradict each other.
    """

    def __init__(self, events: EventClasses = (), *, unknown: Unknown = "raise") -> None:
        if unknown not in ("raise", "keep"):
            raise InvalidInput(f'unknown must be "raise" or "keep", not {unknown!r}')
        self._types: dict[type, str] = {}
        self._tags: dict[type, tuple[str, ...]] = {}
        self._classes: dict[str, type] = {}
        self.decoders = _Decoders()
        """What reads the data of a type: data is all it takes, and its errors are its own."""
        upcasters: list[Upcaster] = []
        for event_type, found in _registrations(events):
            if isinstance(found, Upcaster):
                upcasters.append(found)
            elif self._register(event_type, found):
                upcasters += _declared_upcasters(event_type, found)
        self._known_classes = types.MappingProxyType(self._classes)
        self.decoders.keep_unknown = unknown == "keep" or not self._classes
        self.decode_metadata: Decoder = decode_metadata
        """What reads the metadata of a stored event."""
        self.upcasting = Upcasting(
            upcasters, self._classes, keep_unknown=self.decoders.keep_unknown
        )
        """What stored events of earlier types and shapes are read as."""

    def keep_as_stored(self) -> None:
        """Read data and metadata as the JSON that they are: no number loses a digit."""
        self.decoders = _AsStored()
        self.decode_metadata = _as_stored

    @property
    def classes(self) -> Mapping[str, type]:
        """The registered classes by the type that they stand for."""
        return self._known_classes

    def _register(self, event_type: str, event_class: type) -> bool:
        """Register a class; return whether it is new, so that this is its own type."""
        check_name("event type", event_type)
        other = self._classes.get(event_type, event_class)
        if other is not event_class:
            raise InvalidInput(
                f"event type {event_type!r} stands for two classes, {other.__qualname__} of"
                f" {other.__module__} and {event_class.__qualname__} of {event_class.__module__}:"
                " give one of them a class attribute event_type"
            )
        self._classes[event_type] = event_class
        is_new = event_class not in self._types
        self._types.setdefault(event_class, event_type)
        self.decoders[event_type] = _decoder(event_class)
        if templates := _tag_templates(event_class):
            self._tags[event_class] = templates
        return is_new

    def type_of(self, event: object) -> str:
        """Name the type of an instance of a registered class.

        Raises:
            UnregisteredEventClass: its class is not registered.
        """
        try:
            return self._types[type(event)]
        except KeyError:
            raise UnregisteredEventClass(type(event)) from None

    def type_of_class(self, event_class: type) -> str:
        """Name the type that a registered class stands for.

        Raises:
            UnregisteredEventClass: it is not registered.
        """
        try:
            return self._types[event_class]
        except KeyError:
            raise UnregisteredEventClass(event_class) from None

    def registered_type(self, data: object) -> str | None:
        """Name the type of an instance of a registered class; None for anything else."""
        return self._types.get(type(data))

    def tags_of(self, event: object) -> list[str]:
        """Give the tags that the class of an event declares, with the event's values.

        `event_tags = ("course:{course}", "student:{student}")` on a registered class; one of
        which a value is None is left out.
        """
        templates = self._tags.get(type(event))
        if templates is None:
            return []
        values = _Values(event)
        tags = []
        for template in templates:
            try:
                tags.append(template.format_map(values))
            except _NoValue:
                continue
        return tags

    def encode(self, event_type: str, data: object, *, field: str = "data") -> bytes:
        """Write data as JSON.

        Args:
            event_type: for the error.
            data: what to write.
            field: what the data is called in the error.

        Raises:
            EncodingFailed: something has no JSON, or would not come back as it went in.
        """
        try:
            written, is_plain = _encode(data)
            if (not is_plain or _is_suspicious(written)) and (found := _first_fault(data, field)):
                raise EncodingFailed(event_type, *found)
        except RecursionError as error:
            reason = "is nested too deeply, or contains itself"
            raise EncodingFailed(event_type, field, reason) from error
        except EncodingFailed:
            raise
        except Exception as error:
            if succeeds(lambda: _encode(data)):
                raise
            raise EncodingFailed(event_type, *_why_not(data, field, error)) from error
        return written

    def encode_together(self, values: Sequence[object]) -> bytes | None:
        """Write many values as JSON, in a fraction of the time that it takes one by one.

        Returns:
            The JSON of the list; None where one may be at fault, which `encode` says of each.
        """
        try:
            written = _ordered_encoder.encode(values)
        except Exception:
            if succeeds(lambda: _ordered_encoder.encode(values)):
                raise
            return None
        return None if _is_suspicious(written) else written

    def check(self, event_type: str, written: bytes, *, field: str = "data") -> Any:
        """Check that JSON from elsewhere can be stored and read again, as it is.

        Args:
            event_type: for the error.
            written: the JSON.
            field: what it is called in the error.

        Returns:
            What it says.

        Raises:
            EncodingFailed: it is no JSON, or holds something that the store does not keep.
        """
        try:
            value = _decode_plain(written)
            if _ESCAPES.search(written) and (found := _first_fault(value, field)):
                raise EncodingFailed(event_type, *found)
        except RecursionError as error:
            raise EncodingFailed(event_type, field, "is nested too deeply") from error
        except (msgspec.MsgspecError, UnicodeError) as error:
            reason = f"is no JSON that can be stored: {error}"
            raise EncodingFailed(event_type, field, reason) from error
        return value

    def decode(self, event_type: str, data: bytes) -> Any:
        """Read stored data: an instance of the type's class, or plain JSON data.

        Raises:
            UnknownEventType: no class is registered for the type.
            DecodingFailed: the data does not fit the class.
        """
        decoder = self.decoders[event_type]
        try:
            return decoder(data)
        except Exception as error:
            if succeeds(lambda: decoder(data)):
                raise
            raise self.failure(event_type, error) from error

    def upcast(self, event_type: str, data: bytes | None) -> list[tuple[str, bytes | None]]:
        """Follow the upcasters of a stored event's type.

        Args:
            event_type: the type, which has some.
            data: the stored data; None where it was erased.

        Returns:
            The types and the data of the events that it is read as.

        Raises:
            UpcasterFailure: one of them failed, or gave what is no data.
        """
        if data is None:
            found = self.upcasting.type_of_erased(event_type)
            return [] if found is None else [(found, None)]
        parts: list[tuple[str, bytes | None]] = []
        for target, changed, last in self.upcasting.apply(event_type, _decode_plain(data)):
            try:
                written = self.encode(target, changed)
                self.decode(target, written)
            except (EncodingFailed, DecodingFailed) as error:
                raise UpcasterFailure(last, f"gave what is no data of its type: {error}") from error
            parts.append((target, written))
        return parts

    def as_read(self, event_type: str, data: object) -> list[Any]:
        """What data will be read as, once it is stored: plain data as an instance of its class.

        Raises:
            UnknownEventType: no class is registered for the type.
            EncodingFailed: it could not be read again.
        """
        if self.registered_type(data) is not None:
            return [data]
        written = self.encode(event_type, data)
        parts: list[tuple[str, Any]] = [(event_type, written)]
        try:
            if event_type in self.upcasting.steps:
                parts = self.upcast(event_type, written)
            return [self.decode(found, part) for found, part in parts]
        except UpcasterFailure as failure:
            reason = f"could not be read again: the upcaster {failure.upcaster} {failure.reason}"
            raise EncodingFailed(event_type, "data", reason) from failure.__cause__
        except DecodingFailed as failure:
            event_class = failure.event_class.__qualname__
            reason = f"could not be read again as {event_class}: {failure.__cause__}"
            raise EncodingFailed(event_type, "data", reason) from failure

    def failure(self, event_type: str, error: Exception) -> DecodingFailed:
        """Say that stored data does not fit the class of its type."""
        return DecodingFailed(event_type, self._classes[event_type], str(error))


def succeeds(work: Callable[[], object]) -> bool:
    """Whether something that failed goes well after all, so that it was not at fault.

    A class of the application may raise anything when it is read, and so may the handler of a
    signal, in the middle of that: a time limit, say. But only the class does so again.
    """
    try:
        work()
    except Exception:
        return False
    return True


class _Decoders(dict[str, Decoder]):
    """What reads the data of a type; plain data where no class is registered, if that is kept."""

    keep_unknown = True

    def __missing__(self, event_type: str) -> Decoder:
        if not self.keep_unknown:
            raise UnknownEventType(event_type)
        return _decode_plain


class _AsStored(_Decoders):
    """What leaves the data of every type as it is."""

    def __missing__(self, event_type: str) -> Decoder:
        return _as_stored


def _as_stored(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.format(data, indent=-1))


def _encode_other(value: object) -> Any:
    if _is_pydantic(type(value)):
        return msgspec.Raw(value.model_dump_json(by_alias=True, round_trip=True).encode())  # type: ignore[attr-defined]
    raise TypeError(f"objects of type {type(value).__qualname__} have no JSON")


def decode_other(wanted: type, value: Any) -> Any:
    """Make an instance of a class that msgspec does not know from plain data."""
    if _is_pydantic(wanted):
        return wanted.model_validate_json(_encoder.encode(value))  # type: ignore[attr-defined]
    raise TypeError(f"objects of type {wanted.__qualname__} cannot be read from JSON")


# Sets in one order, so that the same event is the same JSON when it is appended again; but not
# everything that stands in a set has an order, nor does a key that is no text.
_ordered_encoder = msgspec.json.Encoder(enc_hook=_encode_other, order="deterministic")
_encoder = msgspec.json.Encoder(enc_hook=_encode_other)


def _encode(data: object) -> tuple[bytes, bool]:
    """Write JSON; say also whether all keys were text and all sets had an order."""
    try:
        return _ordered_encoder.encode(data), True
    except TypeError:
        return _encoder.encode(data), False


def _is_suspicious(written: bytes) -> bool:
    return _find_null_or_nul(written) is not None or (
        _find_time(written) is not None and _find_moment_without_zone(written) is not None
    )


encode_as_is = _encoder.encode
"""Write JSON of what is known to have some, with all that is in a dict in its order."""

_decode_plain = msgspec.json.Decoder().decode
decode_metadata = msgspec.json.Decoder(dict[str, Any]).decode
"""Read the metadata of a stored event."""


def _is_pydantic(event_class: type) -> bool:
    return hasattr(event_class, "__pydantic_validator__") and hasattr(
        event_class, "model_validate_json"
    )


def _check_fields(event_class: type) -> None:
    """Check that nothing of an instance is left out: msgspec skips private fields of attrs."""
    for attribute in getattr(event_class, "__attrs_attrs__", ()):
        if attribute.name.startswith("_"):
            raise InvalidInput(
                f"{event_class.__qualname__} cannot be an event class: its private field"
                f" {attribute.name} would not be stored; give it a public name"
            )


def _decoder(event_class: type) -> Callable[[bytes], Any]:
    if _is_pydantic(event_class):
        validate: Callable[[bytes], Any] = event_class.model_validate_json  # type: ignore[attr-defined]
        return validate
    _check_fields(event_class)
    try:
        return msgspec.json.Decoder(event_class, dec_hook=decode_other).decode
    except Exception as error:
        raise InvalidInput(
            f"{event_class.__qualname__} cannot be an event class: {error}"
        ) from error


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


def _tag_templates(event_class: type) -> tuple[str, ...]:
    given = getattr(event_class, "event_tags", ())
    templates = (given,) if isinstance(given, str) else tuple(given)
    known = _names_of_fields(event_class)
    for template in templates:
        try:
            names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"event_tags of {event_class.__qualname__} must be texts such as"
                f' "course:{{course}}", not {template!r} ({error})'
            ) from error
        for name in names:
            if name not in known:
                raise InvalidInput(
                    f"event_tags of {event_class.__qualname__}: {template!r} names {name!r}, which"
                    f" is none of its fields ({', '.join(known)})"
                )
    return templates


def _names_of_fields(event_class: type) -> list[str]:
    if is_dataclass(event_class):
        return [field.name for field in fields(event_class)]
    if issubclass(event_class, msgspec.Struct):
        return list(event_class.__struct_fields__)
    if hasattr(event_class, "__attrs_attrs__"):
        return [attribute.name for attribute in event_class.__attrs_attrs__]
    return list(getattr(event_class, "model_fields", ()))


def _declared_upcasters(event_type: str, event_class: type) -> Iterator[Upcaster]:
    # Its own only: a class that inherits them is another event.
    given = vars(event_class).get("event_upcasters", ())
    for upcaster in (given,) if isinstance(given, Upcaster) else given:
        if not isinstance(upcaster, Upcaster):
            raise InvalidInput(
                f"event_upcasters of {event_class.__qualname__} must be Upcaster values, not"
                f" {upcaster!r}"
            )
        yield upcaster.declared_by(event_type)


def _registrations(events: EventClasses) -> Iterator[tuple[str, type | Upcaster]]:
    origin: Any = get_origin(events)
    if isinstance(events, Upcaster):
        yield events.from_type, events
    elif isinstance(events, Mapping):
        for event_type, event_class in events.items():
            _check_class(event_class)
            yield event_type, event_class
    elif origin in (types.UnionType, Union):
        yield from _registrations(get_args(events))
    elif origin is not None:
        raise InvalidInput(f"{events!r} cannot be an event class: give it without parameters")
    elif isinstance(events, type):
        _check_class(events)
        event_type = getattr(events, "event_type", events.__name__)
        yield event_type, events
    elif isinstance(events, Iterable) and not isinstance(events, str | bytes):
        for event_class in events:
            yield from _registrations(event_class)
    else:
        raise InvalidInput(
            "events= takes classes, a union of classes, or a mapping from type names to classes,"
            f" and upcasters, not {events!r}"
        )


def is_event_class(event_class: object) -> bool:
    """Whether it is a class of a kind whose instances can be events."""
    return isinstance(event_class, type) and (
        is_dataclass(event_class)
        or issubclass(event_class, msgspec.Struct)
        or hasattr(event_class, "__attrs_attrs__")
        or _is_pydantic(event_class)
    )


def _check_class(event_class: object) -> None:
    if not is_event_class(event_class):
        raise InvalidInput(
            f"{event_class!r} cannot be an event class: use a dataclass, an attrs class, a msgspec"
            " Struct or a pydantic model"
        )


def _why_not(data: object, field: str, error: Exception) -> tuple[str, str]:
    try:
        return _first_fault(data, field) or (field, f"cannot be written as JSON: {error}")
    except RecursionError:
        return field, "is nested too deeply, or contains itself"


def _first_fault(value: Any, path: str) -> tuple[str, str] | None:
    """Find the first part of a value that cannot be kept: its path, and why."""
    if isinstance(value, Enum):
        return _first_fault(value.value, path)
    if value is msgspec.UNSET:
        return None
    if isinstance(value, dict) and (found := _key_fault(value, path)):
        return found
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, f"is {value}, which JSON does not have")
    if isinstance(value, str):
        if "\x00" in value:
            return path, "contains a NUL character, which PostgreSQL does not keep"
        if any("\ud800" <= character <= "\udfff" for character in value):
            return path, "contains half of a surrogate pair, which is no text"
        return None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            return path, "is a datetime without a time zone: which moment it means is not known"
        return None
    children = _children(value, path)
    if children is not None:
        return next(
            (found for found in (_first_fault(*child) for child in children) if found), None
        )
    try:
        _encoder.encode(value)
    except Exception as error:
        return path, f"cannot be written as JSON: {error}"
    return None


def _key_fault(value: dict[Any, Any], path: str) -> tuple[str, str] | None:
    written = set()
    for key in value:
        try:
            text = _encoder.encode({key: 0})
        except Exception as error:
            return f"{path} key {key!r}", f"cannot be written as JSON: {error}"
        if text in written:
            return f"{path} key {key!r}", "is the same in JSON as another key"
        written.add(text)
    return None


def _children(value: Any, path: str) -> Iterator[tuple[Any, str]] | None:
    if isinstance(value, dict):
        return (
            child
            for key, item in value.items()
            for child in ((key, f"{path} key {key!r}"), (item, f"{path}.{key}"))
        )
    if isinstance(value, list | tuple | set | frozenset):
        return ((item, f"{path}[{index}]") for index, item in enumerate(value))
    if isinstance(value, type):
        return None
    names = field_names(value)
    if names is None:
        return None
    return ((getattr(value, name), f"{path}.{name}") for name in names)


def field_names(value: Any) -> list[str] | None:
    """The names of an instance's fields that are written as JSON; None for what has no fields."""
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    if hasattr(type(value), "__attrs_attrs__"):
        return [attribute.name for attribute in type(value).__attrs_attrs__]
    if _is_pydantic(type(value)):
        return [*type(value).model_fields, *(value.model_extra or ())]
    return None
