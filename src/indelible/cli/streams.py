"""`indelible streams`: list, close and reopen streams; archive and erase their events."""

from __future__ import annotations

from typing import Annotated

import typer

from indelible import EventStore, StreamNotFound
from indelible.streams import StreamChange, StreamInfo

from . import arguments, output

app: arguments.Commands = arguments.Commands(
    "List, close and reopen streams; archive and erase their events."
)

Name = Annotated[str, typer.Argument(metavar="STREAM", help="Stream name.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Record this reason.")]


@app.command("list")
def list_streams(
    *,
    channel: arguments.Channel = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="PREFIX", help="Only streams that start with PREFIX."),
    ] = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the streams, in order of name."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.streams(channel=channel, prefix=prefix)
        nothing = "no streams" if channel is None and prefix is None else "no streams match"
        if json:
            output.json_lines(map(output.stream_json, found), if_empty=nothing)
        else:
            output.columns(output.stream_rows(found), if_empty=nothing)


@app.command("show")
def show_stream(
    *,
    name: Name,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Show a stream: version, state, and who closed, reopened, archived or erased it and why."""
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
    """Close a stream: refuse appends until it is reopened."""
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
    """Reopen a closed stream; it continues at its version."""
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
    """Move the events of a closed stream to the archive; reads still find them.

    Requires the role SCHEMA_maintainer.
    """
    with EventStore.connect(url, schema=schema) as store:
        typer.echo(_told(store.archive_stream(name, reason=reason)))


@app.command("erase")
def erase_stream(
    *,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Record this reason.")],
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Erase the data and metadata of a stream's events for good; positions and versions remain.

    The next VACUUM removes old copies. Backups and the write-ahead log keep theirs until they
    expire. Requires the role SCHEMA_maintainer.
    """
    with EventStore.connect(url, schema=schema) as store:
        found = store.stream(name)
        if found is None:
            raise StreamNotFound(name)
        events = output.counted(found.version + 1, "event")
        arguments.confirm(yes, f"erase the data of {events} of stream {name} for good?")
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
