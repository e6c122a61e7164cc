"""Snapshots: when to store states, and how to serialize them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import msgspec

from indelible.core.validation import validate_integer
from indelible.errors import EncodingFailed, InvalidInput
from indelible.serialization.codec import Codec
from indelible.serialization.event_classes import is_event_class
from indelible.serialization.json_encoding import decode_other, encode_as_is

from .fingerprint import fingerprint_of


@dataclass(frozen=True, slots=True)
class Snapshots:
    """When to store snapshots of a state, so that not all of its events are read again.

    A snapshot only saves time and never changes the result of a load. It is stored after a load
    or a command, and contains the loaded state. If it cannot be stored, the call still succeeds. A
    snapshot made by different code is ignored and replaced.

    Args:
        every: the number of events that must be read before the next snapshot is stored.
        state: the type of the state, or a union of types, if the annotations of the decider's
            `evolve` do not state it.
        revision: increase it after a change of code that the library does not see but that
            changes the state. The library sees `evolve` and the classes of the state and the
            events. If `evolve` does not annotate its event, it sees all registered classes. It
            also sees the functions, classes and constants of the same package that these use
            directly.

    Raises:
        InvalidInput: `every` or `revision` is not an integer of at least 1.

    Example:
        ```python
        accounts = Decider(decide, evolve, Account, snapshots=Snapshots(every=200))


        class Delivery(Aggregate[DeliveryEvent]):
            snapshots = Snapshots(every=50)
        ```
    """

    every: int = 100
    state: Any = None
    revision: int = 1

    def __post_init__(self) -> None:
        for name in ("every", "revision"):
            validate_integer(f"{name} of snapshots", getattr(self, name), 1)


class SnapshotSerializer:
    """Serializes the states of one decider or aggregate class.

    Attributes:
        every: the number of events that must be read before the next snapshot is stored.
        name: the name of the state.
        fingerprint: the fingerprint of the state's classes and of the code that computes it.
        event_classes: the event classes in the annotations of `evolve`.
    """

    every: int
    name: str
    fingerprint: str
    event_classes: tuple[type, ...]

    def read(self, data: bytes) -> Any:
        """Decode a state."""
        raise NotImplementedError

    def write(self, state: Any) -> bytes:
        """Encode a state.

        Raises:
            InvalidInput: the state cannot be encoded, or would not be decoded equal.
        """
        try:
            written = self._written(state)
            # Code may depend on the order of a dict, so the encoding keeps it.
            kept = encode_as_is(self._data(state))
            is_faithful = self._written(self.read(kept)) == written
        except EncodingFailed as error:
            raise InvalidInput(
                f"cannot store a snapshot of {self.name}: {error.field} cannot be written as JSON"
                " and read back equal"
            ) from error
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(f"cannot store a snapshot of {self.name}: {error}") from error
        # The annotations may not cover the whole state.
        if not is_faithful:
            raise InvalidInput(
                f"cannot store a snapshot of {self.name}: the state does not match its annotations"
                " and would not be read back equal"
            )
        return kept

    def _written(self, state: Any) -> bytes:
        return _PLAIN.encode(self.name, self._data(state), field="state")

    def _data(self, state: Any) -> Any:
        raise NotImplementedError


_PLAIN = Codec()


class DeciderSerializer(SnapshotSerializer):
    """Serializes the states of a decider. Each state of a union has the name of its class."""

    event_classes: tuple[type, ...]

    every: int

    fingerprint: str

    name: str

    def __init__(
        self, snapshots: Snapshots, evolve: Callable[..., Any], initial_state: Callable[[], Any]
    ) -> None:
        state, self.event_classes = _told_by(evolve)
        state = snapshots.state or state
        if state is None or state is Any:
            raise InvalidInput(
                "snapshots need the type of the state: annotate the return type of evolve, or pass"
                " Snapshots(state=…)"
            )
        self._types = {_name(kind): kind for kind in _members(state)}
        self.every = snapshots.every
        self.name = " | ".join(self._types)
        self._read = {name: _reader(kind) for name, kind in self._types.items()}
        self.fingerprint = fingerprint_of(
            self._types.values(), self._written(initial_state()), snapshots.revision, evolve
        )

    def _data(self, state: Any) -> Any:
        if len(self._types) == 1:
            return state
        name = _name(type(state))
        if name not in self._types:
            raise InvalidInput(f"the state is a {name}, which is not in {self.name}")
        return {name: state}

    def read(self, data: bytes) -> Any:
        """Decode a state."""
        if len(self._types) == 1:
            (only,) = self._read.values()
            return only(data)
        ((name, written),) = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()
        return self._read[name](bytes(written))


class AggregateSerializer(SnapshotSerializer):
    """Serializes aggregates: those attributes annotated in the class that an aggregate has."""

    event_classes: tuple[type, ...]

    every: int

    fingerprint: str

    name: str

    def __init__(self, snapshots: Snapshots, aggregate: type[Any], base: type[Any]) -> None:
        hints = _hints(aggregate)
        self._not_kept = _hints(base).keys()
        fields = {
            name: hint
            for name, hint in hints.items()
            if name not in self._not_kept and get_origin(hint) is not ClassVar
        }
        self._aggregate = aggregate
        self._names = fields.keys()
        self._struct = struct = msgspec.defstruct(
            aggregate.__name__,
            # An attribute that is not set yet stays unset.
            [(name, hint | msgspec.UnsetType, msgspec.UNSET) for name, hint in fields.items()],
        )
        self.every = snapshots.every
        self.name = aggregate.__qualname__
        self._reader = _reader(self._struct)
        _, self.event_classes = _told_by(aggregate.evolve)
        self.fingerprint = fingerprint_of(
            [struct], self._written(aggregate()), snapshots.revision, aggregate
        )

    def _data(self, state: Any) -> Any:
        unknown = vars(state).keys() - self._names - self._not_kept
        if unknown:
            raise InvalidInput(
                f"{', '.join(sorted(unknown))} of {self.name} cannot be stored in a snapshot:"
                " annotate its type in the class"
            )
        return self._struct(
            **{name: getattr(state, name) for name in self._names if hasattr(state, name)}
        )

    def read(self, data: bytes) -> Any:
        """Decode an aggregate."""
        read = self._reader(data)
        aggregate = self._aggregate()
        for name in self._names:
            value = getattr(read, name)
            if value is not msgspec.UNSET:
                setattr(aggregate, name, value)
        return aggregate


@lru_cache(maxsize=256)
def decider_serializer(
    snapshots: Snapshots, evolve: Callable[..., Any], initial_state: Callable[[], Any]
) -> SnapshotSerializer:
    """Return the serializer for the states of a decider. It is cached.

    Raises:
        InvalidInput: the states cannot be serialized.
    """
    return _made(lambda: DeciderSerializer(snapshots, evolve, initial_state))


@lru_cache(maxsize=256)
def aggregate_serializer(
    snapshots: Snapshots, aggregate: type[Any], base: type[Any]
) -> SnapshotSerializer:
    """Return the serializer for the aggregates of a class. It is cached.

    Raises:
        InvalidInput: the aggregates cannot be serialized.
    """
    return _made(lambda: AggregateSerializer(snapshots, aggregate, base))


def _made(make: Callable[[], SnapshotSerializer]) -> SnapshotSerializer:
    try:
        return make()
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"states of this type cannot be stored as snapshots: {error}") from error


def _told_by(evolve: Callable[..., Any]) -> tuple[Any, tuple[type, ...]]:
    """Return the types of the state and of the events; `object` for events without annotations."""
    hints = _hints(evolve)
    state = hints.pop("return", None)
    events = _members(hints.get(list(inspect.signature(evolve).parameters)[-1], Any))
    return state, events if all(map(is_event_class, events)) else (object,)


def _hints(annotated: Any) -> dict[str, Any]:
    try:
        return get_type_hints(annotated)
    except TypeError:  # it has no annotations, such as a partial
        return {}
    except NameError as error:
        raise InvalidInput(
            f"the annotations of {annotated.__qualname__} cannot be resolved ({error}): snapshots"
            " need annotations that use names of its module"
        ) from error


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (types.UnionType, Union) else (kind,)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__qualname__", kind))


def _reader(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind, dec_hook=decode_other).decode
