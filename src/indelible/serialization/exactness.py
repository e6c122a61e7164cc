"""Decide whether JSON keeps the instances of a class unchanged, from the types of its fields.

A class that cannot read its own JSON is rejected. For dataclasses, attrs classes and Structs, a
function is generated once per class. It checks that the value of each field has exactly the type
of the field: JSON keeps such values unchanged. Pydantic models validate their own fields. An
instance that neither check settles is encoded and read back before it is stored.
"""

from __future__ import annotations

import abc
import collections.abc
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

import msgspec

from indelible.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Exactness:
    """How well JSON keeps the instances of a class.

    Attributes:
        is_exact: returns whether JSON certainly keeps an instance unchanged. If `is_searched` is
            False, the caller must also search the JSON for suspicious values.
        is_searched: whether `is_exact` checks every value of an instance.
        holds_plain: whether a field holds plain data, which is read back as JSON represents it.
    """

    is_exact: Callable[[Any], bool]
    is_searched: bool
    holds_plain: bool


def exactness_of(event_class: type) -> Exactness:
    """Return how well JSON keeps the instances of a class.

    Raises:
        InvalidInput: no instance could be read back.
    """
    if is_pydantic(event_class):
        return _Model(event_class).exactness()
    return _Fields(event_class).exactness()


def is_pydantic(event_class: type) -> bool:
    """Return whether a class is a pydantic model."""
    return hasattr(event_class, "__pydantic_validator__") and hasattr(
        event_class, "model_validate_json"
    )


def names_of_fields(event_class: type) -> list[str] | None:
    """Return the names of a class's fields in JSON; None if it has no fields."""
    if is_dataclass(event_class):
        return [field.name for field in fields(event_class)]
    if issubclass(event_class, msgspec.Struct):
        return list(event_class.__struct_fields__)
    if hasattr(event_class, "__attrs_attrs__"):
        return [attribute.name for attribute in event_class.__attrs_attrs__]
    if is_pydantic(event_class):
        return list(event_class.model_fields)  # type: ignore[attr-defined]
    return None


# JSON scalars that a class may derive from ------------------------------------------------------

# Looked up by the classes imported here: libraries that fake the clock replace `datetime`.
_DATETIME = ("year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo", "fold")


def _moment(kind: type, value: Any, names: Iterable[str] = _DATETIME) -> Any:
    return kind(**{name: getattr(value, name) for name in names})


_SCALARS: dict[type, Callable[[type, Any], Any]] = {
    str: lambda kind, value: kind(str.__str__(value)),
    int: lambda kind, value: kind(int(value)),
    float: lambda kind, value: kind(float(value)),
    bytes: lambda kind, value: kind(bytes(value)),
    Decimal: lambda kind, value: kind(Decimal.__str__(value)),
    UUID: lambda kind, value: kind(int=value.int),
    datetime: _moment,
    date: lambda kind, value: _moment(kind, value, _DATETIME[:3]),
    time: lambda kind, value: _moment(kind, value, _DATETIME[3:]),
    timedelta: lambda kind, value: kind(
        days=value.days, seconds=value.seconds, microseconds=value.microseconds
    ),
}


def scalar_below(kind: type) -> type | None:
    """Return the JSON scalar that a class is derived from; None if there is none."""
    return next((scalar for scalar in _SCALARS if scalar in kind.__mro__), None)


def as_scalar(kind: type, value: Any) -> Any:
    """Convert a value to a scalar class, or to a class derived from the same scalar."""
    scalar = scalar_below(kind)
    assert scalar is not None  # noqa: S101
    return _SCALARS[scalar](kind, value)


# Dataclasses, attrs classes and Structs -----------------------------------------------------------

_EXACT_SCALARS = (str, int, bool, bytes, UUID, Decimal, date, timedelta)
_CONTAINERS = (list, tuple, set, frozenset, dict)
_CODE = ("__post_init__", "__attrs_post_init__", "__attrs_pre_init__")
_NEVER = "False"


