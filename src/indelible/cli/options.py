"""Options that several commands have."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from indelible.errors import InvalidInput

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="INDELIBLE_URL",
        show_envvar=True,
        help="Where the database is: postgresql://… or embedded://[/folder].",
        show_default="an embedded PostgreSQL",
    ),
]
Schema = Annotated[
    str,
    typer.Option("--schema", envvar="INDELIBLE_SCHEMA", help="The schema that the store is in."),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line; positions and versions are text.")
]
Backwards = Annotated[bool, typer.Option("--backwards", help="The last event first.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", help="How many at most.")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type, or these types.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="Only events with this tag, or all these.")
]
Channel = Annotated[str | None, typer.Option("--channel", help="Only this channel.")]
StreamPrefix = Annotated[
    str | None, typer.Option("--stream-prefix", help="Only streams that start with this.")
]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(yes: bool, question: str) -> None:
    """Ask before something that cannot be taken back; without a terminal --yes must be given.

    Raises:
        InvalidInput: there is nobody to ask.
        Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"{question} There is nobody to ask here: say --yes")
    typer.confirm(question, abort=True)
