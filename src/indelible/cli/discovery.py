"""Find the projections and the event classes that commands are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from indelible import App, AsyncApp, InvalidInput
from indelible.app.discovery import find, find_application, find_module, is_projection
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
    known = {each.name: each for each in held if is_projection(each)}
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
