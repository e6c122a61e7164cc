"""Operations: pages of the list of streams, in order of name, forwards and backwards.

A page costs look-ups in the index of names, however many streams there are. A channel or a state
has no index: then a bounded number of names is looked at, and the page says how far it came.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from indelible.core.operation import Operation, Statement
from indelible.core.validation import validate_name
from indelible.query import Query, QueryItem

from .info import StreamInfo
from .query_parameters import items_json

StreamState = Literal["open", "closed", "archived", "erased"]

NAMES_AT_ONCE = 10_000
"""How many names a page looks at, at most."""
RECENT_EVENTS = 500
"""How many of the newest events `recent_streams` looks for."""
RECENT_POSITIONS = 20_000
"""How many of the newest positions `recent_streams` looks at, at most."""
_LAST = "\U0010ffff"
_BEHIND_ALL = _LAST * 256
_SURROGATES = range(0xD800, 0xE000)


def state_of(stream: StreamInfo) -> StreamState:
    """Return the state of a stream in one word."""
    if stream.erased_at is not None:
        return "erased"
    if stream.closed_at is None:
        return "open"
    return "closed" if stream.archived_at is None else "archived"


@dataclass(frozen=True, slots=True)
class StreamsPage:
    """A page of the list of streams.

    Attributes:
        streams: the streams, in order of name, also if it was read backwards.
        continues_at: the name after which (backwards: before which) the list continues; None at its
            end.
        is_cut: whether the page ends because it had looked at so many names.
    """

    streams: tuple[StreamInfo, ...]
    continues_at: str | None
    is_cut: bool


def streams_page(
    parts: Sequence[QueryItem],
    *,
    after: str | None = None,
    before: str | None = None,
    state: StreamState | None = None,
    limit: int,
) -> Operation[StreamsPage]:
    """Read a page of the list of streams: at most two statements.

    Args:
        parts: the channels and prefixes to list: a stream must be in one of them.
        after: names after this one.
        before: names before this one, the nearest. It excludes `after`.
        state: only streams of this state.
        limit: the largest number of streams.
    """
    backwards = before is not None
    is_filtered = state is not None or any(part.channel is not None for part in parts)
    most = max(limit, NAMES_AT_ONCE // len(parts)) if is_filtered else limit
    parameters: dict[str, Any] = {
        "parts": json.dumps([_bounds(part, after, before) for part in parts]),
        "state": state,
        "most": most,
    }
    order = ".descending" if backwards else ""
    rows = yield Statement(
        f"streams.list_page{order}", {**parameters, "limit": limit}, prepared=False
    )
    found: dict[int, list[StreamInfo]] = {}
    for number, *row in rows:
        found.setdefault(number, []).append(StreamInfo(*row))
    ends = {number: each[-1].stream for number, each in found.items() if len(each) == limit}
    if is_filtered and len(ends) < len(parts):
        for number, name in (
            yield Statement(f"streams.list_reach{order}", parameters, prepared=False)
        ):
            ends.setdefault(number, name)
    reach = (max if backwards else min)(ends.values(), default=None)
    streams = {
        each.stream: each
        for part in found.values()
        for each in part
        if reach is None or (each.stream >= reach if backwards else each.stream <= reach)
    }
    kept = sorted(streams, reverse=backwards)[:limit]
    is_full = len(kept) == limit
    return StreamsPage(
        tuple(streams[name] for name in sorted(kept)),
        kept[-1] if is_full else reach,
        not is_full and reach is not None,
    )


def recent_streams(query: Query | None, *, limit: int = 25) -> Operation[list[StreamInfo]]:
    """Return the streams of the newest events that match a query, the last changed first.

    It looks at the newest 500 events that match, within the newest 20,000 positions.

    Args:
        query: what a reader may see; None for everything.
        limit: the largest number of streams.
    """
    ((head,),) = yield Statement("streams.head")
    rows = yield Statement(
        "streams.recently_changed",
        {
            "items": items_json(query),
            "after": max(head - RECENT_POSITIONS, 0),
            "upto": head,
            "events": RECENT_EVENTS,
            "limit": limit,
        },
        prepared=False,
    )
    return [StreamInfo(*row) for row in rows]


def known_names(head: int) -> Operation[tuple[list[str], list[str]]]:
    """Return types and channels of the log, in order of name, at most 200 of each.

    They are those of the windows of the log that are written, and of the newest 1,000 positions.
    """
    ((types, channels),) = yield Statement(
        "streams.known_names",
        {"after": max(head - 1_000, 0), "upto": head, "most": 200},
        prepared=False,
    )
    return types, channels


def _bounds(part: QueryItem, after: str | None, before: str | None) -> dict[str, object]:
    """Return a part for the statement: from `low` on (step -1) or after it (0), before `high`."""
    prefix = part.stream_prefix and validate_name("prefix", part.stream_prefix)
    low, step = prefix or "", -1
    if after is not None and validate_name("after", after) >= low:
        low, step = after, 0
    high = _end_of(prefix) if prefix else _BEHIND_ALL
    return {
        "channel": part.channel and validate_name("channel", part.channel),
        "low": low,
        "step": step,
        "high": high if before is None else min(high, validate_name("before", before)),
    }


def _end_of(prefix: str) -> str:
    """Return the first text that is behind all texts with a prefix, in order of code points."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return _BEHIND_ALL
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
