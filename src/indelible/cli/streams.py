"""`indelible streams`: list streams, close and reopen them, archive and erase their events."""

from __future__ import annotations

from typing import Annotated

import typer

from indelible import EventStore, StreamNotFound
from indelible.streams import StreamChange, StreamInfo

from . import arguments, output

app = arguments.Commands("List streams; close and reopen them, archive and erase their events.")

Name = Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]


@app.command("list")
def list_streams(
    *,
    channel: Annotated[str | None, typer.Option("--channel", help="Only this channel.")] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Only streams that start with this.")
    ] = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the streams, in order of name."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.streams(channel=channel, prefix=prefix)
        if json:
            output.json_lines(map(output.stream_json, found))
        else:
            output.columns(output.stream_rows(found))


@app.command("show")
def show_stream(
    *,
    name: Name,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Show how a stream stands, and who closed, reopened, archived or erased it, when and why."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.stream(name)
        if found is None:
            raise StreamNotFound(name)
        changes = store.stream_changes(name)
    if json:
        output.json_lines([{**output.stream_json(found), "changes": changes}])
        return
    typer.echo(output.visible(_told(found)))
    if changes:
        typer.echo("")
        output.columns(iter([_HEADS, *map(_change_row, changes)]))


@app.command("close")
def close_stream(
    *,
    name: Name,
    expected: arguments.Expected,
    reason: Reason = None,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Close a stream: it takes no more events, until it is reopened."""
    wanted = arguments.expected_version(expected)
    with EventStore.connect(url, schema=schema) as store:
        typer.echo(_told(store.close_stream(name, expected=wanted, reason=reason)))


@app.command("reopen")
def reopen_stream(
    *,
    name: Name,
    reason: Reason = None,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Open a closed stream again; it goes on at the version where it stands."""
    with EventStore.connect(url, schema=schema) as store:
        typer.echo(_told(store.reopen_stream(name, reason=reason)))


@app.command("archive")
def archive_stream(
    *,
    name: Name,
    reason: Reason = None,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Move the events of a closed stream out of the way; they are read as before.

    Needs the role SCHEMA_maintainer.
    """
    with EventStore.connect(url, schema=schema) as store:
        typer.echo(_told(store.archive_stream(name, reason=reason)))


@app.command("erase")
def erase_stream(
    *,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why: it is all that stays.")],
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Destroy the data and metadata of a stream's events, for good; their places stay.

    Old copies go with the next VACUUM; backups and the write-ahead log keep theirs until they
    expire. Needs the role SCHEMA_maintainer.
    """
    with EventStore.connect(url, schema=schema) as store:
        found = store.stream(name)
        if found is None:
            raise StreamNotFound(name)
        events = f"{found.version + 1:,} events"
        arguments.confirm(yes, f"destroy the data of the {events} of stream {name} for good?")
        typer.echo(_told(store.erase_stream(name, reason=reason)))


_HEADS = ("OPERATION", "EVENTS", "BY", "AT (UTC)", "REASON")


def _change_row(change: StreamChange) -> tuple[str, ...]:
    return (
        change.operation,
        "" if change.events is None else f"{change.events:,}",
        change.changed_by,
        output.moment(change.changed_at),
        change.reason or "",
    )


def _told(stream: StreamInfo) -> str:
    states = [
        f"{what} at {output.moment(when)} UTC"
        for what, when in (
            ("closed", stream.closed_at),
            ("archived", stream.archived_at),
            ("erased", stream.erased_at),
        )
        if when is not None
    ]
    if stream.closed_at is None:
        states.insert(0, "open")
    return f"{stream.stream} is at version {stream.version}, {', '.join(states)}"
