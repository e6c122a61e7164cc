"""Timestamps as people write them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indelible import InvalidInput
from indelible.cli.timestamps import as_of, both, moment, past, place

SUNDAY = datetime(2026, 11, 29, 9, 30, tzinfo=UTC)


def test_iso_8601_is_read_with_its_offset_and_else_in_utc() -> None:
    assert past("2024-11-27T08:00:00+01:00", "--to") == datetime(2024, 11, 27, 7, tzinfo=UTC)
    assert past("2024-11-27 08:00:00.000001", "--to") == datetime(
        2024, 11, 27, 8, 0, 0, 1, tzinfo=UTC
    )
    assert past("2024-11-27", "--to") == datetime(2024, 11, 27, tzinfo=UTC)
    assert moment("2924-11-27", "--valid-at") == datetime(2924, 11, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("now", "2026-11-29T09:30"),
        ("today", "2026-11-29"),
        ("yesterday 14:00", "2026-11-28T14:00"),
        ("2pm yesterday", "2026-11-28T14:00"),
        ("day before yesterday at noon", "2026-11-27T12:00"),
        ("tomorrow", "2026-11-30"),
        ("2 hours ago", "2026-11-29T07:30"),
        ("half an hour ago", "2026-11-29T09:00"),
        ("1 day and 2 hours ago", "2026-11-28T07:30"),
        ("a week ago", "2026-11-22T09:30"),
        ("9 months ago", "2026-02-28T09:30"),
        ("2 years ago", "2024-11-29T09:30"),
        ("in 2 hours", "2026-11-29T11:30"),
        ("3 days from now", "2026-12-02T09:30"),
        ("last monday", "2026-11-23"),
        ("Last Monday 14:00:30", "2026-11-23T14:00:30"),
        ("last sunday", "2026-11-22"),
        ("next sunday", "2026-12-06"),
        ("next monday", "2026-11-30"),
        ("last week", "2026-11-16"),
        ("last month", "2026-10-01"),
        ("this year", "2026-01-01"),
        ("november 1st, 2025", "2025-11-01"),
        ("24 dec 2026", "2026-12-24"),
        ("2026-11-27 2:30 pm", "2026-11-27T14:30"),
    ],
)
def test_words_are_read_from_now_on_a_day_being_its_first_moment(words: str, read: str) -> None:
    wanted = datetime.fromisoformat(read).replace(tzinfo=UTC)
    assert both(words, "--to", SUNDAY) == (wanted, wanted)


@pytest.mark.parametrize(
    ("words", "last", "following"),
    [
        ("monday", "2026-11-23", "2026-11-30"),
        ("on sunday", "2026-11-29", "2026-12-06"),
        ("sun 14:00", "2026-11-22T14:00", "2026-11-29T14:00"),
        ("14:00", "2026-11-28T14:00", "2026-11-29T14:00"),
        ("9 am", "2026-11-29T09:00", "2026-11-30T09:00"),
        ("12 am", "2026-11-29", "2026-11-30"),
        ("midnight", "2026-11-29", "2026-11-30"),
        ("november 1st", "2026-11-01", "2027-11-01"),
        ("1st of december", "2025-12-01", "2026-12-01"),
        ("december", "2025-12-01", "2026-12-01"),
        ("feb 29 noon", "2024-02-29T12:00", "2028-02-29T12:00"),
    ],
)
def test_words_that_recur_have_a_last_and_a_next_moment(
    words: str, last: str, following: str
) -> None:
    wanted = tuple(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (last, following))
    assert both(words, "--to", SUNDAY) == wanted


@pytest.mark.parametrize("words", ["monday", "november 1st", "14:00", "december", "feb 29"])
def test_of_what_recurs_the_last_is_meant_where_the_past_is_asked_for(words: str) -> None:
    before = datetime.now(UTC)
    last, following = both(words, "--to", before)
    assert last <= before < following
    assert past(words, "--to") in (last, following)
    with pytest.raises(InvalidInput, match="is ambiguous"):
        moment(words, "--valid-at")


def test_what_is_to_come_is_no_past() -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=1)
    for text in ("tomorrow", "next monday", "in 1 minute", ahead.isoformat()):
        with pytest.raises(InvalidInput, match=r"--to .* in the future"):
            past(text, "--to")


def test_what_a_reading_is_as_of_may_be_a_position() -> None:
    assert as_of("17") == 17
    assert as_of("1,017") == 1017
    assert as_of(None) is None
    with pytest.raises(InvalidInput, match="not a checkpoint"):
        as_of("17@nothing")


def test_what_could_be_a_day_or_a_position_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match="could be a date or a position: write 2026-11-27 or 20,261,127"
    ):
        place("20261127", "--to")
    assert place("20261327", "--to") == 20261327
    assert place("2026", "--to") == 2026


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "banana",
            "2026-13-45",
            "12 banana",
            "hours",
            "2 hours",
            "banana 14:00",
            "11/27/2026",
        ),
        *(
            "25:00",
            "13 pm",
            "feb 30",
            "99999999999 days ago",
            "9999999 months ago",
            "in 9999 years",
        ),
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    for read in (past, moment, place):
        with pytest.raises(InvalidInput, match="is not a time"):
            read(text, "--to")
