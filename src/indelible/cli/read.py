"""`indelible read` and `log`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer

from indelible import EventStore, InvalidInput, Query, RecordedEvent
from indelible.core.validation import validate_integer, validate_limit
from indelible.streams import lifecycle

from . import arguments, output, timestamps

_LOOKED_UP = 500
"""Look up the life cycles of the streams of so many events at once."""


def read(
    *,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="Stream to read.")],
    from_version: Annotated[
        int, typer.Option("--from-version", metavar="VERSION", help="Start at this version.")
    ] = 0,
    to_version: Annotated[
        int | None, typer.Option("--to-version", metavar="VERSION", help="End at this version.")
    ] = None,
    backwards: arguments.Backwards = False,
    limit: arguments.Limit = None,
    as_of: arguments.AsOf = None,
    valid_at: arguments.ValidAt = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Read a stream, in order of version, or with --valid-at in order of valid time.

    indelible read menu-3 --as-of "last monday" --valid-at 2026-11-27
    """
    holds = None if valid_at is None else timestamps.moment(valid_at, "--valid-at")
    known = timestamps.as_of(as_of)
    with as_stored(url, schema) as store:
        events = store.read(
            stream,
            from_version=from_version,
            to_version=to_version,
            backwards=backwards,
            limit=limit,
            must_exist=True,
            as_of=known,
            valid_at=holds,
        )
        nothing = f"no events of stream {stream} match"
        if json:
            output.json_lines(exported(store, events), if_empty=nothing)
        else:
            rows = output.event_rows(events, of_one_stream=True, by_valid_time=holds is not None)
            output.columns(rows, if_empty=nothing)


def log(
    *,
    event_type: arguments.Types = None,
    tag: arguments.Tags = None,
    channel: arguments.Channel = None,
    stream: arguments.Stream = None,
    stream_prefix: arguments.StreamPrefix = None,
    after: Annotated[
        int | None,
        typer.Option("--after", metavar="POSITION", help="Start after this position."),
    ] = None,
    backwards: arguments.Backwards = False,
    limit: arguments.Limit = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Wait for new events and show them, until interrupted."
        ),
    ] = False,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            metavar="N",
            help="With --follow, first show the last N events; 0 shows none. Not with --after.",
            show_default="10",
        ),
    ] = None,
    as_of: arguments.AsOf = None,
    valid_at: arguments.ValidAt = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Read the log, in order of position, or with --valid-at in order of valid time.

    With --follow, show the last ten events, then new ones as they come. --limit counts all of them.
    """
    holds = None if valid_at is None else timestamps.moment(valid_at, "--valid-at")
    known = timestamps.as_of(as_of)
    query = Query(
        types=event_type or (),
        tags=tag or (),
        channel=channel,
        stream=stream,
        stream_prefix=stream_prefix,
    )
    if follow and backwards:
        raise InvalidInput("--follow and --backwards exclude each other")
    if follow and (known is not None or holds is not None):
        raise InvalidInput("--follow shows new events: leave out --as-of and --valid-at")
    if last is not None and (not follow or after is not None):
        raise InvalidInput("--last needs --follow, and excludes --after")
    with as_stored(url, schema) as store:
        if follow:
            output.flush_each_line()
            shown = 10 if last is None else validate_integer("--last", last)
            events: Iterable[RecordedEvent] = islice(
                _followed(store, query, after, shown), validate_limit(limit)
            )
        else:
            events = store.read_all(
                query,
                after=after or 0,
                backwards=backwards,
                limit=limit,
                as_of=known,
                valid_at=holds,
            )
        nothing = None if follow else "no events match"
        if json and follow:
            output.json_lines(map(output.event_json, events))
        elif json:
            output.json_lines(exported(store, events), if_empty=nothing)
        else:
            rows = output.event_rows(events, of_one_stream=False, by_valid_time=holds is not None)
            widths = output.LIVE_WIDTHS if follow else None
            output.columns(rows, widths=widths, if_empty=nothing)


def _followed(
    store: EventStore, query: Query, after: int | None, last: int
) -> Iterator[RecordedEvent]:
    """Give the events after a position, or the last ones, and then those that come."""
    if after is None:
        found = store.read_all(query, backwards=True, limit=last)
        after = found.head
        yield from reversed(list(found))
    yield from store.subscribe(query, after=after)


def as_stored(url: str | None, schema: str) -> EventStore:
    """Open a store that returns data and metadata as the stored JSON."""
    store = EventStore.connect(url, schema=schema)
    store._append_settings.codec.keep_as_stored()
    return store


def exported(store: EventStore, events: Iterable[RecordedEvent]) -> Iterator[dict[str, Any]]:
    """Give events as JSON; the last event of a stream carries the stream's life cycle."""
    remaining = iter(events)
    while page := list(islice(remaining, _LOOKED_UP)):
        life_cycles = store._engine.run(lifecycle.life_cycles({event.stream for event in page}))
        for event in page:
            version, life_cycle = life_cycles.get(event.stream, (None, b""))
            life_field = {"life": msgspec.Raw(life_cycle)} if version == event.version else {}
            yield {**output.event_json(event), **life_field}
