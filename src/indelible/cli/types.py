"""`indelible types`: list the event types of the store, and check that they can be read."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from indelible import EventStore
from indelible.errors import SchemaMissing
from indelible.store import connect

from . import arguments, output
from .discovery import registry

app: arguments.Commands = arguments.Commands(
    "List the event types of the store, and check that they can be read."
)


@app.command("list")
def list_types(
    *,
    events: arguments.Events = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the event types: how many events, first and last, and the registered class.

    The first call counts the whole log in small steps: a few seconds per million events. Later
    calls count only the new events.
    """
    known = None if events is None else registry(events)
    with EventStore.connect(url, schema=schema, events=known or (), unknown="keep") as store:
        found = store.types()
    if json:
        lines = [
            {
                "type": one.type,
                "events": one.events,
                "first_position": str(one.first_position),
                "first_recorded_at": one.first_recorded_at,
                "last_position": str(one.last_position),
                "last_recorded_at": one.last_recorded_at,
                "is_registered": one.is_registered,
                "upcasters": one.upcasters,
            }
            for one in found
        ]
        output.json_lines(lines, if_empty="no event types")
        return
    header = ("TYPE", "EVENTS", "FIRST", "LAST", "REGISTERED", "UPCASTERS")
    width = len(header) if known is not None else 4
    rows = [header[:width]]
    for one in found:
        row = (
            output.visible(one.type),
            f"{one.events:,}",
            output.moment(one.first_recorded_at),
            output.moment(one.last_recorded_at),
            "yes" if one.is_registered else "read as another" if one.upcasters else "no",
            output.visible("; ".join(one.upcasters)),
        )
        rows.append(row[:width])
    output.columns(iter(rows), if_empty="no event types")


@app.command("check")
def check_types(
    *,
    events: Annotated[str, typer.Argument(metavar="MODULE:NAME", help=arguments.EVENTS_HELP)],
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            help="Read N random events per type, beside the first and last.",
        ),
    ] = 100,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Check that the event classes can read every type in the store: for CI, before a deployment.

    Decode the first event of each type, the last, and some at random. Exit with code 1 if one
    cannot be decoded, or if nothing was checked: no events or no store. Never creates a store.
    """
    known = registry(events)
    if connect.would_be_made(url):
        _nothing_checked("no store exists", url, schema)
    try:
        with EventStore.connect(url, schema=schema, events=known, migrate=False) as store:
            checks = store.check_types(samples=samples)
    except SchemaMissing:
        _nothing_checked("no store exists", url, schema)
    if not checks:
        _nothing_checked("the store has no events", url, schema)
    failed = [check for check in checks if check.failures]
    for check in failed:
        typer.echo(
            f"{output.visible(check.type)}: {len(check.failures):,} of"
            f" {output.counted(check.checked, 'event')} cannot be decoded ({check.events:,} in the"
            " store)"
        )
        for reason, places in _by_reason(check.failures).items():
            typer.echo(f"    {output.visible(reason)}")
            more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
            typer.echo(f"    at {', '.join(places[:3])}{more}")
    checked = sum(check.checked for check in checks)
    if failed:
        typer.echo(f"{len(failed):,} of {output.counted(len(checks), 'type')} cannot be read")
        raise typer.Exit(1)
    types, decoded = output.counted(len(checks), "type"), output.counted(checked, "event")
    typer.echo(f"{types} can be read ({decoded} decoded)")


def _nothing_checked(reason: str, url: str | None, schema: str) -> NoReturn:
    typer.echo(f"nothing was checked: {reason} (schema {schema} of {connect.place(url)})")
    raise typer.Exit(1)


def _by_reason(failures: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for failure in failures:
        place = f"{output.visible(failure.stream)} {failure.version}"
        found.setdefault(failure.reason, []).append(place)
    return found
