"""`indelible types list`: what types of events there are, and whether they can be read."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from indelible import EventStore
from indelible.errors import SchemaMissing
from indelible.store import connect

from . import arguments, output
from .discovery import registry

app = arguments.Commands("Types of events: what there is in the store, and whether it can be read.")


@app.command("list")
def list_types(
    *,
    events: arguments.Events = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """List the types of events: how many, since when, and what is registered for them.

    The whole log is counted through, in small steps: a second or two for each million events.
    """
    known = None if events is None else registry(events)
    with EventStore.connect(url, schema=schema, events=known or (), unknown="keep") as store:
        found = store.types()
    if json:
        output.json_lines(
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
        )
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
    output.columns(iter(rows))


@app.command("check")
def check_types(
    *,
    events: Annotated[str, typer.Argument(metavar="MODULE:NAME", help=arguments.EVENTS_HELP)],
    samples: Annotated[
        int,
        typer.Option("--samples", help="How many events of a type to read, but first and last."),
    ] = 100,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Check that every type in the store can be read: for CI, before new code goes out.

    Of each type the first event, the last and some at random are decoded. Exit code 1 where one
    cannot be, and where nothing was checked: the store has no events, or is not there. It makes
    none.
    """
    known = registry(events)
    if connect.would_be_made(url):
        _nothing_checked("there is no store", url, schema)
    try:
        with EventStore.connect(url, schema=schema, events=known, migrate=False) as store:
            checks = store.check_types(samples=samples)
    except SchemaMissing:
        _nothing_checked("there is no store", url, schema)
    if not checks:
        _nothing_checked("the store has no events", url, schema)
    failed = [check for check in checks if check.failures]
    for check in failed:
        typer.echo(
            f"{output.visible(check.type)}: {len(check.failures):,} of {check.checked:,} that were"
            f" read cannot be ({check.events:,} in the store)"
        )
        for reason, places in _by_reason(check.failures).items():
            typer.echo(f"    {output.visible(reason)}")
            more = f" and {len(places) - 3:,} more" if len(places) > 3 else ""
            typer.echo(f"    at {', '.join(places[:3])}{more}")
    checked = sum(check.checked for check in checks)
    if failed:
        typer.echo(f"{len(failed):,} of {len(checks):,} types cannot be read")
        raise typer.Exit(1)
    typer.echo(f"all {len(checks):,} types can be read ({checked:,} events decoded)")


def _nothing_checked(reason: str, url: str | None, schema: str) -> NoReturn:
    typer.echo(f"nothing was checked: {reason} (schema {schema} of {connect.place(url)})")
    raise typer.Exit(1)


def _by_reason(failures: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for failure in failures:
        place = f"{output.visible(failure.stream)} {failure.version}"
        found.setdefault(failure.reason, []).append(place)
    return found
