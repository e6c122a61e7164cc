"""Moments in addresses: positions, times in ISO 8601, and what a browser's time field sends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from indelible.server.problems import Problem
from indelible.server.routing import Call

_POSITION = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Bound:
    """What was known at a moment.

    Attributes:
        position: the position up to which events were recorded; None for all.
        moment: the moment, if it was given as one.
        may_grow: whether more events of the moment may still come.
    """

    position: int | None
    moment: datetime | None = None
    may_grow: bool = False


def moment_of(name: str, text: str) -> datetime:
    """Return a moment. Without a zone, as a time field without scripts sends it, it is UTC.

    Raises:
        Problem: it is none.
    """
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem(
            422,
            "invalid-input",
            f"{name} must be a time in ISO 8601 (2026-11-27T08:00:00Z), not “{text}”.",
            field=name,
        ) from None


async def as_of_position(call: Call[Any, Any], text: str | None) -> Bound:
    """Return what `as_of` bounds: a position, or the position of a moment. At most two look-ups.

    Raises:
        Problem: it is neither.
    """
    if text is None:
        return Bound(None)
    if _POSITION.fullmatch(text):
        return Bound(int(text))
    moment = moment_of("as_of", text)
    position = await call.store.position_at(moment)
    return Bound(position, moment, not await call.store.has_passed(moment))
