"""The command line, in this process; test_cli.py has what takes one of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indelible import ANY, EventStore, NewEvent
from tests.command import Command


@pytest.fixture
def command(url: str, schema: str) -> Command:
    """Runs `indelible` on an empty store."""
    return Command(url, schema)


@pytest.fixture
def store(url: str, schema: str):
    """The store that the command looks at."""
    with EventStore.connect(url, schema=schema) as opened:
        yield opened


# Moments ----------------------------------------------------------------------------------------


def test_words_send_a_group_to_the_last_moment_of_their_kind(
    command: Command, store: EventStore
) -> None:
    """On every day of the week: where they meant the next one, all that waits would be skipped."""
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    command("groups", "create", "mails", "--start", "head")

    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"):
        done = command("groups", "reset", "mails", "--to", day, "-y")
        assert (done.code, done.out) == (0, "group mails goes on after position 0\n")
        assert done.err.startswith("--to is 20")
        told = datetime.fromisoformat(done.err[len("--to is ") : -len(" UTC\n")])
        assert timedelta(0) <= datetime.now(UTC) - told.replace(tzinfo=UTC) < timedelta(days=7)


def test_a_moment_that_is_still_to_come_is_refused_where_only_the_past_makes_sense(
    command: Command, store: EventStore
) -> None:
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    command("groups", "create", "mails")
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    for given in ("tomorrow", "in 1 hour", ahead):
        for arguments in (
            ("log", "--as-of", given),
            ("read", "order-1", "--as-of", given),
            ("groups", "reset", "mails", "--to", given, "-y"),
            ("groups", "create", "other", "--start", given),
        ):
            done = command(*arguments)
            assert (done.code, done.out) == (2, "")
            assert "still to come" in done.err
            assert arguments[-2 if arguments[-1] == given else -3] in done.err
    assert [row["checkpoint"] for row in command("groups", "list", "--json").lines()] == ["0"]


def test_the_moment_that_words_stand_for_is_told_and_asked_about(
    command: Command, store: EventStore
) -> None:
    store.append("order-1", NewEvent("OrderTipped", 1), expected=ANY)
    command("groups", "create", "mails")
    midnight = f"{datetime.now(UTC).date()} 00:00:00.000 UTC"

    assert command("log", "--as-of", "today").err == f"--as-of is {midnight}\n"
    asked = command("groups", "reset", "mails", "--to", "today")
    assert asked.code == 2
    assert f"from 0 to {midnight}?" in asked.err
    assert command("log", "--as-of", datetime.now(UTC).isoformat()).err == ""


def test_eight_digits_are_no_position_without_a_word(command: Command, store: EventStore) -> None:
    for arguments in (
        ("log", "--as-of", "20261127"),
        ("groups", "create", "mails", "--start", "20261127"),
    ):
        done = command(*arguments)
        assert done.code == 2
        assert "could be a day or a position: write 2026-11-27, or 20,261,127" in done.err
    assert command("log", "--as-of", "20,261,127").code == 0
    assert command("log", "--as-of", "20269927").code == 0  # no day


def test_a_valid_time_that_could_be_the_last_or_the_next_is_refused(command: Command) -> None:
    done = command("log", "--valid-at", "monday")

    assert done.code == 2
    assert "--valid-at 'monday' could be 20" in done.err
    assert command("log", "--valid-at", "next monday").code == 0
    assert command("log", "--valid-at", "last monday").code == 0
