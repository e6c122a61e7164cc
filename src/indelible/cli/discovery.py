"""Find applications, event classes and projections in the user's modules."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from indelible import App, AsyncApp, InvalidInput
from indelible.projections import Projection
from indelible.serialization.event_classes import EventClasses

Application = Annotated[
    str,
    typer.Option(
        "--app",
        metavar="MODULE[:APP]",
        envvar="INDELIBLE_APP",
        show_envvar=True,
        help="Find the projection's code here.",
    ),
]


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
class FoundProjection:
    """A projection of a module's, and how its application opens its store.

    Attributes:
        projection: it.
        events: what its events are read with: the event classes and upcasters of the application;
            where there is none, the classes that the projection handles.
        url: the application's; None where it has none.
        schema: the application's.
        is_inline: whether the application has its appends bring it up to date.
    """

    projection: Projection
    events: EventClasses
    url: str | None = None
    schema: str | None = None
    is_inline: bool = False


def find_projection(application: str, name: str) -> FoundProjection:
    """Find a projection by its name.

    Args:
        application: `module:app`, or `module`; of a module that has one application this is meant.
            Looked through are its projections, then what the module holds, classes and instances.
        name: the projection's name.

    Raises:
        InvalidInput: there is none, or no such module.
    """
    module_name, _, app_name = application.partition(":")
    held = list(vars(find_module(module_name)).values())
    apps = [each for each in held if isinstance(each, App | AsyncApp)]
    app = find_application(application) if app_name else apps[0] if len(apps) == 1 else None
    if app is not None:
        held += [*app.projections, *app.inline]
    known = {each.name: each for each in held if _is_projection(each)}
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise InvalidInput(f"{application!r} has no projection {name!r} (it has: {there})")
    projection = known[name]() if isinstance(known[name], type) else known[name]
    if app is None:
        return FoundProjection(projection, event_classes(projection))
    is_inline = any(each.name == name for each in app.inline)
    return FoundProjection(projection, app.events, app.url, app.schema, is_inline)


def registry(text: str) -> EventClasses:
    """Find event classes: `module:EVENTS`, or those of an application.

    Raises:
        InvalidInput: there are none, or no such module.
    """
    found = find(text, "event classes", "module:EVENTS")
    if found is None:
        module_name, _, name = text.partition(":")
        raise InvalidInput(f"module {module_name!r} has no {name!r}; write module:EVENTS")
    return found.events if isinstance(found, App | AsyncApp) else found


def event_classes(projection: Projection) -> list[type]:
    """The event classes that a projection handles: enough to read what it takes."""
    return [handled for handled in type(projection)._methods if isinstance(handled, type)]


def _is_projection(given: Any) -> bool:
    """Whether it is a projection that can run, or the class of one."""
    made = given if isinstance(given, type) else type(given)
    return issubclass(made, Projection) and hasattr(given, "name")
