"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from indelible.errors import InvalidInput
from indelible.events import Checkpoint
from indelible.moments import AsOf


def moment(text: str) -> datetime:
    """Read a moment: ISO 8601, or words such as "2 hours ago" or "last monday".

    Without an offset it is in UTC, as all that the commands show; a day is its first moment.

    Raises:
        InvalidInput: it is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = _in_words(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def as_of(text: str | None) -> AsOf | None:
    """Read what a reading is to be as of: a moment, a position or a checkpoint."""
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    return Checkpoint.parse(text) if "@" in text else moment(text)


def optional_moment(text: str | None) -> datetime | None:
    """Read a moment where one is given."""
    return None if text is None else moment(text)


def _in_words(text: str) -> datetime:
    import parsedatetime  # takes longer than all the rest, and is seldom needed

    constants = parsedatetime.Constants("en_US", usePyICU=False)
    constants.StartHour = 0
    calendar = parsedatetime.Calendar(constants, version=parsedatetime.VERSION_CONTEXT_STYLE)
    found, understood = calendar.parseDT(text, sourceTime=datetime.now(UTC).replace(tzinfo=None))
    if not understood.hasDateOrTime:
        raise InvalidInput(
            f"{text!r} is no moment: write ISO 8601 (2026-11-27T08:00:00+01:00; UTC where no offset"
            ' is given), or words such as "2 hours ago", "yesterday 14:00" or "last monday"'
        )
    moment: datetime = found
    return moment
