"""Convert events to and from type names and JSON."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time
from difflib import get_close_matches
from enum import Enum
from string import Formatter
from typing import Any, Union, get_args, get_origin

import msgspec

from indelible.core.validation import validate_name, validate_new_name
from indelible.errors import (
    DecodingFailed,
    EncodingFailed,
    InvalidInput,
    UnknownEventType,
    UnregisteredEventClass,
)
from indelible.query import Query, Unregistered

from .event_classes import EventClasses, Known, Unknown, classes_of, field_names, is_event_class
from .exactness import (
    as_scalar,
    exactness_of,
    is_kept,
    is_pydantic,
    is_whole,
    names_of_fields,
    resolved,
    scalar_below,
)
from .json_validation import Fault, cause_of, reason_of
from .upcasting import Upcaster, UpcasterFailure, Upcasting

Decoder = Callable[[bytes], Any]

# What may hide something that JSON or the store cannot keep. Written JSON is searched, which is
# fast; only where one of these is found is the value itself looked at. Each begins with one
# character: the search jumps from one to the next, and takes five times as long for a choice.
_find_nul = re.compile(rb"u(?<=\\u)0000").search
_find_null_or_nul = re.compile(rb"u(?:(?<=nu)ll|(?<=\\u)0000)").search
_find_moment_not_in_utc = re.compile(rb'T\d\d:[\d:.]*["+-]').search
_find_negative_zero = re.compile(rb"\.(?<=-0\.)0(?!\d)").search

# The same for JSON from elsewhere, in which null is nothing but null.
_find_escape = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])").search
_find_zero = re.compile(rb"-(?<!\w-)0(?!\d|\.\d*[1-9])").search


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
        self.known: dict[type, Known] = {}
        """What is known of the registered classes, by class."""
        self._unknown: set[type] = set()
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
        self._is_suspicious = _search(self.known.values())

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
        validate_new_name("event type", event_type)
        other = self._classes.get(event_type, event_class)
        if other is not event_class and not _is_again(event_class, other):
            raise InvalidInput(
                f"event type {event_type!r} stands for two classes, {other.__qualname__} of"
                f" {other.__module__} and {event_class.__qualname__} of {event_class.__module__}:"
                " give one of them a class attribute event_type"
            )
        self.decoders[event_type] = _decoder(event_class)
        self._classes[event_type] = event_class
        if event_class in self.known:
            return False
        exactness = exactness_of(event_class)
        self.known[event_class] = Known(event_type, _tag_templates(event_class), exactness)
        return True

    def known_as(self, event: object) -> Known:
        """Say what is known of the class of an event.

        Raises:
            UnregisteredEventClass: its class is not registered.
        """
        # A class in the place of an instance may have a metaclass of its own.
        return self._known_class(type if isinstance(event, type) else type(event))

    def _known_class(self, event_class: type) -> Known:
        known = self._look_up(event_class)
        if known is None:
            raise UnregisteredEventClass(event_class)
        return known

    def _look_up(self, event_class: type) -> Known | None:
        known = self.known.get(event_class)
        # Plain data is asked for at each append: a class is looked for once.
        if known is None and event_class not in self._unknown:
            # Defined again, in a notebook or by a reload, it takes the place of the one before.
            for event_type, other in list(self._classes.items()):
                if _is_again(event_class, other):
                    self._register(event_type, event_class)
                    self._is_suspicious = _search(self.known.values())
            known = self.known.get(event_class)
            if known is None:
                self._unknown.add(event_class)
        return known

    def type_of(self, event: object) -> str:
        """Name the type of an instance of a registered class.

        Raises:
            UnregisteredEventClass: its class is not registered.
        """
        return self.known_as(event).type

    def type_of_class(self, event_class: type) -> str:
        """Name the type that a registered class stands for.

        Raises:
            UnregisteredEventClass: it is not registered.
        """
        return self._known_class(event_class).type

    def registered_type(self, data: object) -> str | None:
        """Name the type of an instance of a registered class; None for anything else."""
        known = self._look_up(type(data))
        return None if known is None else known.type

    def is_event(self, value: object) -> bool:
        """Whether it is an instance of a registered class, or such a class."""
        event_class = value if isinstance(value, type) else type(value)
        return event_class in self.known

    def types_of(self, given: Iterable[object]) -> list[str]:
        """Name the event types that classes, unions and aliases of them, and names stand for.

        Raises:
            InvalidInput: something else, or a name that is not known here.
            UnregisteredEventClass: a class is not registered.
        """
        found: list[str] = []
        for one in given:
            if isinstance(one, str):
                validate_name("event type", one)
                found.append(self.check_known(one))
            else:
                found += map(self.type_of_class, classes_of(one))
        return found

    def check_known(self, event_type: str) -> str:
        """Check that an event type is one of those that are registered, if any are.

        Raises:
            InvalidInput: it is not, and not said to be meant either.
        """
        if self._classes and not isinstance(event_type, Unregistered):
            upcasting = self.upcasting
            if event_type not in self._classes and not upcasting.knows(event_type):
                near = get_close_matches(event_type, [*self._classes, *upcasting.steps], n=1)
                hint = f"did you mean {near[0]!r}?" if near else "register its class in events=."
                raise InvalidInput(
                    f"event type {event_type!r} is not registered: {hint} If events without a class"
                    f" are meant, say unregistered({event_type!r})"
                )
        return event_type

    def check_query(self, query: Query) -> Query:
        """Check that the types that a query names are known.

        Raises:
            InvalidInput: one is not, and not said to be meant either.
        """
        if self._classes and isinstance(query, Query):
            for item in query.items:
                for event_type in item.types:
                    self.check_known(event_type)
        return query

    def encode(self, event_type: str, data: object, *, field: str = "data") -> bytes:
        """Write data as JSON.

        Args:
            event_type: for the error.
            data: what to write.
            field: what the data is called in the error.

        Raises:
            EncodingFailed: something has no JSON, or would not come back as it went in.
        """
        known = self.known.get(type(data))
        try:
            written, is_sure = _encode(data)
            if known is None:
                is_sure = is_sure and not _is_suspicious(written)
            elif is_sure:
                exactness = known.exactness
                found_in = _find_nul if exactness.is_searched else _is_suspicious
                is_sure = exactness.is_exact(data) and not found_in(written)
            if not is_sure:
                fault = _first_fault(data, field, is_written=True)
                if fault is None and known is not None:
                    fault = self._loss(known, data, written, field)
                if fault is not None:
                    raise EncodingFailed(event_type, *fault)
        except RecursionError as error:
            reason = "is nested too deeply, or contains itself"
            raise EncodingFailed(event_type, field, reason) from error
        except EncodingFailed:
            raise
        except Exception as error:
            if succeeds(lambda: _encode(data)):
                raise
            raise EncodingFailed(event_type, *_why_not(data, field, error)) from cause_of(error)
        return written

    def _loss(self, known: Known, data: object, written: bytes, field: str) -> Fault | None:
        """Read back what was written, and say what would be lost."""
        decoder = self.decoders[known.type]
        try:
            back = decoder(written)
        except Exception as error:
            if succeeds(lambda: decoder(written)):
                raise
            place, reason = reason_of(error)
            return field + place, f"could not be read again: {reason}"
        return _difference(data, back, field, plain=known.exactness.holds_plain)

    def encode_together(self, values: Sequence[object]) -> bytes | None:
        """Write many values as JSON, in a fraction of the time that it takes one by one.

        Args:
            values: them; of registered classes those only that come back as they are.

        Returns:
            The JSON of the list; None where one may be at fault, which `encode` says of each.
        """
        try:
            written = _ordered_encoder.encode(values)
        except Exception:
            if succeeds(lambda: _ordered_encoder.encode(values)):
                raise
            return None
        return None if self._is_suspicious(written) else written

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
            if (_find_escape(written) or _find_zero(written)) and (
                found := _first_fault(value, field)
            ):
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
            raise self.failure(event_type, error) from cause_of(error)

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
        return self.read_again(event_type, self.encode(event_type, data))

    def read_again(self, event_type: str, written: bytes) -> list[Any]:
        """What JSON will be read as, once it is stored.

        Raises:
            UnknownEventType: no class is registered for the type.
            EncodingFailed: it could not be read again.
        """
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
            reason = f"could not be read again as {event_class}: {failure.reason}"
            raise EncodingFailed(event_type, f"data{failure.place}", reason) from failure.__cause__

    def tags_of(self, event_type: str, data: object, written: bytes) -> list[str]:
        """Give the tags that the class of an event declares, however its data was given.

        Args:
            event_type: its type.
            data: its data: an instance of the class, or plain data.
            written: its data as JSON.

        Raises:
            EncodingFailed: it could not be read as its class.
        """
        known = self.known.get(type(data))
        if known is not None:
            return known.tags_of(data) if known.tags else []
        if event_type not in self._classes and event_type not in self.upcasting.steps:
            return []
        return [
            tag
            for event in self.read_again(event_type, written)
            if (known := self.known.get(type(event))) is not None
            for tag in known.tags_of(event)
        ]

    def failure(self, event_type: str, error: Exception) -> DecodingFailed:
        """Say that stored data does not fit the class of its type."""
        place, reason = reason_of(error)
        return DecodingFailed(event_type, self._classes[event_type], reason, place)


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
    if is_pydantic(type(value)):
        return msgspec.Raw(_dump(value, warnings="error"))
    return _encode_scalar(value)


def _encode_model_as_is(value: object) -> Any:
    """Write a model also where a field does not hold what its type says."""
    if is_pydantic(type(value)):
        return msgspec.Raw(_dump(value, warnings="none"))
    return _encode_scalar(value)


def _dump(model: Any, *, warnings: str) -> bytes:
    dumped: str = model.model_dump_json(by_alias=True, round_trip=True, warnings=warnings)
    return dumped.encode()


def _encode_scalar(value: object) -> Any:
    """Write an instance of a class derived from a JSON scalar as what it is."""
    scalar = scalar_below(type(value))
    if scalar is None:
        raise TypeError(f"objects of type {type(value).__qualname__} have no JSON")
    return as_scalar(scalar, value)


def decode_other(wanted: type, value: Any) -> Any:
    """Make an instance of a class that msgspec does not know from plain data."""
    if is_pydantic(wanted):
        try:
            return wanted.model_validate_json(_encoder.encode(value))  # type: ignore[attr-defined]
        except ValueError as error:  # whose text has what it was given in it
            place, reason = reason_of(error)
            raise ValueError(f"{wanted.__qualname__}{place}: {reason}") from None
    scalar = scalar_below(wanted)
    if scalar is None:
        raise TypeError(f"objects of type {wanted.__qualname__} cannot be read from JSON")
    return as_scalar(wanted, msgspec.convert(value, scalar, strict=True))


# Sets in one order, so that the same event is the same JSON when it is appended again; but not
# everything that stands in a set has an order, nor does a key that is no text.
_ordered_encoder = msgspec.json.Encoder(enc_hook=_encode_other, order="deterministic")
_encoder = msgspec.json.Encoder(enc_hook=_encode_model_as_is)


def _encode(data: object) -> tuple[bytes, bool]:
    """Write JSON; say also whether all keys were text, and all sets had an order."""
    try:
        return _ordered_encoder.encode(data), True
    except (TypeError, ValueError):  # or a model holds what it should not
        return _encoder.encode(data), False


def _is_suspicious(written: bytes) -> object:
    return (
        _find_null_or_nul(written)
        or _find_moment_not_in_utc(written)
        or _find_negative_zero(written)
    )


def _search(known: Iterable[Known]) -> Callable[[bytes], object]:
    """How to search the JSON of events of some classes, and of others that were searched alone."""
    return _find_nul if all(one.exactness.is_searched for one in known) else _is_suspicious


encode_as_is = _encoder.encode
"""Write JSON of what is known to have some, with all that is in a dict in its order."""

_decode_plain = msgspec.json.Decoder().decode
decode_metadata = msgspec.json.Decoder(dict[str, Any]).decode
"""Read the metadata of a stored event."""


def _check_fields(event_class: type) -> None:
    """Check that nothing of an instance is left out: msgspec skips private fields of attrs."""
    for attribute in getattr(event_class, "__attrs_attrs__", ()):
        if attribute.name.startswith("_"):
            raise InvalidInput(
                f"{event_class.__qualname__} cannot be an event class: its private field"
                f" {attribute.name} would not be stored; give it a public name"
            )


def _decoder(event_class: type) -> Callable[[bytes], Any]:
    if is_pydantic(event_class):
        validate: Callable[[bytes], Any] = event_class.model_validate_json  # type: ignore[attr-defined]
        return validate
    _check_fields(event_class)
    try:
        return msgspec.json.Decoder(event_class, dec_hook=decode_other).decode
    except Exception as error:
        raise InvalidInput(
            f"{event_class.__qualname__} cannot be an event class: {error}"
        ) from error


def _tag_templates(event_class: type) -> tuple[str, ...]:
    given = getattr(event_class, "event_tags", ())
    templates = (given,) if isinstance(given, str) else tuple(given)
    known = names_of_fields(event_class) or []
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
    events = resolved(events)
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


def _is_again(event_class: type, other: type) -> bool:
    """Whether a class is another one, defined again."""
    return (event_class.__module__, event_class.__qualname__) == (
        other.__module__,
        other.__qualname__,
    )


def _check_class(event_class: object) -> None:
    if not is_event_class(event_class):
        raise InvalidInput(
            f"{event_class!r} cannot be an event class: use a dataclass, an attrs class, a msgspec"
            " Struct or a pydantic model"
        )


def _why_not(data: object, field: str, error: Exception) -> Fault:
    try:
        return _first_fault(data, field) or (field, f"cannot be written as JSON: {error}")
    except RecursionError:
        return field, "is nested too deeply, or contains itself"


def _first_fault(value: Any, path: str, *, is_written: bool = False) -> Fault | None:
    """Find the first part of a value that cannot be kept.

    Args:
        value: the value.
        path: what it is called.
        is_written: whether all of it has JSON: a model may write what has none by itself.

    Returns:
        The path of the part, and why.
    """
    if isinstance(value, Enum):
        return _first_fault(value.value, path, is_written=is_written)
    if value is msgspec.UNSET:
        return None
    if isinstance(value, dict) and (found := _key_fault(value, path, is_written=is_written)):
        return found
    if isinstance(value, float):
        if is_kept(value):
            return None
        keeper = "the database does not keep" if value == 0 else "JSON does not have"
        return path, f"is {value}, which {keeper}"
    if isinstance(value, str):
        if "\x00" in value:
            return path, "contains a NUL character, which PostgreSQL does not keep"
        if any("\ud800" <= character <= "\udfff" for character in value):
            return path, "contains half of a surrogate pair, which is no text"
        return None
    if isinstance(value, datetime):
        offset = value.utcoffset()
        if offset is None:
            return path, "is a datetime without a time zone: which moment it means is not known"
        if not is_whole(value):
            return path, f"has the UTC offset {offset}, and JSON has no seconds there: use UTC"
        return None
    if isinstance(value, time):
        if value.tzinfo is not None and not is_whole(value):
            return path, "has a time zone, which JSON does not have for a time of day"
        return None
    children = _children(value, path)
    if children is not None:
        return next(
            (found for child in children if (found := _first_fault(*child, is_written=is_written))),
            None,
        )
    if not is_written:
        try:
            _encoder.encode(value)
        except Exception as error:
            return path, f"cannot be written as JSON: {error}"
    return None


def _key_fault(value: dict[Any, Any], path: str, *, is_written: bool) -> Fault | None:
    written = set()
    for key in value:
        try:
            text = _encoder.encode({key: 0})
        except Exception as error:
            if is_written:
                continue
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


def _difference(sent: Any, back: Any, path: str, *, plain: bool) -> Fault | None:
    """Find the first part of a value that did not come back as it was: its path, and why."""
    if type(sent) is type(back):
        pairs = _pairs(sent, back, path)
        if pairs is not None:
            return next(
                (found for pair in pairs if (found := _difference(*pair, plain=plain))), None
            )
    if repr(sent) == repr(back) or sent == back:
        return None
    if plain and isinstance(back, _PLAIN) and _encoder.encode(sent) == _encoder.encode(back):
        return None
    if type(sent) is type(back):
        return path, "would not come back as it is"
    return (
        path,
        f"is a {type(sent).__qualname__} and would come back as a {type(back).__qualname__}",
    )


_PLAIN = (str, int, float, list, dict)


def _pairs(sent: Any, back: Any, path: str) -> Iterator[tuple[Any, Any, str]] | None:
    """The parts of two values of a class side by side; None where they have none, or others."""
    if isinstance(sent, dict):
        if sent.keys() != back.keys():
            return None
        return ((item, back[key], f"{path}.{key}") for key, item in sent.items())
    if isinstance(sent, list | tuple):
        if len(sent) != len(back):
            return None
        places = range(len(sent))
        return ((sent[place], back[place], f"{path}[{place}]") for place in places)
    names = field_names(sent)
    if names is None or names != field_names(back):
        return None
    names += getattr(sent, "__private_attributes__", ())
    return ((getattr(sent, name), getattr(back, name), f"{path}.{name}") for name in names)