def resolved(hint: Any) -> Any:
    """Resolve an alias of a type; return a type as it is."""
    while True:
        if isinstance(hint, NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # of typing, or of typing_extensions
            hint = hint.__value__
        elif get_origin(hint) is Final:
            (hint,) = get_args(hint)
        else:
            return hint


def is_whole(value: datetime | time) -> bool:
    """Return whether the UTC offset is in whole minutes: JSON has no seconds in offsets."""
    offset = value.utcoffset()
    return offset is not None and not offset.seconds % 60 and not offset.microseconds


class _Fields:
    """Generates the function that checks instances of a class, with one expression per field."""

    def __init__(self, event_class: type) -> None:
        self._class = event_class
        self._field = ""
        self._names: dict[str, Any] = {
            "utc": UTC,
            "inf": math.inf,
            "is_whole": is_whole,
            "is_kept": is_kept,
        }
        self._functions: dict[type, str] = {}
        self._code: list[str] = []
        self._is_searched = True
        self._holds_plain = False

    def exactness(self) -> Exactness:
        name = self._function_of(self._class)
        exec("\n".join(self._code), self._names)  # noqa: S102 - of the names of fields
        return Exactness(self._names[name], self._is_searched, self._holds_plain)

    def _name_for(self, value: object) -> str:
        """Make a value available to the generated code; return its name there."""
        name = f"value_{len(self._names)}"
        self._names[name] = value
        return name

    def _function_of(self, kind: type) -> str:
        """Generate the function that checks the fields of a class; return its name."""
        if kind in self._functions:
            return self._functions[kind]
        name = self._functions[kind] = f"fits_{len(self._functions)}"
        try:
            hints = get_type_hints(kind, include_extras=True)
        except Exception:  # unresolved hints: instances are read back instead
            hints = {}
        conditions = [_NEVER] if any(hasattr(kind, code) for code in _CODE) else []
        for field in names_of_fields(kind) or ():
            self._field = f"{kind.__qualname__}.{field}"
            conditions.append(
                self._condition(f"e.{field}", hints[field]) if field in hints else _NEVER
            )
        self._code.append(f"def {name}(e): return {' and '.join(conditions) or True}")
        return name

    def _condition(self, value: str, hint: Any) -> str:
        """Return an expression that checks whether a value has exactly a type."""
        hint = resolved(hint)
        origin, args = get_origin(hint), get_args(hint)
        if hint is Any:
            return self._plain()
        if hint is None or hint is types.NoneType:
            return f"{value} is None"
        if origin is Annotated:
            condition = self._condition(value, args[0])
            return _NEVER if any(isinstance(arg, msgspec.Meta) for arg in args[1:]) else condition
        if origin in (Union, types.UnionType):
            conditions = [self._condition(value, arg) for arg in args]
            return f"({' or '.join(sorted(conditions, key=len))})"
        if origin is Literal:
            kinds, values = {type(arg) for arg in args}, frozenset(args)
            return (
                f"type({value}) in {self._name_for(kinds)} and {value} in {self._name_for(values)}"
            )
        if origin is not None:
            return self._of_container(value, origin, args)
        return self._of_class(value, hint) if isinstance(hint, type) else _NEVER

    def _plain(self) -> str:
        self._holds_plain = True
        self._is_searched = False
        return "True"

    def _of_container(self, value: str, origin: Any, args: tuple[Any, ...]) -> str:
        if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
            condition = f"{self._condition('key', args[0])} and {self._condition('item', args[1])}"
            return (
                f"type({value}) is dict and {self._loop('key, item', condition)}({value}.items())"
            )
        if origin is tuple and args[-1:] != (...,):
            conditions = [
                self._condition(f"{value}[{index}]", arg) for index, arg in enumerate(args)
            ]
            return " and ".join(
                (f"type({value}) is tuple", f"len({value}) == {len(args)}", *conditions)
            )
        kind = _container_class(origin)
        if kind is None:  # for example, a generic class
            return _NEVER
        condition = self._loop("item", self._condition("item", args[0]))
        return f"type({value}) is {kind.__name__} and {condition}({value})"

    def _loop(self, names: str, condition: str) -> str:
        name = f"all_{len(self._code)}"
        self._code.append(
            f"def {name}(e):\n"
            f" for {names} in e:\n"
            f"  if not ({condition}): return False\n"
            " return True"
        )
        return name

    def _of_class(self, value: str, kind: type) -> str:
        is_class = f"type({value}) is {self._name_for(kind)}"
        if kind in (list, dict, msgspec.Raw):
            return f"{is_class} and {self._plain()}"
        if kind in _EXACT_SCALARS:
            return is_class
        if kind is float:
            number = f"{is_class} and (0.0 < {value} < inf or is_kept({value}))"
            # An integer is read back as the equal float.
            return f"({number} or type({value}) is int and {-(2**53)} <= {value} <= {2**53})"
        if kind is datetime:
            return f"{is_class} and ({value}.tzinfo is utc or is_whole({value}))"
        if kind is time:
            return f"{is_class} and {value}.tzinfo is None"
        if issubclass(kind, Enum):
            return _NEVER if issubclass(kind, Flag) else is_class
        if is_pydantic(kind):
            inner = exactness_of(kind)
            self._is_searched = False
            self._holds_plain = self._holds_plain or inner.holds_plain
            return f"{is_class} and {self._name_for(inner.is_exact)}({value})"
        if names_of_fields(kind) is not None:
            return f"{is_class} and {self._function_of(kind)}({value})"
        if kind in _CONTAINERS or kind.__module__ in ("collections.abc", "typing"):
            self._holds_plain = True
        elif not (
            kind in (bytearray, memoryview, msgspec.UnsetType)
            or scalar_below(kind)
            or is_typeddict(kind)
            or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        ):
            raise InvalidInput(
                f"{self._class.__qualname__} cannot be an event class: {self._field} could not be"
                f" read back, since objects of type {kind.__qualname__} cannot be written as"
                " JSON: make it a dataclass, or make the event a pydantic model whose field says"
                " how it is written and read (PlainSerializer, PlainValidator)"
            )
        return _NEVER


def is_kept(value: float) -> bool:
    """Return whether JSON and the database keep a number: finite, and not negative zero."""
    return math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0)


