"""`indelible groups`: administer consumer groups."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from indelible import EventStore, InvalidInput, Query
from indelible.consumer_groups import GroupInfo, ParkedEvent
from indelible.consumer_groups.types import GroupStart

from . import arguments, output, timestamps

app: arguments.Commands = arguments.Commands(
    "Administer consumer groups: status, settings, parked events."
)

Name = Annotated[str, typer.Argument(metavar="GROUP", help="Group name.")]
Position = Annotated[
    int | None,
    typer.Option("--position", metavar="POSITION", help="Only the event at this position."),
]
Stream = Annotated[
    str | None,
    typer.Option(
        "--stream", metavar="KEY", help="Only this stream, or this value of --partition-by."
    ),
]


@app.command("list")
def list_groups(
    *,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the groups: checkpoint, lag, workers, retried and parked events."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.groups()
    if json:
        output.json_lines(map(_group_json, found), if_empty="no groups")
        return
    output.columns(iter([_HEADS, *map(_group_row, found)]), if_empty="no groups")


@app.command("show")
def show_group(
    *,
    name: Name,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Show a group: settings, status, workers."""
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
        ("retries", f"{output.counted(settings.max_attempts, 'attempt')}, first retry after"
                    f" {settings.retry_after:g} s"),
        ("parked events", "block their stream" if holds_back else "do not block their stream"),
        ("lease", f"{settings.lease:g} s"),
        ("created", output.moment(found.created_at) + f" UTC, after position {found.start:,}"),
        ("checkpoint", f"{found.checkpoint:,}"),
        ("lag", f"{output.counted(found.lag_events, 'event')}, {found.lag_seconds:,.1f} s"),
        ("valid times", f"{output.counted(found.waiting, 'event')} not yet due"
                        if settings.deliver_when_valid else "ignored"),
        ("failed", f"{found.retrying:,} to retry, {found.parked:,} parked,"
                   f" {found.queued:,} queued behind them"),
    ):  # fmt: skip
        typer.echo(f"{what:<14} {output.visible(str(value))}")
    typer.echo()
    if not found.workers:
        typer.echo("no workers")
        return
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
    stream: arguments.Stream = None,
    stream_prefix: arguments.StreamPrefix = None,
    start: Annotated[
        str,
        typer.Option(
            "--start",
            metavar="PLACE",
            help="Start at beginning, head, a position or a past time.",
        ),
    ] = "beginning",
    partition_by: Annotated[
        str,
        typer.Option(
            "--partition-by",
            metavar="FIELD",
            help="Keep the order within this: stream, tag:KEY or metadata:FIELD.",
        ),
    ] = "stream",
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", metavar="N", help="Park an event after N attempts.")
    ] = 5,
    retry_after: Annotated[
        float,
        typer.Option(
            "--retry-after", metavar="SECONDS", help="Wait this long before the first retry."
        ),
    ] = 1.0,
    lease: Annotated[
        float,
        typer.Option(
            "--lease",
            metavar="SECONDS",
            help="Reassign the events of a worker without a heartbeat for this long.",
        ),
    ] = 10.0,
    parked_pass: Annotated[
        bool,
        typer.Option(
            "--no-park-blocks-stream", help="Continue with a stream whose event is parked."
        ),
    ] = False,
    deliver_when_valid: Annotated[
        bool,
        typer.Option("--deliver-when-valid", help="Deliver each event at its valid time."),
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Change the settings of an existing group."),
    ] = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Create a group, or with --update change the settings of an existing one.

    With --update, options that are left out get their defaults, and the group keeps its checkpoint.
    --partition-by and --deliver-when-valid cannot change.
    """
    query = Query(
        types=event_type or (),
        tags=tag or (),
        channel=channel,
        stream=stream,
        stream_prefix=stream_prefix,
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
            park_blocks_stream=not parked_pass,
            deliver_when_valid=deliver_when_valid,
            exists="change" if update else "raise",
        )
    there = "has these settings" if update else "already exists with these settings"
    typer.echo(f"group {name} {'created' if created else there}")


@app.command("delete")
def delete_group(
    *,
    name: Name,
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Delete a group with its checkpoint and parked events; the log keeps the events."""
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
        str,
        typer.Option(
            "--to", metavar="PLACE", help="Move to beginning, head, a position or a past time."
        ),
    ],
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Move a group back or forward; events after the new position are delivered again."""
    wanted = _start(to, "--to")
    with EventStore.connect(url, schema=schema) as store:
        found = store.group(name).info()
        arguments.confirm(
            yes, f"move group {name} from {found.checkpoint:,} to {_start_text(wanted)}?"
        )
        position = store.group(name).reset(wanted)
    typer.echo(f"group {name} continues after position {position:,}")


@app.command("wait")
def wait_for_group(
    *,
    name: Name,
    position: arguments.UpTo = None,
    timeout: arguments.Timeout = 30.0,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Wait until a group has handled all events up to the head of the log.

    Exit with code 1 if it has not within the timeout.
    """
    with EventStore.connect(url, schema=schema) as store:
        upto = store.head() if position is None else position
        checkpoint = store.group(name).wait_for(upto, timeout=timeout)
    typer.echo(f"group {name} is at position {checkpoint:,}")


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
    """List the parked events of a group."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.group(name).parked(stream=stream, limit=limit)
    nothing = f"group {name} has no parked events"
    if stream is not None:
        nothing += f" of {stream}"
    if json:
        output.json_lines(map(_parked_json, found), if_empty=nothing)
        return
    rows = [
        ("POSITION", "PARKED (UTC)", "STREAM", "VERSION", "TYPE", "ATTEMPTS", "QUEUED", "REASON")
    ]
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
    output.columns(iter(rows), if_empty=nothing)


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
    """Retry parked events: one, those of a stream, or all.

    Exit with code 1 if nothing is parked at the position or in the stream.
    """
    _check_choice(position, stream, every)
    with EventStore.connect(url, schema=schema) as store:
        count = store.group(name).replay(position=position, stream=stream)
    if not (count or every):
        return _say_nothing_parked(name)
    typer.echo(f"{output.counted(count, 'event')} will be retried")
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
    """Discard parked events: one, those of a stream, or all.

    Exit with code 1 if nothing is parked at the position or in the stream.
    """
    _check_choice(position, stream, every)
    with EventStore.connect(url, schema=schema) as store:
        store.group(name).info()
        arguments.confirm(yes, f"discard parked events of group {name}?")
        count = store.group(name).discard(position=position, stream=stream)
    if not (count or every):
        return _say_nothing_parked(name)
    typer.echo(f"{output.counted(count, 'event')} discarded")
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
        if item.stream:
            parts.append(f"stream {item.stream}")
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
        f"group {name!r} has no such parked event; list them with indelible groups parked {name}"
    )


def _check_choice(position: int | None, stream: str | None, every: bool) -> None:
    if every == (position is not None or stream is not None):
        raise InvalidInput("choose parked events with --position, --stream or --all")
