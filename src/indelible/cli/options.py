"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

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
