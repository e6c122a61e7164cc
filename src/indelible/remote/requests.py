"""Requests to a server, and the values in its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from indelible.core.operation import Operation, Rows, Statement
from indelible.errors import DatabaseUnreachable
from indelible.events import ExpectedVersion, RecordedEvent
from indelible.streams.rows import stored_form

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
_encode = msgspec.json.Encoder().encode


class Request(Statement, frozen=True):
    """A request to the server. Its only row has the body and the status of the answer.

    The name is the HTTP method, and the parameters are those of the query.

    Attributes:
        path: the path below `/api/v1`.
        body: the body, as JSON; None for none.
        accept: the media type of the answer.
        wait: how many seconds the server may wait before it answers.
    """

    path: str = ""
    body: bytes | None = None
    accept: str = JSON
    wait: float = 0.0


class StoredEvent(msgspec.Struct):
    """A stored event, as the server writes it."""

    position: int
    stream: str
    version: int
    id: UUID
    type: str
    channel: str
    data: msgspec.Raw
    metadata: msgspec.Raw
    tags: tuple[str, ...]
    recorded_at: datetime
    valid_at: datetime
    erased: bool = False

    def row(self) -> tuple[Any, ...]:
        """Return the event as a row of the database, which the codec decodes."""
        undecoded = RecordedEvent(
            self.position,
            self.stream,
            self.version,
            self.id,
            self.type,
            None,
            {},
            self.tags,
            self.channel,
            self.recorded_at,
            self.valid_at,
        )
        data = None if self.erased else bytes(self.data)
        return stored_form(undecoded, data, bytes(self.metadata))


_decode_lines = msgspec.json.Decoder(StoredEvent, strict=False).decode_lines


def fetch(
    method: str,
    path: str,
    kind: type[T],
    *,
    parameters: Mapping[str, object] | None = None,
    form: object = None,
    wait: float = 0.0,
) -> Operation[T]:
    """Send a request, and return the answer.

    Args:
        method: the HTTP method.
        path: the path below `/api/v1`.
        kind: the type of the answer. Integers that are written as text become integers.
        parameters: the parameters of the query; those that are None are left out.
        form: what the body has; None for no body.
        wait: how many seconds the server may wait before it answers.
    """
    body = None if form is None else _encode(form)
    ((answer, _),) = yield Request(method, _given(parameters), path=path, body=body, wait=wait)
    return decoded(path, answer, kind)


def fetch_events(path: str, parameters: Mapping[str, object]) -> Operation[Rows]:
    """Read events, and return them as rows of the database."""
    ((answer, _),) = yield Request("GET", _given(parameters), path=path, accept=NDJSON)
    try:
        return [event.row() for event in _decode_lines(answer)]
    except msgspec.MsgspecError as error:
        raise _not_ours(path) from error


def decoded(path: str, answer: bytes, kind: type[T]) -> T:
    """Decode an answer.

    Raises:
        DatabaseUnreachable: it is not that of a server of this library.
    """
    try:
        return msgspec.json.decode(answer or b"null", type=kind, strict=False)
    except msgspec.MsgspecError as error:
        raise _not_ours(path) from error


def row_of(value: Any) -> tuple[Any, ...]:
    """Return the fields of a dataclass, as a row of the database."""
    return tuple(getattr(value, field.name) for field in fields(value))


def segment(name: str) -> str:
    """Return a name as a part of a path."""
    escaped = quote(name, safe="")
    # A part of dots only would be taken for a folder.
    return escaped.replace(".", "%2E") if not escaped.strip(".") else escaped


def version_text(version: int) -> str:
    """Return an expected version as the server takes it, from the number of the database."""
    if version >= 0:
        return str(version)
    return ExpectedVersion(version).name.lower().replace("_", "-")


def expected_of(text: str) -> int | ExpectedVersion:
    """Return the expected version that the server writes."""
    if text.isdecimal():
        return int(text)
    return ExpectedVersion[text.upper().replace("-", "_")]


def _given(parameters: Mapping[str, object] | None) -> dict[str, object]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}


def _not_ours(path: str) -> DatabaseUnreachable:
    return DatabaseUnreachable(
        f"the answer to {path} is not that of an Indelible server: check the URL, which is that of"
        " the server without /api/v1"
    )
