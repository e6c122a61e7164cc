"""Snapshots: when states are kept, and how they become data and states again."""

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
    """When a state is kept in the database, so that not all of its events need be read again.

    A snapshot only saves time: what is loaded is the same without. It is taken of what was read,
    after a command was carried out, and a failure to keep it fails nothing. One that was made by
    other code than that of today is passed over, and replaced.

    Args:
        every: how many events are read before the next snapshot is taken.
        state: the type of the state, or a union of its types, where the annotations of a decider's
            `evolve` do not say it.
        revision: increase it when code that the library does not see changes what the same events
            make. Seen are the classes of the state and of the events (all of the store's, if
            `evolve` does not annotate its event), `evolve`, and the functions, classes and
            constants of its package that these name directly; not what those call in turn.

    Raises:
        InvalidInput: `every` or `revision` is no whole number from 1 on.

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
    """How the states of one decider are kept.

    Attributes:
        every: how many events are read before the next snapshot is taken.
        name: what they are called.
        fingerprint: that of their classes and of the code that makes them.
        event_classes: what the events are instances of, as far as `evolve` says it.
    """

    every: int
    name: str
    fingerprint: str
    event_classes: tuple[type, ...]

    def read(self, data: bytes) -> Any:
        """Make a state of written data."""
        raise NotImplementedError

    def write(self, state: Any) -> bytes:
        """Write a state.

        Raises:
            InvalidInput: it cannot be written, or would come back otherwise.
        """
        try:
            written = self._written(state)
            # What is in a dict has an order, and code may go by it.
            kept = encode_as_is(self._data(state))
            is_faithful = self._written(self.read(kept)) == written
        except EncodingFailed as error:
            raise InvalidInput(
                f"no snapshot of {self.name} can be taken: {error.field} has no JSON that would"
                " come back as it is"
            ) from error
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(f"no snapshot of {self.name} can be taken: {error}") from error
        # What the annotations say of a state may not be all that there is to it.
        if not is_faithful:
            raise InvalidInput(
                f"no snapshot of {self.name} can be taken: the state is not what its annotations"
                " say, and would not come back as it is"
            )
        return kept

    def _written(self, state: Any) -> bytes:
        return _PLAIN.encode(self.name, self._data(state), field="state")

    def _data(self, state: Any) -> Any:
        raise NotImplementedError


_PLAIN = Codec()


class DeciderSerializer(SnapshotSerializer):
    """How the states of a decider are kept: of a union, each under the name of its class."""

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
                "the type of the state must be known for snapshots: annotate what evolve returns,"
                " or say Snapshots(state=…)"
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
            raise InvalidInput(f"a state is a {name}, and none of {self.name}")
        return {name: state}

    def read(self, data: bytes) -> Any:
        """Make a state of written data."""
        if len(self._types) == 1:
            (only,) = self._read.values()
            return only(data)
        ((name, written),) = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).items()
        return self._read[name](bytes(written))


class AggregateSerializer(SnapshotSerializer):
    """How aggregates are kept: what they have of the attributes that are annotated in the class."""

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
            # One that is not there yet is not there when it comes back.
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
                f"{', '.join(sorted(unknown))} of {self.name} cannot be kept: annotate in the class"
                " what it is"
            )
        return self._struct(
            **{name: getattr(state, name) for name in self._names if hasattr(state, name)}
        )

    def read(self, data: bytes) -> Any:
        """Make an aggregate of written data."""
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
    """How the states of a decider are kept; worked out once.

    Raises:
        InvalidInput: they cannot be.
    """
    return _made(lambda: DeciderSerializer(snapshots, evolve, initial_state))


@lru_cache(maxsize=256)
def aggregate_serializer(
    snapshots: Snapshots, aggregate: type[Any], base: type[Any]
) -> SnapshotSerializer:
    """How the aggregates of a class are kept; worked out once.

    Raises:
        InvalidInput: they cannot be.
    """
    return _made(lambda: AggregateSerializer(snapshots, aggregate, base))


def _made(make: Callable[[], SnapshotSerializer]) -> SnapshotSerializer:
    try:
        return make()
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"states of this kind cannot be kept as snapshots: {error}") from error


def _told_by(evolve: Callable[..., Any]) -> tuple[Any, tuple[type, ...]]:
    """The types of the state and of the events; of the events any, where annotations do not say."""
    hints = _hints(evolve)
    state = hints.pop("return", None)
    events = _members(hints.get(list(inspect.signature(evolve).parameters)[-1], Any))
    return state, events if all(map(is_event_class, events)) else (object,)


def _hints(annotated: Any) -> dict[str, Any]:
    try:
        return get_type_hints(annotated)
    except TypeError:  # nothing that has annotations, such as a partial
        return {}
    except NameError as error:
        raise InvalidInput(
            f"the annotations of {annotated.__qualname__} cannot be looked up ({error}): for"
            " snapshots, what they name must stand in its module"
        ) from error


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (types.UnionType, Union) else (kind,)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__qualname__", kind))


def _reader(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind, dec_hook=decode_other).decode
