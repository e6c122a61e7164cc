"""What a module of the user's holds: applications, event classes and projections, by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from indelible.app import App, AsyncApp
from indelible.codec import EventClasses
from indelible.errors import InvalidInput
from indelible.projection import Projection

Application = Annotated[
    str,
    typer.Option(
        "--app",
        metavar="MODULE[:APP]",
        envvar="INDELIBLE_APP",
        show_envvar=True,
        help="The module that has the projection's code.",
    ),
]


def find_module(name: str) -> ModuleType:
    """Find a module; it is looked for in the current folder, too.

    Raises:
        InvalidInput: there is none.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # something that the module itself imports
        raise InvalidInput(
            f"there is no module {name!r} here: run it where the module is, or install it"
        ) from error


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
        raise InvalidInput(f"{text!r} names no {what}: write {form}")
    return getattr(find_module(module_name), name, None)


def find_projection(application: str, name: str) -> tuple[Projection, EventClasses]:
    """Find a projection by its name, and all that is registered to read its events with.

    Args:
        application: `module:app`, or `module`, which has one application or none. Looked through
            are the application's projections, and what the module holds, classes and instances.
        name: the projection's name.

    Returns:
        It, and the event classes and upcasters of the application; where there is none, the
        classes that the projection handles.

    Raises:
        InvalidInput: there is none, or no such module.
    """
    module_name, _, app_name = application.partition(":")
    module = find_module(module_name)
    apps = [each for each in vars(module).values() if isinstance(each, App | AsyncApp)]
    if app_name:
        named = getattr(module, app_name, None)
        if not isinstance(named, App | AsyncApp):
            raise InvalidInput(f"{app_name!r} in {module_name!r} is no App and no AsyncApp")
        apps = [named]
    known = apps[0] if len(apps) == 1 else None
    given = [*vars(module).values()]
    if known is not None:
        given += [*known.projections, *known.inline]
    found: dict[str, Projection] = {}
    for each in given:
        projection = _made(each)
        if projection is not None:
            found[projection.name] = projection
    if name in found:
        return found[name], event_classes(found[name]) if known is None else known.events
    there = ", ".join(sorted(found)) or "none"
    raise InvalidInput(f"there is no projection {name!r} in {application!r} (there are: {there})")


def event_classes(projection: Projection) -> list[type]:
    """The event classes that a projection handles: enough to read what it takes."""
    return [handled for handled in type(projection)._methods if isinstance(handled, type)]


def _made(given: Any) -> Projection | None:
    if isinstance(given, type) and issubclass(given, Projection) and hasattr(given, "name"):
        given = given()
    return given if isinstance(given, Projection) and hasattr(given, "name") else None
