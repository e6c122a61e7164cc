"""Read times as people write them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from indelible import Checkpoint, InvalidInput
from indelible.core.timestamps import AsOf

from .output import moment as shown

_SKEW = timedelta(seconds=5)
"""How far the clocks of this machine and the server's may lie apart."""

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_SECONDS = {
    **dict.fromkeys(("second", "sec", "s"), 1),
    **dict.fromkeys(("minute", "min", "m"), 60),
    **dict.fromkeys(("hour", "hr", "h"), 3_600),
    **dict.fromkeys(("day", "d"), 86_400),
    **dict.fromkeys(("week", "w"), 604_800),
}
_SPAN = r"(?:(?:\d+|an?|half an)\s*[a-z]+)(?:\s+(?:and\s+)?(?:\d+|an?)\s*[a-z]+)*"
_DISTANCE = re.compile(
    rf"(?:(?P<ago>{_SPAN})\s+ago|in\s+(?P<in>{_SPAN})|(?P<on>{_SPAN})\s+from now)"
)
_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:\s*[ap]m)?|\d{1,2}\s*[ap]m|noon|midnight"
_DAY_AND_CLOCK = re.compile(
    rf"(?:at )?(?P<clock_first>{_CLOCK})(?: (?:on )?(?P<day_after>.+))?"
    rf"|(?:on )?(?P<day>.+?)(?:(?: at)? (?P<clock>{_CLOCK}))?"
)
_MONTH_DAY = re.compile(
    r"(?:(?P<month>[a-z]+)(?: (?P<day>\d{1,2})(?:st|nd|rd|th)?)?"
    r"|(?P<first>\d{1,2})(?:st|nd|rd|th)?(?: of)? (?P<month_after>[a-z]+))"
    r"(?: (?P<year>\d{4}))?"
)


def moment(text: str, option: str) -> datetime:
    """Read a moment that may lie before now or after it, and say which one it is.

    ISO 8601, or words such as "2 hours ago" or "last monday". Without an offset it is in UTC, as
    all that the commands show; a day, a week, a month and a year are their first moment.

    Args:
        text: what was given.
        option: what it was given for, for what is said.

    Raises:
        InvalidInput: it is no moment, or it could be the last as well as the next one of its kind.
    """
    now = datetime.now(UTC)
    last, following = both(text, option, now)
    if last != following:
        raise InvalidInput(
            f"{option} {text!r} is ambiguous: write {shown(last)} or {shown(following)} (UTC)"
        )
    return _told(option, text, last)


def past(text: str, option: str) -> datetime:
    """Read a moment that has been: words without a direction mean the last one of their kind.

    Raises:
        InvalidInput: it is no moment, or lies after now.
    """
    now = datetime.now(UTC)
    found, _ = both(text, option, now)
    if found > now + _SKEW:
        raise InvalidInput(
            f"{option} {text!r} is {shown(found)} UTC, which is in the future: give a past time"
        )
    return _told(option, text, found)


def span(text: str, option: str) -> timedelta:
    """Read a length of time: `90d`, `12 hours`, `2 weeks`.

    Raises:
        InvalidInput: it is no length of time, or is zero.
    """
    now = datetime.now(UTC)
    words = text.strip().lower()
    end = _moved(now, words, 1) if re.fullmatch(_SPAN, words) else None
    if end is None or end <= now:
        raise InvalidInput(f"{option} must be a time such as 90d or 12 hours, not {text!r}")
    return end - now


def place(text: str, option: str) -> int | datetime:
    """Read a place in the log: a position, or a moment that has been.

    Raises:
        InvalidInput: it is neither, or could be both.
    """
    if re.fullmatch(r"[0-9]{1,3}(,[0-9]{3})+", text):  # as the commands show it
        return int(text.replace(",", ""))
    if not (text.isascii() and text.isdecimal()):
        return past(text, option)
    if len(text) == 8 and (day := _iso(text)) is not None:
        raise InvalidInput(
            f"{option} {text} could be a date or a position: write {day.date()} or {int(text):,}"
        )
    return int(text)


def as_of(text: str | None) -> AsOf | None:
    """Read what a reading is to be as of: a moment, a position or a checkpoint."""
    if text is None:
        return None
    return Checkpoint.parse(text) if "@" in text else place(text, "--as-of")


def _told(option: str, text: str, found: datetime) -> datetime:
    """Say on standard error which moment is meant, unless it was given in full."""
    given = _iso(text)
    if given is None or given.tzinfo is None:
        sys.stderr.write(f"{option} is {shown(found)} UTC\n")
    return found


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def both(text: str, option: str, now: datetime) -> tuple[datetime, datetime]:
    """Read a moment: the last and the next that it may mean, mostly the same."""
    try:
        found = _iso(text)
        if found is not None:
            found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
            return found, found
        words = " ".join(text.lower().replace(",", " ").split())
        both = _in_words(words, now)
    except (ValueError, OverflowError):
        both = None
    if both is None:
        raise InvalidInput(
            f"{option} {text!r} is not a time: write ISO 8601 (2026-11-27T08:00:00+01:00; UTC"
            ' without an offset) or words such as "2 hours ago", "yesterday 14:00" or "last monday"'
        )
    return both


