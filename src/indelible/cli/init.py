"""`indelible init`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import arguments


def init(
    *,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="Make the roles SCHEMA_reader, SCHEMA_writer and SCHEMA_maintainer, too. They may"
            " read; append and read; archive and erase as well; and nothing else. GRANT them to"
            " the roles that log in.",
        ),
    ] = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Make a store, or bring it up to date. Running it again changes nothing."""
    from indelible.postgres.migrations import migrate_store
    from indelible.postgres.settings import Settings
    from indelible.postgres.statements import check_schema_name
    from indelible.store.connect import locate

    check_schema_name(schema)
    found, release = locate(url)
    try:
        applied = migrate_store(Settings(found, schema), roles=roles)
    finally:
        release()
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo(f"the store in schema {schema} is up to date")
    if roles:
        typer.echo(f"roles {schema}_reader, {schema}_writer and {schema}_maintainer are there")
