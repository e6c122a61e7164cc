"""`indelible projections`: projections, for operators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec
import typer

from indelible.errors import InvalidInput
from indelible.projection import DocumentProjection
from indelible.store import EventStore

from . import options, show
from .finding import Application, event_classes, find_projection

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Projections: how they stand, and whether they are what their events say.",
)

Name = Annotated[str, typer.Argument(help="The projection's name.")]


@app.callback()
def _projections() -> None:
    """Make it a group, though it has one command."""


@app.command("verify")
def verify(
    *,
    name: Name,
    application: Application,
    json: options.Json = False,
    url: options.Url = None,
    schema: options.Schema = "indelible",
) -> int:
    """Fold a projection anew up to its checkpoint, and compare with the documents it keeps.

    Ends with exit code 1 where a document is not what its events say.
    """
    projection = find_projection(application, name)
    if not isinstance(projection, DocumentProjection):
        raise InvalidInput(f"projection {name!r} keeps no documents here that could be compared")
    with EventStore.connect(url, schema=schema, events=event_classes(projection)) as store:
        found = store.verify(projection)
    if json:
        show.json_lines([{**asdict(found), "checkpoint": str(found.checkpoint)}])
        return 0 if found.holds else 1
    typer.echo(
        f"{found.projection}, version {found.version}: {found.events:,} events up to position"
        f" {found.checkpoint:,} make {found.documents:,} documents;"
        f" {f'{found.differing:,} differ' if found.differing else 'all are as kept'}"
    )
    if found.differing:
        rows = [("KEY", "KEPT", "FOLDED")]
        rows += [(each.key, _text(each.kept), _text(each.folded)) for each in found.differences]
        show.columns(iter(rows))
    return 0 if found.holds else 1


def _text(document: object) -> str:
    return "–" if document is None else msgspec.json.encode(document).decode()
