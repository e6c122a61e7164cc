"""`indelible append`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from indelible import ANY, EventStore, IndelibleError, InvalidInput, NewEvent
from indelible.core.uuid7 import uuid7
from indelible.events import ExpectedVersion
from indelible.projections import BuildInfo
from indelible.serialization.codec import Codec

from . import arguments
from .discovery import registry
from .import_ import opened
from .output import json_lines

_NO_DATA = msgspec.Raw(b"{}")
_check = Codec().check


class AppendLine(msgspec.Struct, forbid_unknown_fields=True):
    """One line of NDJSON."""

    stream: str
    type: str
    data: msgspec.Raw = _NO_DATA
    id: UUID | None = None
    metadata: dict[str, msgspec.Raw] = {}
    tags: list[str] = []
    valid_at: datetime | None = None
    expected: int | str | None = None
    channel: str | None = None


def append(
    *,
    stream: Annotated[str | None, typer.Argument(help="The stream.")] = None,
    event_type: Annotated[str | None, typer.Argument(metavar="TYPE", help="Its type.")] = None,
    data: Annotated[str, typer.Argument(help="Its data, as JSON.")] = "{}",
    expected: arguments.Expected,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            help='NDJSON to append, "-" for standard input: objects with stream, type, data, and'
            " where wanted id, metadata, tags, valid_at, channel, expected.",
        ),
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="The service that owns the stream.")
    ] = None,
    metadata: Annotated[
        str, typer.Option("--metadata", help="What is known about the event, as a JSON object.")
    ] = "{}",
    event_id: Annotated[
        str | None, typer.Option("--id", help="The event's UUID: a retry is stored once.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A label key:value.")] = None,
    valid_at: Annotated[
        str | None, typer.Option("--valid-at", help="When the fact holds, in ISO 8601.")
    ] = None,
    events: arguments.Events = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Append one event, or the events of a file.

    indelible append order-17 OrderTipped '{"amount": 2}' --expected 4

    With --events the data is checked against the classes, and their tags are added. A file is
    appended line by line. Where it stops in the middle, the lines before are stored;
    with ids in it, it can be run again from the beginning.
    """
    wanted = arguments.expected_version(expected)
    known = () if events is None else registry(events)
    if file is not None:
        if stream is not None:
            raise InvalidInput("give either an event or --file, not both")
        with EventStore.connect(url, schema=schema, events=known, channel=channel) as store:
            _append_file(store, file, wanted)
        return
    if stream is None or event_type is None:
        raise InvalidInput("an event needs STREAM and TYPE; events of a file need --file")
    line = AppendLine(
        stream=stream,
        type=event_type,
        data=_json("DATA", data, msgspec.Raw),
        metadata=_json("--metadata", metadata, dict[str, msgspec.Raw]),
        id=None if event_id is None else _uuid(event_id),
        tags=tag or [],
        valid_at=None if valid_at is None else _moment(valid_at),
    )
    with EventStore.connect(url, schema=schema, events=known, channel=channel) as store:
        _check_inline(store.projections(), event_type)
        result = store.append(stream, _event(line), expected=wanted)
    if json:
        json_lines(
            [
                {
                    "stream": result.stream,
                    "version": str(result.version),
                    "position": str(result.position),
                    "recorded_at": result.recorded_at,
                    "idempotent": result.idempotent,
                }
            ]
        )
    else:
        again = " (it was there already)" if result.idempotent else ""
        typer.echo(f"{stream} is at version {result.version}, position {result.position}{again}")


def _append_file(store: EventStore, file: str, expected: int | ExpectedVersion) -> None:
    versions: dict[str, int] = {}
    appended = 0
    inline = store.projections()
    with opened(file, "appending") as lines:
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                line = _json("the line", text, AppendLine)
                _check_inline(inline, line.type)
                own = (
                    None
                    if line.expected is None
                    else arguments.expected_version(str(line.expected))
                )
                following = expected if expected is ANY else versions.get(line.stream, expected)
                result = store.append(
                    line.stream,
                    _event(line),
                    expected=following if own is None else own,
                    channel=line.channel,
                )
            except IndelibleError as error:
                before = f", {appended} before it appended" if appended else ""
                error.add_location(f"line {number}{before}")
                raise
            versions[line.stream] = result.version
            appended += 1
    typer.echo(f"{appended:,} {'line' if appended == 1 else 'lines'} appended")


def _check_inline(known: list[BuildInfo], event_type: str) -> None:
    """Refuse an event that an inline projection is to take in: its code is not here.

    Raises:
        InvalidInput: one that serves takes the type.
    """
    for build in known:
        if build.serves_inline and (build.types is None or event_type in build.types):
            raise InvalidInput(
                f"inline projection {build.name!r} takes {event_type!r} with its append, and its"
                " code is not here: append it in a program that has it, connect(inline=[…])"
            )


def _event(line: AppendLine) -> NewEvent:
    # Stored as it is: as a float a number would lose digits.
    _check(line.type, bytes(line.data))
    return NewEvent(
        line.type,
        line.data,
        metadata=line.metadata,
        id=line.id or uuid7(),
        tags=line.tags,
        valid_at=line.valid_at,
    )


def _json(what: str, text: str | bytes, wanted: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=wanted)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidInput(f"{what} is not the JSON that is wanted: {error}") from error


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"--id must be a UUID, not {text!r}") from None


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"--valid-at must be a moment in ISO 8601 (2026-11-27T08:00:00+01:00), not {text!r}"
        ) from None