def _container_class(origin: Any) -> type | None:
    """Return the class that a container type is decoded to."""
    if origin in _CONTAINERS:
        return origin  # type: ignore[no-any-return]
    for kind in (set, list):
        if isinstance(origin, abc.ABCMeta) and issubclass(kind, origin):
            return kind
    return None


# pydantic models ----------------------------------------------------------------------------------

# The nodes of a core schema that read back what they wrote. Any other node may run custom code.
_SYMMETRIC_NODES = {
    *("model", "model-fields", "model-field", "dataclass", "dataclass-args", "dataclass-field"),
    *("typed-dict", "typed-dict-field", "definitions", "definition-ref", "default", "nullable"),
    *("str", "int", "float", "bool", "none", "uuid", "decimal", "bytes", "enum", "literal", "any"),
    *("date", "time", "datetime", "timedelta", "list", "tuple", "set", "frozenset", "dict"),
}
_FIELDS = ("model-field", "dataclass-field", "typed-dict-field")
_KEYS = {"str", "int", "uuid", "date", "datetime", "enum", "literal"}


class _Model:
    """Checks the core schema of a pydantic model: how its JSON is written and read."""

    def __init__(self, event_class: type) -> None:
        self._class = event_class
        self._nested: list[type] = []
        self._is_open = False
        self._holds_plain = False

    def exactness(self) -> Exactness:
        if not self._class.__pydantic_complete__:  # type: ignore[attr-defined]
            self._class.model_rebuild()  # type: ignore[attr-defined]
        schema = self._class.__pydantic_core_schema__  # type: ignore[attr-defined]
        self._visit(schema, {}, self._class.__qualname__, is_custom=False)
        # The outermost instance has exactly this class; nested ones may have a derived class.
        holds_itself = schema.get("type") == "definitions"
        nested = tuple(kind for kind in self._nested if holds_itself or kind is not self._class)
        if self._is_open:
            return Exactness(lambda _: False, is_searched=False, holds_plain=self._holds_plain)
        return Exactness(
            _without_subclasses(nested), is_searched=False, holds_plain=self._holds_plain
        )

    def _visit(
        self, node: Any, config: Mapping[str, Any], field_path: str, *, is_custom: bool
    ) -> None:
        """Check a node and the nodes below it.

        Args:
            node: a node, or another value in a node.
            config: the config of the model.
            field_path: the path of the field, for errors.
            is_custom: whether a serializer of the application writes this node.
        """
        if isinstance(node, list | tuple):
            for child in node:
                self._visit(child, config, field_path, is_custom=is_custom)
        if not isinstance(node, dict):
            return
        kind = node.get("type")
        if isinstance(kind, str):
            if kind in ("model", "dataclass"):
                config = node.get("config", {})
                field_path = node["cls"].__qualname__
                self._nested.append(node["cls"])
            self._collect(node, kind, config)
            if not is_custom:
                self._check(node, kind, config, field_path)
            is_custom = is_custom or "serialization" in node
        for name, child in node.items():
            if name not in ("metadata", "default", "config", "serialization", "computed_fields"):
                child_path = f"{field_path}.{name}" if _is_field(child) else field_path
                self._visit(child, config, child_path, is_custom=is_custom)

    def _check(
        self, node: dict[str, Any], kind: str, config: Mapping[str, Any], field_path: str
    ) -> None:
        if kind in _FIELDS:
            self._check_names(node, config, field_path)
        if node.get("now_op") == "future":
            raise self._error(field_path, "a moment in the future will be in the past then")
        function = node.get("serialization", {}).get("function")
        if getattr(function, "__module__", "") == "pydantic.types" and "secret" in str(function):
            raise self._error(field_path, "a secret is written as asterisks")

    def _collect(self, node: dict[str, Any], kind: str, config: Mapping[str, Any]) -> None:
        self._holds_plain = self._holds_plain or kind == "any"
        self._is_open = self._is_open or (
            kind not in _SYMMETRIC_NODES
            or "serialization" in node
            or "serialization_exclude_if" in node
            or bool(node.get("custom_init"))
            or "post_init" in node
            or (kind == "dict" and node.get("keys_schema", {}).get("type") not in _KEYS)
            or any(name.startswith(("ser_json", "val_")) for name in config)
        )

    def _check_names(
        self, field: dict[str, Any], config: Mapping[str, Any], field_path: str
    ) -> None:
        name = field_path.rpartition(".")[2]
        if field.get("serialization_exclude"):
            raise self._error(field_path, "exclude leaves it out")
        written_name = field.get("serialization_alias", name)
        alias = field.get("validation_alias", name)
        read_names = {name} if config.get("validate_by_name") or alias == name else set()
        if config.get("validate_by_alias", True):
            read_names |= {alias} if isinstance(alias, str) else _keys(alias)
        if written_name not in read_names:
            names_read = " or ".join(map(repr, sorted(read_names))) or "nothing"
            raise self._error(
                field_path, f"it is written as {written_name!r} and read as {names_read}"
            )

    def _error(self, field_path: str, reason: str) -> InvalidInput:
        return InvalidInput(
            f"{self._class.__qualname__} cannot be an event class: {field_path} could not be read"
            f" back, since {reason}"
        )


def _keys(paths: list[Any]) -> set[str]:
    """Return the paths of an alias that are a single key."""
    alias_paths = paths if isinstance(paths[0], list) else [paths]
    return {path[0] for path in alias_paths if len(path) == 1}


def _without_subclasses(nested: tuple[type, ...]) -> Callable[[Any], bool]:
    """Make a check whether nested instances can only be of these classes, not of derived ones."""
    return lambda _: not (nested and any(map(type.__subclasses__, nested)))


def _is_field(node: Any) -> bool:
    """Return whether a part of a core schema describes a field."""
    return isinstance(node, dict) and node.get("type") in _FIELDS
