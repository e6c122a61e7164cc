"""`indelible read` and `log`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer

from indelible import EventStore, InvalidInput, Query, RecordedEvent
from indelible.core.validation import validate_limit
from indelible.streams import lifecycle

from . import arguments, output, timestamps

_LOOKED_UP = 500
"""For the streams of so many events at once it is asked what was done to them."""


def read(
    *,
    stream: Annotated[str, typer.Argument(help="The stream.")],
    from_version: Annotated[int, typer.Option("--from-version", help="The lowest version.")] = 0,
    to_version: Annotated[
        int | None, typer.Option("--to-version", help="The highest version.")
    ] = None,
    backwards: arguments.Backwards = False,
    limit: arguments.Limit = None,
    as_of: arguments.AsOf = None,
    valid_at: arguments.ValidAt = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Read a stream, in order of version; with --valid-at in order of valid time.

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
        if json:
            output.json_lines(exported(store, events))
        else:
            rows = output.event_rows(events, of_one_stream=True, by_valid_time=holds is not None)
            output.columns(rows)


def log(
    *,
    event_type: arguments.Types = None,
    tag: arguments.Tags = None,
    channel: arguments.Channel = None,
    stream_prefix: arguments.StreamPrefix = None,
    after: Annotated[
        int | None, typer.Option("--after", help="The position to begin after.")
    ] = None,
    backwards: arguments.Backwards = False,
    limit: arguments.Limit = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what comes; without --after, only that."),
    ] = False,
    as_of: arguments.AsOf = None,
    valid_at: arguments.ValidAt = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Read the log, in order of position, up to the head or, with --follow, for ever.

    With --valid-at it is in order of valid time.
    """
    holds = None if valid_at is None else timestamps.moment(valid_at, "--valid-at")
    known = timestamps.as_of(as_of)
    query = Query(
        types=event_type or (), tags=tag or (), channel=channel, stream_prefix=stream_prefix
    )
    if follow and backwards:
        raise InvalidInput("--follow goes forwards: leave --backwards out")
    if follow and (known is not None or holds is not None):
        raise InvalidInput("--follow goes on with what comes: leave --as-of and --valid-at out")
    with as_stored(url, schema) as store:
        if follow:
            output.flush_each_line()
            subscription = store.subscribe(query, after="head" if after is None else after)
            events: Iterable[RecordedEvent] = islice(subscription, validate_limit(limit))
        else:
            events = store.read_all(
                query,
                after=after or 0,
                backwards=backwards,
                limit=limit,
                as_of=known,
                valid_at=holds,
            )
        if json and follow:
            output.json_lines(map(output.event_json, events))
        elif json:
            output.json_lines(exported(store, events))
        else:
            rows = output.event_rows(events, of_one_stream=False, by_valid_time=holds is not None)
            output.columns(rows, widths=output.LIVE_WIDTHS if follow else None)


def as_stored(url: str | None, schema: str) -> EventStore:
    """Open a store that gives data and metadata as the JSON that is stored."""
    store = EventStore.connect(url, schema=schema)
    store._append_settings.codec.keep_as_stored()
    return store


def exported(store: EventStore, events: Iterable[RecordedEvent]) -> Iterator[dict[str, Any]]:
    """Give events as JSON has them, and at a stream's last event what was done to the stream."""
    remaining = iter(events)
    while page := list(islice(remaining, _LOOKED_UP)):
        life_cycles = store._engine.run(lifecycle.life_cycles({event.stream for event in page}))
        for event in page:
            version, life_cycle = life_cycles.get(event.stream, (None, b""))
            life_field = {"life": msgspec.Raw(life_cycle)} if version == event.version else {}
            yield {**output.event_json(event), **life_field}
