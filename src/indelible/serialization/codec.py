"""Convert events to and from type names and JSON."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

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

from .event_classes import (
    EventClasses,
    Known,
    Unknown,
    classes_of,
    declared_upcasters,
    decoder_of,
    is_redefined,
    registrations,
    tag_templates,
)
from .exactness import exactness_of
from .json_encoding import (
    cause_of,
    decode_metadata,
    decode_plain,
    encode,
    encode_ordered,
    reason_of,
)
from .json_validation import (
    Fault,
    difference,
    first_fault,
    has_nul,
    is_suspicious,
    is_suspicious_elsewhere,
    why_unwritable,
)
from .upcasting import Upcaster, UpcasterFailure, Upcasting

Decoder = Callable[[bytes], Any]


class Codec:
    """Convert instances of the registered event classes to JSON and back.

    Args:
        events: classes, a union of classes, an iterable of these, or a mapping from type names to
            classes. An iterable may also contain upcasters. The event type is the name of the
            class, unless the mapping or a class attribute `event_type` gives another.
        unknown: how to read a stored type without a registered class. `raise` raises
            `UnknownEventType`; `keep` returns the data as plain JSON. If no class is registered,
            data is always returned as plain JSON.

    Raises:
        InvalidInput: a value is not an event class, two classes have the same type, a class cannot
            be read from JSON, or upcasters contradict each other.
    """

    decoders: _Decoders

    def __init__(self, events: EventClasses = (), *, unknown: Unknown = "raise") -> None:
        if unknown not in ("raise", "keep"):
            raise InvalidInput(f'unknown must be "raise" or "keep", not {unknown!r}')
        self.known: dict[type, Known] = {}
        """The registered classes with their type, tags and exactness."""
        self._unknown: set[type] = set()
        self._classes: dict[str, type] = {}
        self.decoders = _Decoders()
        """The decoder of each event type: it takes the data and raises its own errors."""
        upcasters: list[Upcaster] = []
        for event_type, registered in registrations(events):
            if isinstance(registered, Upcaster):
                upcasters.append(registered)
            elif self._register(event_type, registered):
                upcasters += declared_upcasters(event_type, registered)
        self._known_classes = types.MappingProxyType(self._classes)
        self.decoders.keep_unknown = unknown == "keep" or not self._classes
        self.decode_metadata: Decoder = decode_metadata
        """The decoder of the metadata of stored events."""
        self.upcasting: Upcasting = Upcasting(
            upcasters, self._classes, keep_unknown=self.decoders.keep_unknown
        )
        """The upcasters, applied to stored events of earlier types and shapes."""
        self._is_suspicious = _search_for(self.known.values())

    def keep_as_stored(self) -> None:
        """Return data and metadata as unparsed JSON, so that no number loses a digit."""
        self.decoders = _AsStored()
        self.decode_metadata = _as_stored

    @property
    def classes(self) -> Mapping[str, type]:
        """The registered classes, by event type."""
        return self._known_classes

    def _register(self, event_type: str, event_class: type) -> bool:
        """Register a class under a type; return whether the class is new.

        The first type of a class is the one that its instances are stored under.
        """
        validate_new_name("event type", event_type)
        previous_class = self._classes.get(event_type, event_class)
        if previous_class is not event_class and not is_redefined(event_class, previous_class):
            raise InvalidInput(
                f"two classes have the event type {event_type!r}: {previous_class.__qualname__} of"
                f" {previous_class.__module__} and {event_class.__qualname__} of"
                f" {event_class.__module__}; give one of them a class attribute event_type"
            )
        self.decoders[event_type] = decoder_of(event_class)
        self._classes[event_type] = event_class
        if event_class in self.known:
            return False
        exactness = exactness_of(event_class)
        self.known[event_class] = Known(event_type, tag_templates(event_class), exactness)
        return True

    def known_as(self, event: object) -> Known:
        """Return the type, tags and exactness of an event's class.

        Raises:
            UnregisteredEventClass: the class is not registered.
        """
        # A class passed instead of an instance may have its own metaclass.
        return self._known_class(type if isinstance(event, type) else type(event))

    def _known_class(self, event_class: type) -> Known:
        known = self._look_up(event_class)
        if known is None:
            raise UnregisteredEventClass(event_class)
        return known

    def _look_up(self, event_class: type) -> Known | None:
        known = self.known.get(event_class)
        # Each append of plain data comes here: each class is searched for once.
        if known is None and event_class not in self._unknown:
            # A class that was defined again (notebook, reload) replaces the previous one.
            for event_type, previous_class in list(self._classes.items()):
                if is_redefined(event_class, previous_class):
                    self._register(event_type, event_class)
                    self._is_suspicious = _search_for(self.known.values())
            known = self.known.get(event_class)
            if known is None:
                self._unknown.add(event_class)
        return known

    def type_of(self, event: object) -> str:
        """Return the event type of an instance of a registered class.

        Raises:
            UnregisteredEventClass: the class is not registered.
        """
        return self.known_as(event).type

    def type_of_class(self, event_class: type) -> str:
        """Return the event type of a registered class.

        Raises:
            UnregisteredEventClass: the class is not registered.
        """
        return self._known_class(event_class).type

    def registered_type(self, data: object) -> str | None:
        """Return the event type of an instance of a registered class, or else None."""
        known = self._look_up(type(data))
        return None if known is None else known.type

    def is_event(self, value: object) -> bool:
        """Return whether a value is a registered class or an instance of one."""
        event_class = value if isinstance(value, type) else type(value)
        return event_class in self.known

    def types_of(self, kinds: Iterable[object]) -> list[str]:
        """Return the event types of classes, of unions and aliases of classes, and of names.

        Raises:
            InvalidInput: a value is something else, or a type name is not registered.
            UnregisteredEventClass: a class is not registered.
        """
        types: list[str] = []
        for kind in kinds:
            if isinstance(kind, str):
                validate_name("event type", kind)
                types.append(self.check_known(kind))
            else:
                types += map(self.type_of_class, classes_of(kind))
        return types

    def check_known(self, event_type: str) -> str:
        """Check that an event type is registered; without any class, every type is accepted.

        Raises:
            InvalidInput: the type is not registered and not marked with `unregistered()`.
        """
        if self._classes and not isinstance(event_type, Unregistered):
            upcasting = self.upcasting
            if event_type not in self._classes and not upcasting.knows(event_type):
                matches = get_close_matches(event_type, [*self._classes, *upcasting.steps], n=1)
                hint = (
                    f"did you mean {matches[0]!r}?" if matches else "register its class in events=."
                )
                raise InvalidInput(
                    f"event type {event_type!r} is not registered: {hint} To match events without a"
                    f" class, pass unregistered({event_type!r})"
                )
        return event_type

    def check_query(self, query: Query) -> Query:
        """Check that all event types in a query are registered.

        Raises:
            InvalidInput: a type is not registered and not marked with `unregistered()`.
        """
        if self._classes and isinstance(query, Query):
            for item in query.items:
                for event_type in item.types:
                    self.check_known(event_type)
        return query

    def encode(self, event_type: str, data: object, *, field: str = "data") -> bytes:
        """Encode data as JSON.

        Args:
            event_type: the event type, for the error.
            data: the data to encode.
            field: the name of the data in the error.

        Raises:
            EncodingFailed: a value cannot be written as JSON, or would change when it is read back.
        """
        known = self.known.get(type(data))
        try:
            written, is_exact = encode(data)
            if known is None:
                is_exact = is_exact and not is_suspicious(written)
            elif is_exact:
                exactness = known.exactness
                search = has_nul if exactness.is_searched else is_suspicious
                is_exact = exactness.is_exact(data) and not search(written)
            if not is_exact:
                fault = first_fault(data, field, is_written=True)
                if fault is None and known is not None:
                    fault = self._loss(known, data, written, field)
                if fault is not None:
                    raise EncodingFailed(event_type, *fault)
        except RecursionError as error:
            reason = "is nested too deeply or contains itself"
            raise EncodingFailed(event_type, field, reason) from error
        except EncodingFailed:
            raise
        except Exception as error:
            if succeeds(lambda: encode(data)):
                raise
            raise EncodingFailed(event_type, *why_unwritable(data, field, error)) from cause_of(
                error
            )
        return written

    def _loss(self, known: Known, data: object, written: bytes, field: str) -> Fault | None:
        """Decode the written JSON, and return the first part that changed."""
        decoder = self.decoders[known.type]
        try:
            decoded = decoder(written)
        except Exception as error:
            if succeeds(lambda: decoder(written)):
                raise
            path, reason = reason_of(error)
            return field + path, f"could not be read back: {reason}"
        return difference(data, decoded, field, plain=known.exactness.holds_plain)

    def encode_together(self, values: Sequence[object]) -> bytes | None:
        """Encode many values as one JSON list, which is faster than one by one.

        Args:
            values: plain values, and instances of registered classes that JSON keeps unchanged.

        Returns:
            The JSON of the list. None if a value may be invalid: then call `encode` for each.
        """
        try:
            written = encode_ordered(values)
        except Exception:
            if succeeds(lambda: encode_ordered(values)):
                raise
            return None
        return None if self._is_suspicious(written) else written

    def check(self, event_type: str, written: bytes, *, field: str = "data") -> Any:
        """Check that JSON from the caller can be stored and read back unchanged.

        Args:
            event_type: the event type, for the error.
            written: the JSON.
            field: the name of the JSON in the error.

        Returns:
            The decoded value.

        Raises:
            EncodingFailed: it is not valid JSON, or contains a value that the store cannot keep.
        """
        try:
            value = decode_plain(written)
            if is_suspicious_elsewhere(written) and (fault := first_fault(value, field)):
                raise EncodingFailed(event_type, *fault)
        except RecursionError as error:
            raise EncodingFailed(event_type, field, "is nested too deeply") from error
        except (msgspec.MsgspecError, UnicodeError) as error:
            reason = f"is not JSON that can be stored: {error}"
            raise EncodingFailed(event_type, field, reason) from error
        return value

    def decode(self, event_type: str, data: bytes) -> Any:
        """Decode stored data to an instance of the type's class, or to plain JSON data.

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
        """Apply the upcasters of a stored event's type.

        Args:
            event_type: a type that has upcasters.
            data: the stored data; None if it was erased.

        Returns:
            The type and the data of each resulting event.

        Raises:
            UpcasterFailure: an upcaster failed, or returned invalid data.
        """
        if data is None:
            target_type = self.upcasting.type_of_erased(event_type)
            return [] if target_type is None else [(target_type, None)]
        upcast_events: list[tuple[str, bytes | None]] = []
        for target, target_data, last_upcaster in self.upcasting.apply(
            event_type, decode_plain(data)
        ):
            try:
                written = self.encode(target, target_data)
                self.decode(target, written)
            except (EncodingFailed, DecodingFailed) as error:
                raise UpcasterFailure(
                    last_upcaster, f"returned data that does not fit its type: {error}"
                ) from error
            upcast_events.append((target, written))
        return upcast_events

    def as_decoded(self, event_type: str, data: object) -> list[Any]:
        """Return data as it will be read once it is stored.

        Plain data becomes an instance of the class of its type, after the upcasters.

        Raises:
            UnknownEventType: no class is registered for the type.
            EncodingFailed: the data could not be read back.
        """
        if self.registered_type(data) is not None:
            return [data]
        return self.decode_new(event_type, self.encode(event_type, data))

    def decode_new(self, event_type: str, written: bytes) -> list[Any]:
        """Return JSON as it will be read once it is stored.

        Raises:
            UnknownEventType: no class is registered for the type.
            EncodingFailed: the JSON could not be read back.
        """
        upcast_events: list[tuple[str, Any]] = [(event_type, written)]
        try:
            if event_type in self.upcasting.steps:
                upcast_events = self.upcast(event_type, written)
            return [self.decode(read_type, read_data) for read_type, read_data in upcast_events]
        except UpcasterFailure as failure:
            reason = f"could not be read back: the upcaster {failure.upcaster} {failure.reason}"
            raise EncodingFailed(event_type, "data", reason) from failure.__cause__
        except DecodingFailed as failure:
            event_class = failure.event_class.__qualname__
            reason = f"could not be read back as {event_class}: {failure.reason}"
            raise EncodingFailed(event_type, f"data{failure.place}", reason) from failure.__cause__

    def tags_of(self, event_type: str, data: object, written: bytes) -> list[str]:
        """Return the tags that the class of an event declares.

        Args:
            event_type: the type of the event.
            data: the data: an instance of the class, or plain data.
            written: the data as JSON.

        Raises:
            EncodingFailed: plain data could not be read as an instance of its class.
        """
        known = self.known.get(type(data))
        if known is not None:
            return known.tags_of(data) if known.tags else []
        if event_type not in self._classes and event_type not in self.upcasting.steps:
            return []
        return [
            tag
            for event in self.decode_new(event_type, written)
            if (known := self.known.get(type(event))) is not None
            for tag in known.tags_of(event)
        ]

    def failure(self, event_type: str, error: Exception) -> DecodingFailed:
        """Make the error for stored data that does not fit the class of its type."""
        path, reason = reason_of(error)
        return DecodingFailed(event_type, self._classes[event_type], reason, path)


def succeeds(call: Callable[[], object]) -> bool:
    """Return whether a call that failed succeeds when it is repeated.

    A class of the application may raise any error when it is decoded. A signal handler, such as a
    time limit, may raise during that call too. Only the class fails again.
    """
    try:
        call()
    except Exception:
        return False
    return True


class _Decoders(dict[str, Decoder]):
    """The decoder of each type; the plain one for types without a class, if those are kept."""

    keep_unknown = True

    def __missing__(self, event_type: str) -> Decoder:
        if not self.keep_unknown:
            raise UnknownEventType(event_type)
        return decode_plain


class _AsStored(_Decoders):
    """Decoders that return the data of every type as unparsed JSON."""

    def __missing__(self, event_type: str) -> Decoder:
        return _as_stored


def _as_stored(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.format(data, indent=-1))


def _search_for(known_classes: Iterable[Known]) -> Callable[[bytes], object]:
    """Return the search for suspicious JSON that events of these classes need.

    Values of other classes were searched on their own.
    """
    return (
        has_nul
        if all(known_class.exactness.is_searched for known_class in known_classes)
        else is_suspicious
    )
