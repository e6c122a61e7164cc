"""What a module of the user's holds: modules and projections, by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

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


def find_projection(application: str, name: str) -> Projection:
    """Find a projection by its name among what a module holds, classes and instances.

    Args:
        application: `module` or `module:app`; of an application its module is looked through.
        name: the projection's name.

    Raises:
        InvalidInput: there is none, or no such module.
    """
    module_name, _, _ = application.partition(":")
    found: dict[str, Projection] = {}
    for given in vars(find_module(module_name)).values():
        projection = _made(given)
        if projection is not None:
            found[projection.name] = projection
    if name in found:
        return found[name]
    there = ", ".join(sorted(found)) or "none"
    raise InvalidInput(
        f"there is no projection {name!r} in module {module_name!r} (there are: {there})"
    )


def event_classes(projection: Projection) -> list[type]:
    """The event classes that a projection handles: enough to read what it takes."""
    return [handled for handled in type(projection)._methods if isinstance(handled, type)]


def _made(given: Any) -> Projection | None:
    if isinstance(given, type) and issubclass(given, Projection) and hasattr(given, "name"):
        given = given()
    return given if isinstance(given, Projection) and hasattr(given, "name") else None
