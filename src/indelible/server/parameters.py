"""Parameters of requests that several routes share, and the rights that they need."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import msgspec

from indelible import Checkpoint, InvalidInput, Query
from indelible.access import Principal, Verb
from indelible.core.timestamps import AsOf, TimeRange

from . import wire
from .problems import forbidden

_POSITION = re.compile(r"[0-9]{1,19}")
_decode_alternatives = msgspec.json.Decoder(list[wire.QueryForm]).decode

Moment = Annotated[
    str, msgspec.Meta(description="A time in ISO 8601 with a time zone: 2026-11-27T08:00:00Z.")
]
AsOfText = Annotated[
    str,
    msgspec.Meta(description="What was known then: a time, a position or a checkpoint."),
]
Interval = Annotated[
    str,
    msgspec.Meta(
        description="From a time on, before another: 2026-11-27T08:00:00Z/2026-11-28T08:00:00Z."
    ),
]


def moment(name: str, text: str | None) -> datetime | None:
    """Return a time of a request.

    Raises:
        InvalidInput: it is no time, or has no time zone.
    """
    if text is None:
        return None
    try:
        # A plus sign in a query string means a space.
        found = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidInput(
            f"{name} must be a time in ISO 8601 with a time zone (2026-11-27T08:00:00Z), not"
            f" {text!r}"
        )
    return found


def interval(name: str, text: str | None) -> TimeRange | None:
    """Return an interval of a request.

    Raises:
        InvalidInput: it is none, or its times have no time zone.
    """
    if text is None:
        return None
    start, _, end = text.partition("/")
    first, last = moment(name, start), moment(name, end)
    assert first is not None  # noqa: S101 - the text is there
    assert last is not None  # noqa: S101
    return first, last


def as_of(text: str | None) -> AsOf | None:
    """Return the moment of `as_of`: a position, a checkpoint or a time.

    Raises:
        InvalidInput: it is neither.
    """
    return None if text is None else place("as_of", text)


def place(name: str, text: str) -> AsOf:
    """Return a place in the log: a position, a checkpoint or a time.

    Args:
        name: the name of the parameter.
        text: its text.

    Raises:
        InvalidInput: it is neither.
    """
    if _POSITION.fullmatch(text):
        return int(text)
    if "@" in text:
        return Checkpoint.parse(text)
    try:
        found = moment(name, text)
    except InvalidInput:
        found = None
    if found is None:
        raise InvalidInput(
            f"{name} must be a position, a checkpoint, or a time in ISO 8601 with a time zone"
            f" (2026-11-27T08:00:00Z), not {text!r}"
        )
    return found


class Filter(msgspec.Struct, kw_only=True):
    """The parameters that select events: an event must satisfy all of them."""

    types: Annotated[list[str], msgspec.Meta(description="It has one of these types.")] = (
        msgspec.field(default_factory=list, name="type")
    )
    tags: Annotated[list[str], msgspec.Meta(description="It has all of these tags.")] = (
        msgspec.field(default_factory=list, name="tag")
    )
    channel: Annotated[str, msgspec.Meta(description="It is of this channel.")] | None = None
    stream: Annotated[str, msgspec.Meta(description="It is in this stream.")] | None = None
    stream_prefix: (
        Annotated[str, msgspec.Meta(description="The name of its stream starts so.")] | None
    ) = None
    alternatives: (
        Annotated[
            str,
            msgspec.Meta(
                description="Instead of the others: a query as JSON, as for /events/matching."
            ),
        ]
        | None
    ) = msgspec.field(default=None, name="query")

    def query(self, principal: Principal) -> Query:
        """Return the query, narrowed to what a principal may read.

        Raises:
            InvalidInput: the query is not valid.
            Problem: the principal may read none of these events.
        """
        narrowed = principal.narrow(Verb.READ, self._query())
        if narrowed is None:
            raise forbidden(f"{principal.name} may not read any of these events")
        return narrowed

    def _query(self) -> Query:
        one = wire.QueryForm(
            types=self.types,
            tags=self.tags,
            channel=self.channel,
            stream=self.stream,
            stream_prefix=self.stream_prefix,
        )
        if self.alternatives is None:
            return one.query()
        if one != wire.QueryForm():
            raise InvalidInput("query stands for all criteria: pass it without the others")
        return wire.query_of(_alternatives(self.alternatives))


def require(principal: Principal, verb: Verb) -> None:
    """Check that a principal may do something with all streams.

    Raises:
        Problem: it may not.
    """
    if not principal.may_everywhere(verb):
        raise forbidden(f"{principal.name} may not {verb} everywhere: it needs a token that may")


def _alternatives(text: str) -> list[wire.QueryForm]:
    try:
        return _decode_alternatives(text)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"query must be a list of alternatives as JSON: {error}") from error
