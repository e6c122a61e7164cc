"""`indelible groups`: consumer groups, for operators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from indelible import EventStore, InvalidInput, Query
from indelible.consumer_groups import GroupInfo, ParkedEvent
from indelible.consumer_groups.types import GroupStart

from . import arguments, output, timestamps

app = arguments.Commands("Consumer groups: how they stand, and what they have set aside.")

Name = Annotated[str, typer.Argument(help="The group's name.")]
Position = Annotated[int | None, typer.Option("--position", help="Only the event at it.")]
Stream = Annotated[
    str | None,
    typer.Option("--stream", help="Only this stream, tag or field: what is kept in order."),
]


@app.command("list")
def list_groups(
    *,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the groups: checkpoint, lag, workers, what is retried and parked."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.groups()
    if json:
        output.json_lines(map(_group_json, found))
        return
    output.columns(iter([_HEADS, *map(_group_row, found)]))


@app.command("show")
def show_group(
    *,
    name: Name,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Show a group: its settings, how it stands, its workers."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.group(name).info()
    if json:
        output.json_lines([_group_json(found)])
        return
    settings, holds_back = found.settings, found.settings.park_blocks_stream
    for what, value in (
        ("group", found.name),
        ("reads", _query_text(settings.query)),
        ("in order by", settings.partition_by),
        ("retries", f"{settings.max_attempts} attempts, the first retry after"
                    f" {settings.retry_after:g} s"),
        ("parked events", "hold back their stream" if holds_back else "let others pass"),
        ("lease", f"{settings.lease:g} s"),
        ("created", output.moment(found.created_at) + f" UTC, after position {found.start:,}"),
        ("checkpoint", f"{found.checkpoint:,}"),
        ("lag", f"{found.lag_events:,} events, {found.lag_seconds:,.1f} s"),
        ("valid times", f"{found.waiting:,} events are not due yet" if settings.deliver_when_valid
                        else "are not waited for"),
        ("set aside", f"{found.retrying:,} retried, {found.parked:,} parked,"
                      f" {found.queued:,} queued behind them"),
    ):  # fmt: skip
        typer.echo(f"{what:<14} {output.visible(str(value))}")
    typer.echo()
    rows = [("WORKER", "TOKEN", "SLICES", "JOINED (UTC)", "LEASE UNTIL (UTC)")]
    rows += [
        (
            worker.name,
            str(worker.token),
            str(worker.slices),
            output.moment(worker.joined_at),
            output.moment(worker.expires_at),
        )
        for worker in found.workers
    ]
    output.columns(iter(rows))


@app.command("create")
def create_group(
    *,
    name: Name,
    event_type: arguments.Types = None,
    tag: arguments.Tags = None,
    channel: arguments.Channel = None,
    stream_prefix: arguments.StreamPrefix = None,
    start: Annotated[
        str,
        typer.Option("--start", help="beginning, head, a position, or a moment that has been."),
    ] = "beginning",
    partition_by: Annotated[
        str,
        typer.Option(
            "--partition-by", help="What is kept in order: stream, tag:KEY, metadata:FIELD."
        ),
    ] = "stream",
    max_attempts: Annotated[int, typer.Option(help="Attempts before an event is parked.")] = 5,
    retry_after: Annotated[float, typer.Option(help="Seconds before the first retry.")] = 1.0,
    lease: Annotated[float, typer.Option(help="Seconds until a silent worker is dead.")] = 10.0,
    park_blocks_stream: Annotated[
        bool, typer.Option(help="Whether a parked event holds back its stream.")
    ] = True,
    deliver_when_valid: Annotated[
        bool,
        typer.Option("--deliver-when-valid", help="Hand out each event when its valid time comes."),
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Change the settings of an existing group; it continues."),
    ] = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Create a group, or with --update give an existing one other settings.

    With --update, too, what is not given is as for a new group. --partition-by and
    --deliver-when-valid cannot be changed.
    """
    query = Query(
        types=event_type or (), tags=tag or (), channel=channel, stream_prefix=stream_prefix
    )
    first = _start(start, "--start")
    with EventStore.connect(url, schema=schema) as store:
        created = store.group(name).create(
            query,
            start=first,
            partition_by=partition_by,
            max_attempts=max_attempts,
            retry_after=retry_after,
            lease=lease,
            park_blocks_stream=park_blocks_stream,
            deliver_when_valid=deliver_when_valid,
            exists="change" if update else "raise",
        )
    there = "has these settings" if update else "is there already, just so"
    typer.echo(f"group {name} {'created' if created else there}")


