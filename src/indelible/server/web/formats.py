"""How values look: numbers, moments, durations, sizes, and names with odd characters."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from .time_track import Stop

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LONG_NAME = 48


def number(value: float) -> str:
    """Return a number with separators: `1,842,117`."""
    return f"{value:,}"


def moment(value: datetime) -> str:
    """Return a moment for people: `2026-03-03 14:02:11 UTC`.

    A script shows it in the zone of the reader.
    """
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def exact(value: datetime) -> str:
    """Return a moment in full, in UTC, as addresses have it: `2026-03-03T14:02:11.481000Z`."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def duration(value: timedelta | float) -> str:
    """Return a duration in one unit: `0.3 s`, `12 min`, `3 d`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    seconds = abs(seconds)
    for unit, size, limit in (("min", 60, 3_600), ("h", 3_600, 86_400), ("d", 86_400, None)):
        if seconds < 60:
            break
        if limit is None or seconds < limit:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def size(value: float) -> str:
    """Return a number of bytes: `71.2 GiB`."""
    for unit in _UNITS:
        if value < 1_024 or unit == _UNITS[-1]:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1_024
    raise AssertionError


def visible(text: str) -> str:
    r"""Return a text whose control and direction characters are written as escapes: `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(each):04x}" if unicodedata.category(each) in _INVISIBLE else each for each in text
    )


def short(text: str, length: int = _LONG_NAME) -> str:
    """Return a name that is cut in the middle: ids differ at their end."""
    shown = visible(text)
    if len(shown) <= length:
        return shown
    kept = length - 1
    return f"{shown[: kept - kept // 2]}…{shown[len(shown) - kept // 2 :]}"


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 event`, `3 events`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def stops(track_stops: Sequence[Stop]) -> str:
    """Return the stops of a lane as JSON, for a script: place, value, moment, count."""
    return json.dumps(
        [[each.x, each.value, exact(each.moment), each.count] for each in track_stops]
    )


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "moment": moment,
    "exact": exact,
    "duration": duration,
    "size": size,
    "visible": visible,
    "short": short,
    "plural": plural,
    "stops": stops,
}
