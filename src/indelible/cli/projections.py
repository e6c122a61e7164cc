"""`indelible projections`: administer projections."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
import typer

from indelible import AsyncEventStore, DocumentProjection, EventStore, InvalidInput
from indelible.projections import Projection, ProjectionStatus, RebuildProgress, SkippedEvent
from indelible.projections.assignment import check_concurrency
from indelible.projections.rebuild import Report

from . import arguments, output
from .discovery import Application, find_projection

app: arguments.Commands = arguments.Commands(
    "Administer projections: status, rebuild, verification, parked events."
)

Name = Annotated[str, typer.Argument(metavar="PROJECTION", help="Projection name.")]


@app.command("list")
def list_projections(
    *,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the projections: state, checkpoint, lag, speed, workers, errors."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.projection_statuses()
    if json:
        output.json_lines(map(_status_json, found), if_empty="no projections")
        return
    output.columns(iter([_HEADS, *map(_status_row, found)]), if_empty="no projections")


@app.command("rebuild")
def rebuild_projection(
    *,
    name: Name,
    application: Application,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", "-c", metavar="N", help="Build N partitions at the same time."
        ),
    ] = 4,
    url: arguments.Url = None,
    schema: arguments.OtherSchema = None,
) -> None:
    """Rebuild a projection beside the serving version, then cut over in one transaction.

    The serving version stays available. After an interruption, run it again: it resumes.
    """
    check_concurrency(concurrency)
    found = find_projection(application, name)
    projection = found.projection
    given: dict[str, Any] = {
        "url": url or found.url,
        "schema": schema or found.schema,
        "events": found.events,
        "unknown": "keep",
        "inline": [projection] if found.is_inline else [],
        "pool_size": concurrency + 4,
    }
    with _progress(name) as (report, seen):
        if _does_async(projection):
            asyncio.run(_rebuild_async(given, projection, report, concurrency))
        else:
            with EventStore.connect(**given) as store:
                store.rebuild(projection, report=report, concurrency=concurrency)
    typer.echo(f"projection {name} version {projection.version} is rebuilt and serving")
    if left_out := seen[-1].left_out:
        events = output.counted(left_out, "event")
        typer.echo(f"{events} parked; list with indelible projections parked {name}", err=True)


async def _rebuild_async(
    given: dict[str, Any],
    projection: Projection,
    report: Report,
    concurrency: int,
) -> None:
    async with AsyncEventStore.connect(**given) as store:
        await store.rebuild(projection, report=report, concurrency=concurrency)


def _does_async(projection: Projection) -> bool:
    """Whether its methods are coroutines: it is one of an `AsyncEventStore`."""
    names = (*type(projection)._methods.values(), "project", "enrich", "on_live")
    return any(inspect.iscoroutinefunction(getattr(projection, name, None)) for name in names)


@contextmanager
def _progress(name: str) -> Iterator[tuple[Report, list[RebuildProgress]]]:
    """A bar with the share of the log, events a second, and the time left.

    Gives what is to be called with reports, and where the first and the last of them stand.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("building {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(name, total=None, events=0, rate=0)
        seen: list[RebuildProgress] = []

        def report(so_far: RebuildProgress) -> None:
            seen[1:] = [so_far]
            progress.update(
                task,
                total=so_far.head,
                completed=so_far.position,
                events=so_far.events,
                # What an interrupted one has done counts for no speed.
                rate=(so_far.events - seen[0].events) / (progress.tasks[0].elapsed or 1),
            )

        yield report, seen


@app.command("parked")
def parked_events(
    *,
    name: Name,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the parked events of a projection. A rebuild tries them again, in order."""
    with EventStore.connect(url, schema=schema) as store:
        found = store.projection(name).parked()
    nothing = f"projection {name} has no parked events"
    if json:
        output.json_lines(map(_parked_json, found), if_empty=nothing)
        return
    rows = [("POSITION", "VERSION", "PARTITION", "PARKED (UTC)", "STREAM", "TYPE", "REASON")]
    rows += [
        (
            str(event.position),
            str(event.version),
            str(event.partition),
            output.moment(event.parked_at),
            event.stream,
            event.type,
            event.error,
        )
        for event in found
    ]
    output.columns(iter(rows), if_empty=nothing)


@app.command("discard")
def discard_events(
    *,
    name: Name,
    position: Annotated[
        int | None,
        typer.Option("--position", metavar="POSITION", help="Only the event at this position."),
    ] = None,
    every: arguments.All = False,
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> int:
    """Remove parked events from the list, one or all; the projection does not get them.

    Exit with code 1 if no event is parked at the position.
    """
    if every == (position is not None):
        raise InvalidInput("choose parked events with --position or --all")
    with EventStore.connect(url, schema=schema) as store:
        arguments.confirm(yes, f"discard parked events of projection {name}?")
        count = store.projection(name).discard(position)
    if not (count or every):
        return output.fail(
            f"projection {name!r} has no parked event at position {position:,}; list them with"
            f" indelible projections parked {name}"
        )
    typer.echo(f"{output.counted(count, 'event')} discarded")
    return 0


@app.command("wait")
def wait_for_projection(
    *,
    name: Name,
    position: arguments.UpTo = None,
    timeout: arguments.Timeout = 30.0,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Wait until a projection has handled all events up to the head of the log.

    Exit with code 1 if it has not within the timeout.
    """
    with EventStore.connect(url, schema=schema) as store:
        store.projection(name).status()
        upto = store.head() if position is None else position
        checkpoint = store.wait_for(name, upto, timeout=timeout)
    typer.echo(f"projection {name} is at position {checkpoint:,}")


@app.command("restart")
def restart_projection(
    *,
    name: Name,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Restart a stopped projection from its checkpoint."""
    with EventStore.connect(url, schema=schema) as store:
        count = store.projection(name).restart()
    typer.echo(f"{output.counted(count, 'partition')} restarted")


@app.command("drop")
def drop_projection(
    *,
    name: Name,
    version: Annotated[
        int, typer.Option("--version", metavar="VERSION", help="Drop this version.")
    ],
    yes: arguments.Yes = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Drop a version of a projection that no code uses any more, with its documents."""
    with EventStore.connect(url, schema=schema) as store:
        store.projection(name).status()
        arguments.confirm(yes, f"drop version {version} of projection {name}?")
        store.projection(name).drop(version)
    typer.echo(f"version {version} of projection {name} dropped")


_HEADS = (
    "PROJECTION",
    "VERSION",
    "LIFECYCLE",
    "STATE",
    "CHECKPOINT",
    "LAG",
    "LAG (S)",
    "EVENTS/S",
    "WORKERS",
    "PARKED",
    "ERRORS",
    "LAST ERROR",
)


def _state(status: ProjectionStatus) -> str:
    """The state in one word, and how many partitions are stopped."""
    if not status.stopped:
        return status.build.state
    return f"{status.build.state}, {status.stopped}/{len(status.build.partitions)} stopped"


def _status_row(status: ProjectionStatus) -> tuple[str, ...]:
    build = status.build
    return (
        build.name,
        str(build.version),
        build.lifecycle,
        _state(status),
        f"{build.checkpoint:,}" if build.lifecycle == "async" or build.state == "building" else "",
        f"{status.lag_events:,}",
        f"{status.lag_seconds:,.1f}",
        f"{status.events_per_second:,.0f}",
        str(status.workers),
        f"{status.parked:,}",
        f"{status.errors:,}",
        next((part.error for part in build.partitions if part.error is not None), ""),
    )


def _status_json(status: ProjectionStatus) -> dict[str, Any]:
    build = status.build
    return {
        "name": build.name,
        "version": build.version,
        "kind": build.kind,
        "lifecycle": build.lifecycle,
        "state": build.state,
        "checkpoint": str(build.checkpoint),
        "lag_events": status.lag_events,
        "lag_seconds": status.lag_seconds,
        "events_per_second": status.events_per_second,
        "workers": status.workers,
        "parked": status.parked,
        "errors": status.errors,
        "stopped": status.stopped,
        "partitions": [
            {
                "partition": part.partition,
                "position": str(part.position),
                "owner": part.owner,
                "expires_at": part.expires_at,
                "handled": part.handled,
                "is_stopped": part.is_stopped,
                "error": part.error,
                "error_position": None if part.error_position is None else str(part.error_position),
            }
            for part in build.partitions
        ],
    }


def _parked_json(event: SkippedEvent) -> dict[str, Any]:
    return {
        "version": event.version,
        "position": str(event.position),
        "stream": event.stream,
        "type": event.type,
        "partition": event.partition,
        "error": event.error,
        "parked_at": event.parked_at,
    }


@app.command("verify")
def verify(
    *,
    name: Name,
    application: Application,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.OtherSchema = None,
) -> int:
    """Fold the events up to the checkpoint again and compare with the stored documents.

    Exit with code 1 if a document differs.
    """
    known = find_projection(application, name)
    projection = known.projection
    if not isinstance(projection, DocumentProjection):
        raise InvalidInput(
            f"projection {name!r} is not a DocumentProjection; only these can be verified"
        )
    with EventStore.connect(
        url or known.url, schema=schema or known.schema, events=known.events, unknown="keep"
    ) as store:
        found = store.verify(projection)
    if json:
        output.json_lines([{**asdict(found), "checkpoint": str(found.checkpoint)}])
        return 0 if found.holds else 1
    typer.echo(
        f"projection {found.projection} version {found.version}:"
        f" {output.counted(found.events, 'event')} up to position {found.checkpoint:,},"
        f" {output.counted(found.documents, 'document')},"
        f" {f'{found.differing:,} of them' if found.differing else 'none'} different"
    )
    if found.differing:
        rows = [("KEY", "STORED", "EXPECTED")]
        rows += [(each.key, _text(each.kept), _text(each.folded)) for each in found.differences]
        output.columns(iter(rows))
    return 0 if found.holds else 1


def _text(document: object) -> str:
    return "–" if document is None else msgspec.json.encode(document).decode()
