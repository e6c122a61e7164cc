"""`indelible events`: single events."""

from __future__ import annotations

from typing import Annotated

import typer

from indelible.core.validation import validate_integer

from . import arguments, output
from .read import as_stored

app: arguments.Commands = arguments.Commands("Show single events.")


@app.callback()
def _events() -> None:
    """Show single events."""


@app.command("show")
def show_event(
    *,
    position: Annotated[int, typer.Argument(metavar="POSITION", help="Position in the log.")],
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> int:
    """Show one event with all its fields. Exit with code 1 if the position has no event."""
    validate_integer("POSITION", position)
    with as_stored(url, schema) as store:
        events = list(store.read_all(after=max(position - 1, 0), limit=1))
    if not events or events[0].position != position:
        return output.fail(f"position {position} has no event; list events with indelible log")
    facts = output.event_json(events[0])
    if json:
        output.json_lines([facts])
        return 0
    for name, value in facts.items():
        if value not in (None, [], ()):
            text = value if isinstance(value, str) else output.encode(value).strip('"')
            typer.echo(f"{name:<12} {output.visible(text)}")
    return 0
