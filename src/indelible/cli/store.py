"""`indelible store`: create, inspect and maintain a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from indelible import EventStore, InvalidInput
from indelible.errors import SchemaMissing

from . import arguments, import_, output
from .read import as_stored, exported

if TYPE_CHECKING:
    from indelible.postgres.settings import Settings

app: arguments.Commands = arguments.Commands(
    "Create, inspect and maintain a store; export and import events."
)
app.command("import")(import_.import_)

Roles = Annotated[
    bool,
    typer.Option(
        "--roles",
        help="Also create three roles. SCHEMA_reader can read; SCHEMA_writer can also append;"
        " SCHEMA_maintainer can also archive and erase. GRANT them to the roles that log in.",
    ),
]


@app.command("init")
def init(
    *,
    roles: Roles = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Create a store, or migrate an existing one. Running it again changes nothing."""
    from indelible.postgres.maintenance import role_that_creates_in_store

    with _settings(url, schema) as settings:
        _migrate(settings, roles=roles)
        role = role_that_creates_in_store(settings)
    if role is not None:
        output.say(
            f"warning: schema {schema} comes first in the search_path of role {role}, so tables"
            f" that it creates without a schema go to the store's schema. Use another role or"
            f' another --schema, or run: ALTER ROLE "{role}" SET search_path = public'
        )


@app.command("migrate")
def migrate(
    *,
    roles: Roles = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Migrate an existing store; fail if there is none."""
    from indelible.postgres.errors import place
    from indelible.postgres.maintenance import has_store

    with _settings(url, schema) as settings:
        if not has_store(settings):
            raise SchemaMissing(schema).add_location(place(settings))
        _migrate(settings, roles=roles)


@app.command("reset")
def reset(
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Delete any store, not only a local embedded one.")
    ] = False,
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Delete a store with all its events and create an empty one, for experiments.

    Without --force, delete only a local embedded store. If other tables, views, sequences or
    foreign keys would be dropped with it, delete nothing.
    """
    from indelible.postgres.maintenance import has_store
    from indelible.postgres.migrations import reset_store
    from indelible.store.connect import is_embedded, place

    if not (force or is_embedded(url)):
        raise InvalidInput(
            f"{place(url)} is not a local embedded store; to delete its events, pass --force"
        )
    with _settings(url, schema) as settings:
        if not has_store(settings):
            _migrate(settings, roles=False)
            return
        arguments.confirm(yes, f"delete the store in schema {schema} of {place(url)}?")
        applied = reset_store(settings)
    typer.echo(f"the store in schema {schema} is deleted")
    _show_applied(applied)


@contextmanager
def _settings(url: str | None, schema: str) -> Iterator[Settings]:
    from indelible.postgres.settings import Settings
    from indelible.postgres.statements import check_schema_name
    from indelible.store.connect import embedded_url, locate

    check_schema_name(schema)
    found, release = locate(url)
    try:
        yield Settings(found, schema, embedded_url=embedded_url(url))
    finally:
        release()


def _migrate(settings: Settings, *, roles: bool) -> None:
    from indelible.postgres.migrations import migrate_store

    schema = settings.schema
    applied = migrate_store(settings, roles=roles)
    _show_applied(applied)
    if not applied:
        typer.echo(f"the store in schema {schema} is up to date")
    if roles:
        typer.echo(f"roles {schema}_reader, {schema}_writer and {schema}_maintainer exist")


def _show_applied(applied: list[str]) -> None:
    for name in applied:
        typer.echo(f"applied {name}")


@app.command("export")
def export(
    *,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Write all events and stream life cycles as NDJSON, for `store import`.

    indelible store export | gzip > events.ndjson.gz
    """
    with as_stored(url, schema) as store:
        output.json_lines(exported(store, store.read_all()), if_empty="no events")


@app.command("stats")
def stats(
    *,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Show the number of streams and events, the size on disk and the head of the log."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.stats()
        head = store.head_info()
    if json:
        output.json_lines(
            [
                {
                    "streams": found.streams,
                    "events": found.events,
                    "head": str(found.head),
                    "last_position": str(found.last_position),
                    "bytes": found.bytes,
                    "channels": found.channels,
                    "waiting": head.waiting,
                    "holders": head.holders,
                }
            ]
        )
        return
    rows = [("CHANNEL", "STREAMS", "EVENTS")]
    rows += [
        (channel.channel, f"{channel.streams:,}", f"{channel.events:,}")
        for channel in found.channels
    ]
    rows.append(("all", f"{found.streams:,}", f"{found.events:,}"))
    output.columns(iter(rows))
    typer.echo(
        f"\nhead {found.head:,}; last assigned position {found.last_position:,}; size on disk"
        f" {found.bytes / 1024 / 1024:,.1f} MiB"
    )
    if head.holders:
        waiting = output.counted(head.waiting, "event")
        typer.echo(f"{waiting} not yet visible to readers; the head is held by")
        for holder in head.holders:
            typer.echo(f"  {output.visible(str(holder))}")


@app.command("index-correlation")
def index_correlation(
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the index.")] = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Make the index that finds all events of a correlation, or drop it.

    It indexes the metadata fields correlation_id and $correlationId. Others read and append
    meanwhile. Appends of events with such a field become slower. Running it again changes nothing.
    """
    from indelible.postgres import maintenance

    with EventStore.connect(url, schema=schema):  # there is a store, and of this version
        pass
    with _settings(url, schema) as settings:
        change = maintenance.drop_correlation_index if drop else maintenance.index_correlation
        names = change(settings)
    for name in names:
        typer.echo(f"{'dropped' if drop else 'made'} {name}")
    if not names:
        typer.echo("there is no index" if drop else "the index is up to date")


@app.command("epoch")
def epoch(
    *,
    renew: Annotated[
        bool, typer.Option("--renew", help="Begin a new epoch after a restore.")
    ] = False,
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Show the epoch of the store, which checkpoints carry, or begin a new one.

    A promoted standby, a point-in-time recovery and a restored dump begin an epoch automatically.
    Use --renew after you copied a data folder or restored a disk snapshot. A kept checkpoint is
    then valid only if its event is still at its position.
    """
    with EventStore.connect(url, schema=schema) as store:
        if renew:
            arguments.confirm(
                yes, "begin a new epoch, and check each kept checkpoint against its event?"
            )
        typer.echo(store.renew_epoch() if renew else store.epoch())
