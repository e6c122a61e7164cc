"""What a reader may see: for others it does not exist."""

from __future__ import annotations

from typing import Any

from indelible.access import Verb
from indelible.query import Query
from indelible.server.problems import Problem
from indelible.server.routing import Call
from indelible.streams.info import StreamInfo

from .page import not_here


async def readable_stream(call: Call[Any, Any], name: str) -> StreamInfo:
    """Return a stream that the reader may read.

    Raises:
        Problem: there is none, or they may not.
    """
    channels = call.principal.channels(Verb.READ, name)
    found = None if channels is not None and not channels else await call.store.stream(name)
    if found is None or (channels is not None and found.channel not in channels):
        raise not_here(f"No stream “{name}”.")
    return found


def readable(call: Call[Any, Any], query: Query | None = None) -> Query:
    """Return a query, narrowed to what the reader may read.

    Raises:
        Problem: they may read nothing of it.
    """
    narrowed = call.principal.narrow(Verb.READ, query or Query())
    if narrowed is None:
        raise not_here("There is nothing here that your token may read.")
    return narrowed


def may_manage_stream(call: Call[Any, Any], info: StreamInfo) -> bool:
    """Return whether the reader may close and reopen a stream."""
    return call.principal.may(Verb.MANAGE, info.stream, info.channel)


def changed(what: str, *, again: str | None = None) -> Problem:
    """Return the problem of an action on something that has changed since it was looked at.

    Args:
        what: what it is now, and what the reader saw.
        again: the page that shows what it is now.
    """
    return Problem(409, "changed-meanwhile", what, again=again)
