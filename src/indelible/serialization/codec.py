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

    decoders: _Decoders

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
        for event_type, registered in registrations(events):
            if isinstance(registered, Upcaster):
                upcasters.append(registered)
            elif self._register(event_type, registered):
                upcasters += declared_upcasters(event_type, registered)
        self._known_classes = types.MappingProxyType(self._classes)
        self.decoders.keep_unknown = unknown == "keep" or not self._classes
        self.decode_metadata: Decoder = decode_metadata
        """What reads the metadata of a stored event."""
        self.upcasting: Upcasting = Upcasting(
            upcasters, self._classes, keep_unknown=self.decoders.keep_unknown
        )
        """What stored events of earlier types and shapes are read as."""
        self._is_suspicious = _search_for(self.known.values())

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
        previous_class = self._classes.get(event_type, event_class)
        if previous_class is not event_class and not is_redefined(event_class, previous_class):
            raise InvalidInput(
                f"event type {event_type!r} stands for two classes, {previous_class.__qualname__}"
                f" of {previous_class.__module__} and {event_class.__qualname__} of"
                f" {event_class.__module__}: give one of them a class attribute event_type"
            )
        self.decoders[event_type] = decoder_of(event_class)
        self._classes[event_type] = event_class
        if event_class in self.known:
            return False
        exactness = exactness_of(event_class)
        self.known[event_class] = Known(event_type, tag_templates(event_class), exactness)
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
            for event_type, previous_class in list(self._classes.items()):
                if is_redefined(event_class, previous_class):
                    self._register(event_type, event_class)
                    self._is_suspicious = _search_for(self.known.values())
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

    def types_of(self, kinds: Iterable[object]) -> list[str]:
        """Name the event types that classes, unions and aliases of them, and names stand for.

        Raises:
            InvalidInput: something else, or a name that is not known here.
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
        """Check that an event type is one of those that are registered, if any are.

        Raises:
            InvalidInput: it is not, and not said to be meant either.
        """
        if self._classes and not isinstance(event_type, Unregistered):
            upcasting = self.upcasting
            if event_type not in self._classes and not upcasting.knows(event_type):
                matches = get_close_matches(event_type, [*self._classes, *upcasting.steps], n=1)
                hint = (
                    f"did you mean {matches[0]!r}?" if matches else "register its class in events=."
                )
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
            reason = "is nested too deeply, or contains itself"
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
        """Read back what was written, and say what would be lost."""
        decoder = self.decoders[known.type]
        try:
            decoded = decoder(written)
        except Exception as error:
            if succeeds(lambda: decoder(written)):
                raise
            path, reason = reason_of(error)
            return field + path, f"could not be read again: {reason}"
        return difference(data, decoded, field, plain=known.exactness.holds_plain)

    def encode_together(self, values: Sequence[object]) -> bytes | None:
        """Write many values as JSON, in a fraction of the time that it takes one by one.

        Args:
            values: them; of registered classes those only that come back as they are.

        Returns:
            The JSON of the list; None where one may be at fault, which `encode` says of each.
        """
        try:
            written = encode_ordered(values)
        except Exception:
            if succeeds(lambda: encode_ordered(values)):
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
            value = decode_plain(written)
            if is_suspicious_elsewhere(written) and (fault := first_fault(value, field)):
                raise EncodingFailed(event_type, *fault)
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
                    last_upcaster, f"gave what is no data of its type: {error}"
                ) from error
            upcast_events.append((target, written))
        return upcast_events

    def as_decoded(self, event_type: str, data: object) -> list[Any]:
        """What data will be read as, once it is stored: plain data as an instance of its class.

        Raises:
            UnknownEventType: no class is registered for the type.
            EncodingFailed: it could not be read again.
        """
        if self.registered_type(data) is not None:
            return [data]
        return self.decode_new(event_type, self.encode(event_type, data))

    def decode_new(self, event_type: str, written: bytes) -> list[Any]:
        """What JSON will be read as, once it is stored.

        Raises:
            UnknownEventType: no class is registered for the type.
            EncodingFailed: it could not be read again.
        """
        upcast_events: list[tuple[str, Any]] = [(event_type, written)]
        try:
            if event_type in self.upcasting.steps:
                upcast_events = self.upcast(event_type, written)
            return [self.decode(read_type, read_data) for read_type, read_data in upcast_events]
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
            for event in self.decode_new(event_type, written)
            if (known := self.known.get(type(event))) is not None
            for tag in known.tags_of(event)
        ]

    def failure(self, event_type: str, error: Exception) -> DecodingFailed:
        """Say that stored data does not fit the class of its type."""
        path, reason = reason_of(error)
        return DecodingFailed(event_type, self._classes[event_type], reason, path)


def succeeds(call: Callable[[], object]) -> bool:
    """Whether something that failed goes well after all, so that it was not at fault.

    A class of the application may raise anything when it is read, and so may the handler of a
    signal, in the middle of that: a time limit, say. But only the class does so again.
    """
    try:
        call()
    except Exception:
        return False
    return True


class _Decoders(dict[str, Decoder]):
    """What reads the data of a type; plain data where no class is registered, if that is kept."""

    keep_unknown = True

    def __missing__(self, event_type: str) -> Decoder:
        if not self.keep_unknown:
            raise UnknownEventType(event_type)
        return decode_plain


class _AsStored(_Decoders):
    """What leaves the data of every type as it is."""

    def __missing__(self, event_type: str) -> Decoder:
        return _as_stored


def _as_stored(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.format(data, indent=-1))


def _search_for(known_classes: Iterable[Known]) -> Callable[[bytes], object]:
    """How to search the JSON of events of some classes, and of others that were searched alone."""
    return (
        has_nul
        if all(known_class.exactness.is_searched for known_class in known_classes)
        else is_suspicious
    )
