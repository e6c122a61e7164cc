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
from indelible.projections.foreign_inline import refuse_inline
from indelible.serialization.codec import Codec

from . import arguments
from .discovery import registry
from .import_ import opened
from .output import counted, json_lines

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
    stream: Annotated[
        str | None, typer.Argument(metavar="STREAM", help="Stream to append to.")
    ] = None,
    event_type: Annotated[str | None, typer.Argument(metavar="TYPE", help="Event type.")] = None,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Event data, as JSON.")] = "{}",
    expected: Annotated[
        str,
        typer.Option(
            "--expected",
            "-e",
            metavar="VERSION",
            help=f"{arguments.EXPECTED_HELP} With --file, it applies to the first event of each"
            " stream.",
        ),
    ],
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help='Append the events of this NDJSON file; "-" is standard input. Each line is an'
            " object with stream, type and data. Optional: id, metadata, tags, valid_at, channel,"
            " expected.",
        ),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            "--channel",
            metavar="CHANNEL",
            help="Set the channel: the service that owns the stream.",
        ),
    ] = None,
    metadata: Annotated[
        str, typer.Option("--metadata", metavar="JSON", help="Set the metadata, a JSON object.")
    ] = "{}",
    event_id: Annotated[
        str | None,
        typer.Option("--id", metavar="UUID", help="Set the event's id; a retry is stored once."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY:VALUE", help="Add a tag; repeat it to add several."),
    ] = None,
    valid_at: Annotated[
        str | None,
        typer.Option("--valid-at", metavar="TIME", help="Set the valid time, in ISO 8601."),
    ] = None,
    events: arguments.Events = None,
    json: arguments.Json = False,
    url: arguments.Url = None,
    schema: arguments.Schema = "indelible",
) -> None:
    """Append one event or the events of a file.

    indelible append order-17 OrderTipped '{"amount": 2}' --expected 4

    With --events, check the data against the event classes and add their tags.

    A file is appended line by line: after an error, the lines before it are stored. If each line
    has an id, run the whole file again; no event is stored twice.
    """
    wanted = arguments.expected_version(expected)
    known = () if events is None else registry(events)
    if file is not None:
        if stream is not None:
            raise InvalidInput("STREAM and --file exclude each other: give an event or a file")
        with EventStore.connect(url, schema=schema, events=known, channel=channel) as store:
            _append_file(store, file, wanted)
        return
    if stream is None or event_type is None:
        raise InvalidInput("STREAM and TYPE are required; to append a file, use --file")
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
        refuse_inline(store.projections(), [event_type], "this command")
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
        again = " (already stored)" if result.idempotent else ""
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
                refuse_inline(inline, [line.type], "this command")
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
                before = f", {appended:,} before it appended" if appended else ""
                error.add_location(f"line {number}{before}")
                raise
            versions[line.stream] = result.version
            appended += 1
    typer.echo(f"{counted(appended, 'event')} appended")


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
        raise InvalidInput(f"{what} is not valid JSON of the expected form: {error}") from error


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
            f"--valid-at must be a time in ISO 8601 (2026-11-27T08:00:00+01:00), not {text!r}"
        ) from None