@app.command("delete")
def delete_group(
    *,
    name: Name,
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Delete a group with all that is noted for it; events stay as they are."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.group(name).info()
        arguments.confirm(yes, f"delete group {name}, checkpoint {found.checkpoint:,}?")
        store.group(name).delete()
    typer.echo(f"group {name} deleted")


@app.command("reset")
def reset_group(
    *,
    name: Name,
    to: Annotated[
        str, typer.Option("--to", help="beginning, head, a position, or a moment that has been.")
    ],
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Send a group back or forward: what is above the new position comes again."""
    wanted = _start(to, "--to")
    with EventStore.connect(url, schema=schema) as store:
        found = store.group(name).info()
        arguments.confirm(
            yes, f"send group {name} from {found.checkpoint:,} to {_start_text(wanted)}?"
        )
        position = store.group(name).reset(wanted)
    typer.echo(f"group {name} goes on after position {position:,}")


@app.command("parked")
def parked_events(
    *,
    name: Name,
    stream: Stream = None,
    limit: arguments.Limit = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List what a group has parked."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.group(name).parked(stream=stream, limit=limit)
    if json:
        output.json_lines(map(_parked_json, found))
        return
    rows = [("POSITION", "PARKED (UTC)", "STREAM", "VERSION", "TYPE", "ATTEMPTS", "QUEUED", "WHY")]
    rows += [
        (
            str(event.position),
            output.moment(event.parked_at),
            event.stream,
            str(event.version),
            event.type,
            str(event.attempts),
            str(event.queued),
            ": ".join(filter(None, (event.reason, event.error))),
        )
        for event in found
    ]
    output.columns(iter(rows))


@app.command("replay")
def replay_events(
    *,
    name: Name,
    position: Position = None,
    stream: Stream = None,
    every: arguments.All = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> int:
    """Have parked events tried again: one, those of a stream, or all.

    Ends with exit code 1 where nothing is parked at the position or of the stream.
    """
    _check_choice(position, stream, every)
    with EventStore.connect(url, schema=schema) as store:
        count = store.group(name).replay(position=position, stream=stream)
    if not (count or every):
        return _say_nothing_parked(name)
    typer.echo(f"{count:,} {'event is' if count == 1 else 'events are'} to be tried again")
    return 0


@app.command("discard")
def discard_events(
    *,
    name: Name,
    position: Position = None,
    stream: Stream = None,
    every: arguments.All = False,
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> int:
    """Give parked events up: one, those of a stream, or all.

    Ends with exit code 1 where nothing is parked at the position or of the stream.
    """
    _check_choice(position, stream, every)
    with EventStore.connect(url, schema=schema) as store:
        store.group(name).info()
        arguments.confirm(yes, f"give up parked events of group {name}?")
        count = store.group(name).discard(position=position, stream=stream)
    if not (count or every):
        return _say_nothing_parked(name)
    typer.echo(f"{count:,} {'event' if count == 1 else 'events'} given up")
    return 0


_HEADS = (
    "GROUP",
    "CHECKPOINT",
    "LAG",
    "LAG (S)",
    "WORKERS",
    "RETRIED",
    "PARKED",
    "QUEUED",
    "WAITING",
)


def _group_row(info: GroupInfo) -> tuple[str, ...]:
    return (
        info.name,
        f"{info.checkpoint:,}",
        f"{info.lag_events:,}",
        f"{info.lag_seconds:,.1f}",
        str(len(info.workers)),
        f"{info.retrying:,}",
        f"{info.parked:,}",
        f"{info.queued:,}",
        f"{info.waiting:,}" if info.settings.deliver_when_valid else "-",
    )


def _group_json(info: GroupInfo) -> dict[str, Any]:
    settings = info.settings
    return {
        "name": info.name,
        "query": None if settings.query is None else settings.query.items,
        "partition_by": settings.partition_by,
        "max_attempts": settings.max_attempts,
        "retry_after": settings.retry_after,
        "lease": settings.lease,
        "park_blocks_stream": settings.park_blocks_stream,
        "deliver_when_valid": settings.deliver_when_valid,
        "start": str(info.start),
        "checkpoint": str(info.checkpoint),
        "lag_events": info.lag_events,
        "lag_seconds": info.lag_seconds,
        "retrying": info.retrying,
        "parked": info.parked,
        "queued": info.queued,
        "waiting": info.waiting,
        "workers": info.workers,
        "created_at": info.created_at,
    }


def _parked_json(event: ParkedEvent) -> dict[str, Any]:
    return {
        "position": str(event.position),
        "stream": event.stream,
        "version": str(event.version),
        "type": event.type,
        "key": event.key,
        "attempts": event.attempts,
        "reason": event.reason,
        "error": event.error,
        "parked_at": event.parked_at,
        "queued": event.queued,
    }


def _query_text(query: Query | None) -> str:
    if query is None or query.matches_everything:
        return "every event"
    told = []
    for item in query.items:
        parts = []
        if item.types:
            parts.append("type " + " or ".join(item.types))
        if item.tags:
            parts.append("tag " + " and ".join(item.tags))
        if item.channel:
            parts.append(f"channel {item.channel}")
        if item.stream_prefix:
            parts.append(f"streams {item.stream_prefix}…")
        told.append(", ".join(parts))
    return " | ".join(told)


def _start(text: str, option: str) -> GroupStart:
    match text:
        case "beginning":
            return "beginning"
        case "head":
            return "head"
    return timestamps.place(text, option)


def _start_text(start: GroupStart) -> str:
    match start:
        case datetime():
            return f"{output.moment(start)} UTC"
        case int():
            return f"{start:,}"
    return f"the {start}"


def _say_nothing_parked(name: str) -> int:
    return output.fail(
        f"group {name!r} has nothing parked there; what it has: indelible groups parked {name}"
    )


def _check_choice(position: int | None, stream: str | None, every: bool) -> None:
    if every == (position is not None or stream is not None):
        raise InvalidInput("say which parked events: --position, --stream, or --all")
