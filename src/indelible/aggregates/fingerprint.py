"""Compute the fingerprint of a state. A snapshot is used only if its fingerprint matches the code.

The fingerprint is a hash of two parts: the JSON schemas of the state and event classes, and the
source code that computes the state. The source is hashed as a syntax tree, so comments,
docstrings, layout and the version of Python do not matter. The source includes `evolve`, the
classes of the state and the events, and the upcasters. It also includes the functions, classes and
constants of the same package that these use directly.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import linecache
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from hashlib import sha256
from types import CodeType, FunctionType, ModuleType
from typing import Any
from uuid import UUID, uuid4

import msgspec

from indelible.serialization.codec import Codec


def fingerprint_of(
    state_types: Iterable[Any], initial: bytes, revision: int, evolve: object
) -> str:
    """Compute the fingerprint of a state.

    Args:
        state_types: the types of the state.
        initial: the encoded state before the first event.
        revision: the `revision` of the `Snapshots`.
        evolve: the function of the decider, or the aggregate class.
    """
    state_types = list(state_types)
    return _hash(initial.decode(), revision, [*map(_schema, state_types)], [evolve, *state_types])


@functools.lru_cache(maxsize=256)
def with_events(fingerprint: str, event_classes: tuple[type, ...], codec: Codec) -> str:
    """Add the event classes and upcasters of a store to the fingerprint of a state.

    Args:
        fingerprint: the fingerprint of the state.
        event_classes: the classes of the events in the annotations of `evolve`.
        codec: the registered classes and upcasters of the store.
    """
    # An annotated class may be the base class of several registered classes.
    classes = [kind for _, kind in sorted(codec.classes.items()) if issubclass(kind, event_classes)]
    upcasters = sorted(codec.upcasting.steps.items())
    return _hash(fingerprint, 0, [*map(_schema_of_event, classes)], [*classes, upcasters])


def _hash(text: str, revision: int, schemas: list[Any], code: list[object]) -> str:
    source = _Source()
    parts = [text, revision, schemas, [[*source.parts(value)] for value in code]]
    return sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


def _schema(kind: Any) -> Any:
    return _undocumented(msgspec.json.schema(kind, schema_hook=_schema_of_pydantic))


def _schema_of_event(kind: type) -> Any:
    try:
        return _schema(kind)
    except Exception:  # an event class need not have a schema; its source is hashed anyway
        return None


def _schema_of_pydantic(model: Any) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema()
    return schema


def _undocumented(schema: Any) -> Any:
    """Return a schema without its docstrings."""
    match schema:
        case dict():
            return {
                key: value if key == "default" else _undocumented(value)
                for key, value in schema.items()
                if key != "description" or not isinstance(value, str)
            }
        case list():
            return [*map(_undocumented, schema)]
        case _:
            return schema


_PLAIN = (str, bytes, int, float, Decimal, date, time, timedelta, UUID)


class _Source:
    """The source code of values as text, with each function and class once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, bool]] = set()

    def parts(self, value: object, package: str | None = None) -> Iterator[str]:
        """Yield the source of functions and classes, and of values that contain them.

        Args:
            value: the function, class or other value.
            package: the package of the code that refers to the value; None for a root value.
        """
        match value:
            case enum.Enum():
                yield value.name
                yield from self.parts(value.value, package)
            case _ if isinstance(value, _PLAIN):
                yield repr(value)
            case Mapping() | list() | tuple():
                for part in value.items() if isinstance(value, Mapping) else value:
                    yield from self.parts(part, package)
            case set() | frozenset():
                yield from sorted(" ".join(self.parts(part, package)) for part in value)
            case functools.partial():
                yield from self.parts((value.func, value.args, value.keywords), package)
            case type():
                for base in value.__mro__:
                    if _package(base) == _package(value):
                        yield from self._of_code(base, package)
            case _ if is_dataclass(value):  # an upcaster, among others
                for field in fields(value):
                    yield from self.parts(getattr(value, field.name, None), package)
            case _ if callable(value):
                yield from self._of_code(inspect.unwrap(value), package)
                # The implementations of functools.singledispatch.
                yield from self.parts(getattr(value, "registry", None), package)

    def _of_code(self, code: Any, package: str | None) -> Iterator[str]:
        key = id(code), package is None
        if package not in (None, _package(code)) or key in self._seen:
            return
        self._seen.add(key)
        try:
            tree = _tree(code)
        except (OSError, TypeError):  # there is no source
            return
        yield _text(tree)
        if package is None:
            for value in _named_in(tree, code):
                yield from self.parts(value, _package(code))


def _package(code: Any) -> str:
    return str(getattr(code, "__module__", None)).partition(".")[0]


def _tree(code: Any) -> ast.AST | str:
    """Parse the source of a function or class.

    Raises:
        OSError, TypeError: the source is not available.
    """
    while True:
        try:
            return _parse(code)
        except SystemError:  # another thread was parsing at the same time (CPython issue 106905)
            continue


def _parse(code: Any) -> ast.AST | str:
    source = inspect.getsource(code)
    if not _is_what_runs(code):
        # The file changed after it was imported. No other process can match this fingerprint.
        return uuid4().hex
    try:
        return ast.parse(f"if True:\n{source}" if source[:1].isspace() else source)
    except SyntaxError:  # a lambda: its lines are only a part of an expression
        return source


def _is_what_runs(code: Any) -> bool:
    members = vars(code).values() if isinstance(code, type) else [code]
    codes = [member.__code__ for member in members if isinstance(member, FunctionType)]
    filename = str(inspect.getsourcefile(code))
    source = "".join(linecache.getlines(filename))
    # Generated methods, such as __init__ of a dataclass, are in no file.
    return _compiled(filename, source).issuperset(
        code for code in codes if code.co_filename == filename
    )


@functools.lru_cache(maxsize=16)
def _compiled(filename: str, source: str) -> frozenset[CodeType]:
    """Return the code objects of all functions of a file."""
    codes = [compile(source, filename, "exec", dont_inherit=True)]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(codes)


def _text(node: object) -> str:
    """Write a syntax tree as text. Unlike `ast.dump`, it is the same in all Python versions."""
    match node:
        case ast.AST():
            parts = [
                f"{name}={_text(value)}"
                for name, value in ast.iter_fields(node)
                if name not in {"ctx", "kind", "type_comment"} and value is not None and value != []
            ]
            return f"{type(node).__name__}({', '.join(parts)})"
        case list():
            return f"[{', '.join(_text(part) for part in node if not _is_docstring(part))}]"
        case _:
            return repr(node)


def _is_docstring(node: object) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case _:
            return False


def _named_in(tree: ast.AST | str, code: Any) -> Iterator[object]:
    """Yield the values of the names in a function or class, from its module and closures."""
    if isinstance(tree, str):
        return
    # For a class defined in a function, the function's variables are in its methods' closures.
    members = vars(code).values() if isinstance(code, type) else [code]
    functions = [member for member in members if isinstance(member, FunctionType)]
    around = [{**inspect.getclosurevars(function).nonlocals} for function in functions]
    names = getattr(code, "__globals__", None) or vars(inspect.getmodule(code) or object)
    scope = ChainMap(*around, names)
    yield from (_value_of(node, scope) for node in ast.walk(tree))


def _value_of(node: ast.AST, scope: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return scope.get(name)
        case ast.Attribute(value=of, attr=name):
            module = _value_of(of, scope)
            return vars(module).get(name) if isinstance(module, ModuleType) else None
        case _:
            return None
