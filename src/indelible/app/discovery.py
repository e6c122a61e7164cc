"""Find applications, deciders, event classes and projections in the user's modules."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from indelible.aggregates.aggregate import Aggregate
from indelible.aggregates.decider import Decider
from indelible.errors import InvalidInput
from indelible.projections.projection import Projection
from indelible.query import Query
from indelible.serialization.codec import Codec
from indelible.serialization.event_classes import EventClasses, is_event_class, registrations
from indelible.serialization.event_classes import classes_of as members_of
from indelible.serialization.upcasting import Upcaster

from .app import App
from .app_async import AsyncApp

AnyDecider: TypeAlias = Decider[Any, Any, Any] | type[Aggregate[Any]]

_IMPORTING = re.compile(r"<frozen importlib|[/\\]importlib[/\\]")


def find_module(name: str) -> ModuleType:
    """Find a module; it is looked for in the current folder, too.

    Raises:
        InvalidInput: there is none.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise InvalidInput(
                f"module {name!r} not found; run the command in the module's folder, or install it"
            ) from error
        sys.stderr.write(_own_traceback(error))
        raise InvalidInput(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _own_traceback(error: BaseException) -> str:
    """The traceback of an import, without the frames of this command and of the import itself."""
    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(error)
    first = told
    while told is not None:
        told.stack = traceback.StackSummary.from_list(
            frame
            for frame in told.stack
            if frame.filename != __file__ and not _IMPORTING.search(frame.filename)
        )
        told = told.__cause__ or told.__context__
    return "".join(first.format()) if first is not None else ""


def find(text: str, what: str, form: str) -> Any:
    """Find something in a module.

    Args:
        text: `module:name`.
        what: what it is to be, for the error.
        form: how it is written, for the error.

    Returns:
        It; None where the module has no such name.

    Raises:
        InvalidInput: there is no such module.
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise InvalidInput(f"{text!r} does not name {what}; write {form}")
    return getattr(find_module(module_name), name, None)


def find_application(application: str) -> App | AsyncApp:
    """Find an application.

    Args:
        application: `module:app`; the module is looked for in the current folder, too.

    Raises:
        InvalidInput: there is none there.
    """
    found = find(application, "an application", "module:app")
    if not isinstance(found, App | AsyncApp):
        module_name, _, name = application.partition(":")
        raise InvalidInput(
            f"{name!r} in {module_name!r} is not an application; define {name} = App('my-group', …)"
        )
    return found


@dataclass(frozen=True, slots=True)
class FoundDecider:
    """A decider, or an aggregate class, of a module.

    Attributes:
        name: its name in the module.
        decider: it.
        codec: reads the events that it is folded from.
        types: the stored types of its events; empty if its annotations do not name them.
    """

    name: str
    decider: AnyDecider
    codec: Codec
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class FoundModule:
    """What a module has for the page of a server.

    Attributes:
        name: how it was written: `shop` or `shop:app`.
        deciders: its deciders and aggregate classes by name, in order of name.
        projections: its projections, by name.
        events: the event classes and upcasters of its application and of its deciders.
    """

    name: str
    deciders: Mapping[str, FoundDecider]
    projections: Mapping[str, Projection | type[Projection]]
    events: EventClasses


def find_all(application: str) -> FoundModule:
    """Find the deciders, aggregate classes and projections of a module.

    Looked through are the module and those modules of its package that it has imported.

    Args:
        application: `module:app`, or `module`; of a module that has one application this is meant.

    Raises:
        InvalidInput: there is no such module or application, or its event classes contradict each
            other.
    """
    module_name, _, app_name = application.partition(":")
    module = find_module(module_name)
    held = list(_held(module))
    apps = {id(each): each for _, each in held if isinstance(each, App | AsyncApp)}
    app = find_application(application) if app_name else None
    if app is None and len(apps) == 1:
        (app,) = apps.values()
    found = {name: each for name, each in sorted(held, key=_name_of) if _is_decider(each)}
    own = {name: _events_of(module, name, each) for name, each in found.items()}
    given = [] if app is None else list(registrations(app.events))
    rest = [*given, *(("", each) for _, each in held if isinstance(each, Upcaster))]
    rest += [pair for classes in own.values() for each in classes for pair in registrations(each)]
    projections = {each.name: each for _, each in held if is_projection(each)}
    if app is not None:
        projections |= {each.name: each for each in (*app.projections, *app.inline)}
    deciders = {}
    for name, each in found.items():
        codec = Codec(_merged([pair for one in own[name] for pair in registrations(one)], rest))
        known = codec.types_of(own[name])
        deciders[name] = FoundDecider(
            name, each, codec, frozenset({*known, *_sources(codec, known)})
        )
    return FoundModule(application, deciders, projections, _merged([], rest))


def is_projection(given: Any) -> bool:
    """Return whether it is a projection that can run, or the class of one."""
    made = given if isinstance(given, type) else type(given)
    return issubclass(made, Projection) and hasattr(given, "name")


def _held(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The names of a module, and of those modules of its package that are imported."""
    package = module.__package__
    modules = [module]
    if package:
        modules += [
            each
            for name, each in sorted(sys.modules.items())
            if name.startswith(f"{package}.") and each is not module
        ]
    for each in modules:
        for name, value in list(vars(each).items()):
            if not name.startswith("_"):
                yield name, value


def _name_of(pair: tuple[str, Any]) -> str:
    return pair[0]


def _is_decider(given: Any) -> bool:
    if isinstance(given, Decider):
        return True
    return isinstance(given, type) and issubclass(given, Aggregate) and given is not Aggregate


def _events_of(module: ModuleType, name: str, decider: AnyDecider) -> list[type]:
    """The event classes that a decider names: in its bases, its annotation or that of `evolve`."""
    if isinstance(decider, type):
        try:
            return _classes(decider._event_classes())
        except InvalidInput:
            return _classes(_last_parameter(decider.evolve))
    home = sys.modules.get(getattr(decider.evolve, "__module__", ""), module)
    try:
        hint = get_type_hints(home).get(name)
    except Exception:  # an annotation that cannot be evaluated says nothing
        hint = None
    if get_origin(hint) is Decider and (found := _classes(get_args(hint)[2])):
        return found
    return _classes(_last_parameter(decider.evolve))


def _last_parameter(evolve: Any) -> Any:
    try:
        return get_type_hints(evolve).get(list(inspect.signature(evolve).parameters)[-1])
    except Exception:  # as above
        return None


def _classes(kind: Any) -> list[type]:
    try:
        found = members_of(kind)
    except InvalidInput:
        return []
    return found if all(map(is_event_class, found)) else []


def _merged(
    first: list[tuple[str, type | Upcaster]], rest: list[tuple[str, type | Upcaster]]
) -> list[Any]:
    """Event classes for one codec. A type that two classes have is that of the first."""
    classes: dict[str, type] = {}
    others: list[Upcaster] = []
    for event_type, each in (*first, *rest):
        if isinstance(each, Upcaster):
            if each not in others:
                others.append(each)
        else:
            classes.setdefault(event_type, each)
    return [classes, *others]


def _sources(codec: Codec, types: list[str]) -> set[str]:
    """The stored types that upcasters turn into these."""
    if not types:
        return set()
    (item,) = codec.upcasting.stored(Query(types=types)).items
    return set(map(str, item.types))