def _in_words(words: str, now: datetime) -> tuple[datetime, datetime] | None:
    if words == "now":
        return now, now
    if distance := _DISTANCE.fullmatch(words):
        ago = distance["ago"]
        found = _moved(now, ago or distance["in"] or distance["on"], -1 if ago else 1)
        return None if found is None else (found, found)
    parts = _DAY_AND_CLOCK.fullmatch(words)
    if parts is None:
        return None
    clock = _clock(parts["clock"] or parts["clock_first"])
    day = parts["day"] or parts["day_after"]
    days = _Days(lambda turn: now.date() + timedelta(days=turn)) if day is None else _days(day, now)
    if days is None or clock is None:
        return None
    return days.around(clock, now)


def _moved(now: datetime, span: str, direction: int) -> datetime | None:
    """Count a span such as "1 day and 2 hours" from now; months and years by the calendar."""
    for count, unit in re.findall(r"(\d+|half an|an?)\s*([a-z]+)", re.sub(r"\band\b", "", span)):
        number = int(count) if count.isdigit() else 1
        name = unit.removesuffix("s") or unit
        if count == "half an":
            if name != "hour":
                return None
            now += direction * timedelta(minutes=30)
        elif name in _SECONDS:
            now += direction * timedelta(seconds=number * _SECONDS[name])
        elif name in ("month", "year"):
            months = number * (12 if name == "year" else 1)
            first = _month(now.date(), direction * months)
            length = (_month(first, 1) - first).days
            now = datetime.combine(first.replace(day=min(now.day, length)), now.timetz())
        else:
            return None
    return now


def _clock(text: str | None) -> time | None:
    """Read a time of day; without one it is the day's first moment."""
    if text is None or text == "midnight":
        return time(tzinfo=UTC)
    if text == "noon":
        return time(12, tzinfo=UTC)
    half = text[-2:] if text.endswith("m") else ""
    hour, _, rest = text.removesuffix(half).strip().partition(":")
    number = int(hour)
    if half:
        if not 1 <= number <= 12:
            return None
        number = number % 12 + (12 if half == "pm" else 0)
    return time.fromisoformat(f"{number:02}:{rest or '00'}").replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Days:
    """The days that words may mean: one, or one in each turn of the week, the year, ….

    Attributes:
        of_turn: the day of a turn, counted from the present one; None where it has none, as most
            years have no 29 February.
        recurs: whether there is more than one.
    """

    of_turn: Callable[[int], date | None]
    recurs: bool = True

    def around(self, clock: time, now: datetime) -> tuple[datetime, datetime] | None:
        """Give the last of the moments that is not after now, and the first that is."""
        if not self.recurs:
            day = self.of_turn(0)
            return None if day is None else (datetime.combine(day, clock),) * 2
        found = [datetime.combine(day, clock) for n in range(-8, 9) if (day := self.of_turn(n))]
        return max(m for m in found if m <= now), min(m for m in found if m > now)


def _days(words: str, now: datetime) -> _Days | None:
    today = now.date()
    monday = today - timedelta(days=today.weekday())
    fixed = {
        "today": today,
        "yesterday": today - timedelta(days=1),
        "day before yesterday": today - timedelta(days=2),
        "the day before yesterday": today - timedelta(days=2),
        "tomorrow": today + timedelta(days=1),
    }
    which, _, period = words.rpartition(" ")
    if words in fixed:
        return _Days(lambda _: fixed[words], recurs=False)
    if which in ("last", "this", "next"):
        turn = ("last", "this", "next").index(which) - 1
        match period:
            case "week":
                return _Days(lambda _: monday + timedelta(weeks=turn), recurs=False)
            case "month":
                return _Days(lambda _: _month(today, turn), recurs=False)
            case "year":
                return _Days(lambda _: date(today.year + turn, 1, 1), recurs=False)
    if which in ("", "last", "next") and (weekday := _index(_WEEKDAYS, period)) is not None:
        if not which:
            return _Days(lambda turn: monday + timedelta(days=weekday, weeks=turn))
        # Today is neither the last nor the next one.
        distance = (today.weekday() - weekday - 1) % 7 + 1
        distance = -distance if which == "last" else (weekday - today.weekday() - 1) % 7 + 1
        return _Days(lambda _: today + timedelta(days=distance), recurs=False)
    with suppress(ValueError):
        given = date.fromisoformat(words)
        return _Days(lambda _: given, recurs=False)
    return _of_year(words, today)


def _of_year(words: str, today: date) -> _Days | None:
    """Read a day of a month: `november 1st`, `1 november 2025`, `november`."""
    found = _MONTH_DAY.fullmatch(words)
    month = found and _index(_MONTHS, found["month"] or found["month_after"])
    if found is None or month is None:
        return None
    day = int(found["day"] or found["first"] or 1)
    if found["year"]:
        only = date(int(found["year"]), month + 1, day)
        return _Days(lambda _: only, recurs=False)

    def of_turn(turn: int) -> date | None:
        try:
            return date(today.year + turn, month + 1, day)
        except ValueError:
            return None

    return _Days(of_turn)


def _index(names: tuple[str, ...], word: str) -> int | None:
    """The place of a name, which may be cut to its first three letters or more."""
    if len(word) < 3:
        return None
    return next((place for place, name in enumerate(names) if name.startswith(word)), None)


def _month(day: date, turn: int) -> date:
    """The first day of the month so many after the day's."""
    year, month = divmod(day.year * 12 + day.month - 1 + turn, 12)
    return date(year, month + 1, 1)
