"""Errors: the tree in the docstring is correct, and each error says what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from indelible import STREAM_EXISTS, IndelibleError, InvalidInput, RecordedEvent, errors
from indelible.errors import Duplicate, VersionConflict

CONFLICT = VersionConflict("a-1", 3, 4, uuid4(), datetime(2024, 1, 1, tzinfo=UTC))
RECORDED = RecordedEvent(
    7, "a-1", 0, uuid4(), "Happened", {}, {}, (), "a", *2 * [datetime(2024, 1, 1, tzinfo=UTC)]
)
NEVER_WRITTEN = VersionConflict("b-1", STREAM_EXISTS, -1, None, None)

EXAMPLES: list[IndelibleError] = [
    errors.IndelibleError("x"),
    errors.InvalidInput("x"),
    errors.EncodingFailed("Happened", "data.items[2]", "is nan, which JSON cannot represent"),
    errors.EventTooLarge("Happened", 2_000_000, 1_048_576),
    errors.UnregisteredEventClass(dict),
    errors.AppendRejected("x"),
    errors.WrongExpectedVersion([CONFLICT, NEVER_WRITTEN]),
    errors.AppendConditionFailed([RECORDED]),
    errors.ChannelMismatch("a-1", "delivery", "ordering"),
    errors.DuplicateEvent([Duplicate(uuid4(), "a-1", 2, same_content=False)]),
    errors.StreamClosed("a-1", 3, datetime(2024, 1, 1, tzinfo=UTC)),
    errors.StreamNotClosed("a-1"),
    errors.StreamErased("a-1", 3),
    errors.EpochMismatch(uuid4(), uuid4()),
    errors.GroupExists("mails"),
    errors.GroupNotFound("mials", ["mails"]),
    errors.LeaseLost(),
    errors.ProjectionDefinitionChanged("orders", 1),
    errors.ProjectionFailed("orders", 17, "OrderCreated", KeyError("x")),
    errors.ProjectionNotReady("orders", 2),
    errors.ProjectionNotFound("orders", ["baskets"]),
    errors.ProjectionStopped("orders", 2, 0, 17, "ValueError: no"),
    errors.WaitTimeout("mails", 17, 12, 0.5),
    errors.StreamNotFound("a-1"),
    errors.TokenNotFound("3f9k2m7a"),
    errors.UnknownEventType("Happened"),
    errors.DecodingFailed("Happened", dict, "missing field"),
    errors.UpcastingFailed("a-1", 3, "Happened", "Happened -> Done by f", "failed: KeyError: 'x'"),
    errors.SchemaError("indelible", "x"),
    errors.SchemaMissing("indelible"),
    errors.SchemaOutdated("indelible", 1, 2),
    errors.SchemaTooNew("indelible", 2, 1),
    errors.TransactionConflict("x"),
    errors.UnsupportedIsolationLevel("x"),
    errors.PermissionDenied("x"),
    errors.TokenRefused("x"),
    errors.NeedsDatabase(),
    errors.DatabaseError("x"),
    errors.ServerBusy("x"),
    errors.LockTimeout("x", ["process 7"]),
    errors.DatabaseUnreachable("x"),
    errors.ConnectionLost("x", [uuid4()]),
    errors.StoreClosed(),
    errors.StoreForked(7),
    errors.TransactionEnded(),
    errors.WrongEventLoop(),
    errors.EmbeddedUnavailable("x"),
]


def all_errors() -> set[type[IndelibleError]]:
    found = {IndelibleError}
    while more := {child for error in found for child in error.__subclasses__()} - found:
        found |= more
    return {error for error in found if error.__module__.startswith("indelible")}


def drawn() -> dict[str, str | None]:
    """The tree at the top of errors.py: each name, and the name above it."""
    assert errors.__doc__ is not None
    above: dict[str, str | None] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+)(?: +\((\w+)\))?(?:  |$)", line)
        if found and (found[1] or found[2] == "IndelibleError"):
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            above[found[2]] = path[depth - 1] if depth else None
    return above


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn() == {
        error.__name__: None if error is IndelibleError else error.__bases__[0].__name__
        for error in all_errors()
    }


def test_there_is_an_example_of_each_here() -> None:
    assert {type(example) for example in EXAMPLES} == all_errors()


def test_a_callers_mistake_is_a_value_error_and_nothing_else_is() -> None:
    assert {error for error in all_errors() if issubclass(error, ValueError)} == {
        error for error in all_errors() if issubclass(error, InvalidInput)
    }


def test_every_error_has_a_docstring() -> None:
    for error in all_errors():
        assert inspect.cleandoc(error.__doc__ or ""), error


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickle_and_copy(error: IndelibleError) -> None:
    """Errors travel between processes: from workers, and from tests run in parallel."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_errors_say_what_happened_and_what_to_do() -> None:
    said = {type(error).__name__: str(error) for error in EXAMPLES}

    assert "data.items[2] is nan" in said["EncodingFailed"]
    for fact in ("2,000,000", "1,048,576", "max_event_bytes"):
        assert fact in said["EventTooLarge"]
    for fact in ("'a-1'", "'ordering'", "'delivery'", "Nothing of this append was stored"):
        assert fact in said["ChannelMismatch"]
    for fact in ("'a-1'", "version 2", "other content", "Nothing of this append was stored"):
        assert fact in said["DuplicateEvent"]
    assert "indelible store init --schema indelible" in said["SchemaMissing"]
    assert "indelible store migrate --schema indelible" in said["SchemaOutdated"]
    assert "pip install --upgrade indelible" in said["SchemaTooNew"]
    assert "connect()" in said["StoreClosed"]


def test_a_conflict_says_all_facts_of_each_check() -> None:
    error = errors.WrongExpectedVersion([CONFLICT, NEVER_WRITTEN])

    assert (error.stream, error.expected, error.actual) == ("a-1", 3, 4)
    assert error.conflicts == (CONFLICT, NEVER_WRITTEN)
    for fact in (
        "'a-1' was expected at 3",
        f"version 4, event {CONFLICT.last_event_id}",
        "2024-01-01T00:00:00+00:00",
        "'b-1' was expected at STREAM_EXISTS",
        "does not exist (version -1)",
    ):
        assert fact in str(error)


def test_no_error_message_has_line_breaks_or_an_unfinished_end() -> None:
    for error in EXAMPLES:
        assert "\n" not in str(error)
        assert not str(error).endswith((".", ":", " ")), error


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_says_first_where_it_happened(error: IndelibleError) -> None:
    located = copy.copy(error)
    located.add_location("event 3")
    located.add_location("line 17")

    for again in (located, pickle.loads(pickle.dumps(located)), copy.copy(located)):
        assert str(again) == f"line 17: event 3: {error}"
