"""Moments as people write them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indelible import InvalidInput
from indelible.cli.times import as_of, moment


def test_iso_8601_is_read_with_its_offset_and_else_in_utc() -> None:
    assert moment("2026-11-27T08:00:00+01:00") == datetime(2026, 11, 27, 7, tzinfo=UTC)
    assert moment("2026-11-27 08:00:00.000001") == datetime(2026, 11, 27, 8, 0, 0, 1, tzinfo=UTC)
    assert moment("2026-11-27") == datetime(2026, 11, 27, tzinfo=UTC)


def test_words_are_read_from_now_on_a_day_being_its_first_moment() -> None:
    now = datetime.now(UTC)
    assert abs(moment("2 hours ago") - (now - timedelta(hours=2))) < timedelta(seconds=10)
    monday = moment("last monday")
    assert (monday.weekday(), monday.hour, monday.minute, monday.second) == (0, 0, 0, 0)
    assert timedelta(0) < now - monday < timedelta(days=14)
    assert moment("yesterday 14:00").hour == 14


def test_what_a_reading_is_as_of_may_be_a_position() -> None:
    assert as_of("17") == 17
    assert as_of(None) is None
    with pytest.raises(InvalidInput, match="no checkpoint"):
        as_of("17@nothing")


@pytest.mark.parametrize("text", ["", "banana", "2026-13-45", "12 banana", "hours"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="no moment"):
        moment(text)
