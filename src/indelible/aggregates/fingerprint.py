"""The shape of a state: what tells whether one that was kept is still what the code would make.

It is a hash of what the state and the events are like, by the JSON schemas that msgspec makes of
their types, and of the code that makes the one from the others. It is the same in every process
that runs the same code on the same version of Python.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Iterable, Iterator
from decimal import Decimal
from hashlib import sha256
from typing import Any, get_args, get_type_hints

import msgspec

from indelible.serialization.codec import Codec


def fingerprint_of(kinds: Iterable[Any], initial: bytes, *code: object) -> str:
    """The shape of a state.

    Args:
        kinds: the types of the state.
        initial: the state before the first event, as it is written.
        code: what else counts: functions, classes for what their methods do, and plain values.
    """
    kinds = list(kinds)
    schemas = [msgspec.json.schema(kind, schema_hook=_schema_of_other) for kind in kinds]
    return _hash(schemas, initial.decode(), [*kinds, *code])


@functools.lru_cache(maxsize=256)
def in_store(shape: str, event_classes: tuple[type, ...], codec: Codec) -> str:
    """The shape of a state with the events that a store makes it of.

    Args:
        shape: what the state is like, and the code that makes it.
        event_classes: what the events are instances of.
        codec: the classes of the store, and how it reads earlier events.
    """
    # A class that is annotated may stand for those below it; an event comes of a registered one.
    kinds = [kind for _, kind in sorted(codec.classes.items()) if issubclass(kind, event_classes)]
    return _hash([*map(_schema, kinds)], shape, [*kinds, sorted(codec.upcasting.steps.items())])


def _hash(schemas: list[dict[str, Any]], text: str, code: list[object]) -> str:
    schema = msgspec.json.encode(schemas, order="deterministic")
    parts = [schema.decode(), text, *_Code().parts(code)]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]


def _schema(kind: type) -> dict[str, Any]:
    try:
        return msgspec.json.schema(kind, schema_hook=_schema_of_other)
    except Exception:  # one can be registered all the same: its code is looked at
        return {}


def _schema_of_other(wanted: Any) -> dict[str, Any]:
    """What pydantic says of its models, which msgspec does not look into."""
    schema: dict[str, Any] = wanted.model_json_schema()
    return schema


class _Code:
    """What code consists of: as text, each function and class once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def parts(self, value: object) -> Iterator[str]:
        """What a function, a class, or anything that holds some, consists of."""
        match value:
            case str() | int() | float() | None:
                yield repr(value)
            case tuple() | list():
                for part in value:
                    yield from self.parts(part)
            case set() | frozenset():
                yield from sorted(" ".join(self.parts(part)) for part in value)
            case enum.Enum():
                yield from self.parts((type(value), value.name, value._value_))
            case _ if id(value) not in self._seen:
                self._seen.add(id(value))
                yield from self._parts_of_object(value)

    def _parts_of_object(self, value: object) -> Iterator[str]:
        match value:
            case types.FunctionType() if hasattr(value, "registry"):  # functools.singledispatch
                yield from self.parts(value.registry)
            case functools.singledispatchmethod():
                yield from self.parts(value.dispatcher)
            case types.FunctionType():
                yield from self._parts_of_code(value.__code__, value)
                yield from self.parts(value.__defaults__)
                for cell in value.__closure__ or ():
                    yield from self.parts(cell.cell_contents)
            case types.MethodType() | classmethod() | staticmethod():
                yield from self.parts(value.__func__)
            case property():
                yield from self.parts(value.fget)
            case dict() | types.MappingProxyType():  # a table of handlers, or of numbers
                for key, part in value.items():
                    yield from self.parts((key, part))
            case Decimal():
                yield repr(value)
            case functools.partial():
                yield from self.parts((value.func, *value.args, *value.keywords.values()))
            case type():
                for base in value.__mro__:
                    if _package(base) == _package(value):
                        yield from self._parts_of_class(base)
                for hint in _hints(value):  # what it holds: the methods of a value of its own
                    yield from self._classes_in(hint, value)
            case _ if callable(value) and hasattr(value, "__wrapped__"):  # a cache around it
                yield from self.parts(value.__wrapped__)
            case _ if dataclasses.is_dataclass(value):  # an upcaster of an event class, for one
                for field in dataclasses.fields(value):
                    yield from self.parts(getattr(value, field.name, None))

    def _parts_of_class(self, found: type) -> Iterator[str]:
        for name, member in sorted(vars(found).items()):
            # What Python notes itself, such as the number of a line, changes with other code.
            if callable(member) or not name.startswith("__"):
                yield name
                yield from self.parts(member)

    def _classes_in(self, hint: Any, within: type) -> Iterator[str]:
        if isinstance(hint, type) and _package(hint) == _package(within):
            yield from self.parts(hint)
        for part in get_args(hint):
            yield from self._classes_in(part, within)

    def _parts_of_code(self, code: types.CodeType, function: types.FunctionType) -> Iterator[str]:
        yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self._parts_of_code(constant, function)
            else:
                yield _constant(constant)
        for name in code.co_names:
            yield from self._parts_used(function.__globals__.get(name), code, function)

    def _parts_used(
        self, used: object, code: types.CodeType, function: types.FunctionType
    ) -> Iterator[str]:
        """What a name stands for that a function uses: of libraries, nothing."""
        match used:
            case types.ModuleType():
                if used.__name__.partition(".")[0] == _package(function):
                    for name in code.co_names:  # rules.value, among others
                        if name in vars(used):
                            yield name
                            yield from self._parts_used(vars(used)[name], code, function)
            case type() | types.FunctionType() | functools._lru_cache_wrapper():
                if _package(used) == _package(function):
                    yield from self.parts(used)
            case enum.Enum() | Decimal() | dict() | tuple() | list() | set() | frozenset():
                yield from self.parts(used)
            case str() | int() | float():
                yield from self.parts(used)


def _hints(value: type) -> list[Any]:
    try:
        return list(get_type_hints(value).values())
    except Exception:  # what is not to be looked up says nothing
        return []


def _package(value: Any) -> str:
    return str(value.__module__).partition(".")[0]


def _constant(value: object) -> str:
    if isinstance(value, frozenset):  # whose order is another in every process
        return repr(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return repr([_constant(part) for part in value])
    return repr(value)
