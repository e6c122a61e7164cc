"""Upcasters: rejected declarations, the types of a query, and the results of chains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible import InvalidInput, Query, RecordedEvent, Upcaster
from indelible.errors import UpcastingFailed
from indelible.serialization.codec import Codec
from indelible.streams.rows import decode_rows, stored_form

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(event_type: str, data: object, position: int = 1, tags: list | None = None) -> tuple:
    """A row in the form in which the database sends it."""
    written = None if data is None else json.dumps(data).encode()
    event = RecordedEvent(
        position, "a-1", position - 1, UUID(int=position), event_type, None, {}, (), "a", NOW, NOW
    )
    return (
        *stored_form(event, written, b"{}")[:7],
        tags,
        "a",
        *stored_form(event, None, b"{}")[9:],
    )


def read(codec: Codec, *rows: tuple, **options: Any) -> list[tuple[str, Any]]:
    return [(event.type, event.data) for event in decode_rows(codec, list(rows), **options)]


def with_reason(data: dict) -> dict:
    data.setdefault("reason", "unknown")
    return data


@dataclass(frozen=True)
class Canceled:
    event_upcasters: ClassVar = (Upcaster("Aborted", with_reason), Upcaster("Stopped"))
    reason: str = ""


# Declarations ----------------------------------------------------------------------------------


class CanceledStruct(msgspec.Struct, frozen=True):
    event_type: ClassVar[str] = "Canceled"
    event_upcasters: ClassVar = Upcaster("Aborted", with_reason)
    reason: str


class CanceledModel(pydantic.BaseModel):
    event_type: ClassVar[str] = "Canceled"
    event_upcasters: ClassVar = (Upcaster("Aborted", with_reason),)
    reason: str


@pytest.mark.parametrize("event_class", [Canceled, CanceledStruct, CanceledModel])
def test_upcasters_stand_in_the_class_that_old_events_are_read_as(event_class: type) -> None:
    codec = Codec(event_class)
    assert read(codec, row("Aborted", {})) == [("Canceled", event_class(reason="unknown"))]


def test_a_class_does_not_inherit_upcasters() -> None:
    @dataclass(frozen=True)
    class CanceledTwice(Canceled):
        pass

    codec = Codec([Canceled, CanceledTwice])
    assert read(codec, row("Stopped", {})) == [("Canceled", Canceled())]


def no_change(data: Any) -> Any:
    return data


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: Upcaster(7), "must be text, not 7"),
        (lambda: Upcaster("A", into=["B", ""]), "must have 1 to"),
        (lambda: Upcaster("A", "B"), "must be a function"),
        (lambda: Upcaster("A", no_change, into=()), "drops the events"),
        (lambda: Upcaster("A", into=("B", "C")), "needs a change"),
        (lambda: Codec([Upcaster("A")]), "no class declares it"),
        (lambda: Codec([Upcaster("A", into="A")]), "changes nothing"),
        (lambda: Codec([Upcaster("A", into="B"), Upcaster("A", into="C")]), "two upcasters lead"),
        (lambda: Codec([Canceled, Upcaster("Canceled", into=())]), "has both the class"),
        (lambda: Codec([Canceled, Upcaster("A", into="Cancelled")]), "has no registered class"),
        (
            lambda: Codec(
                [
                    Upcaster("A", into="B"),
                    Upcaster("B", no_change, into=("C", "D")),
                    Upcaster("D", into="A"),
                ]
            ),
            "A -> B -> D -> A",
        ),
    ],
)
def test_upcasters_that_contradict_themselves_are_refused(
    declare: Callable[[], object], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        declare()


def test_an_attribute_that_holds_no_upcasters_is_refused() -> None:
    @dataclass(frozen=True)
    class Wrong:
        event_upcasters: ClassVar = ("Aborted",)

    with pytest.raises(InvalidInput, match="must be Upcaster values"):
        Codec(Wrong)


# Errors ----------------------------------------------------------------------------------------


def fails(data: dict) -> dict:
    raise KeyError("amount")


@pytest.mark.parametrize(
    ("change", "into", "says"),
    [
        (fails, "Canceled", "failed: KeyError: 'amount'"),
        (lambda data: None, "Canceled", "returned None"),
        (lambda data: {"reason": float("nan")}, "Canceled", "data that does not fit its type"),
        (lambda data: {"reason": 7}, "Canceled", "does not fit Canceled"),
        (lambda data: 7, ("Canceled",), "failed: TypeError"),
        (lambda data: [("Aborted", data)], ("Canceled",), "returned the type 'Aborted'"),
    ],
)
def test_an_upcaster_that_fails_is_named_with_the_event(
    change: Callable, into: Any, says: str
) -> None:
    codec = Codec([Canceled, Upcaster("Old", change, into=into)])
    with pytest.raises(UpcastingFailed, match=says) as error:
        read(codec, row("Canceled", {}), row("Old", {}, position=8))
    assert (error.value.stream, error.value.version, error.value.event_type) == ("a-1", 7, "Old")
    assert change.__qualname__ in error.value.upcaster
    assert "event 7 of stream 'a-1', stored as 'Old'" in str(error.value)


# The types of a query --------------------------------------------------------------------------


UPCASTERS = [
    Upcaster("A1", into="A2"),
    Upcaster("A2", into="A3"),
    Upcaster("Both", lambda data: [("A3", data), ("B", data)], into=("A3", "B")),
    Upcaster("B", no_change, into="B"),
    Upcaster("Gone", into=()),
]


@pytest.mark.parametrize(
    ("asked", "current", "stored"),
    [
        ("A3", ["A3"], ["A1", "A2", "A3", "Both"]),
        ("A1", ["A3"], ["A1", "A2", "A3", "Both"]),
        ("B", ["B"], ["B", "Both"]),
        ("Both", ["A3", "B"], ["A1", "A2", "A3", "B", "Both"]),
        ("Gone", ["Gone"], ["Gone"]),
        ("Other", ["Other"], ["Other"]),
    ],
)
def test_a_query_finds_a_type_under_all_names_that_it_ever_had(
    asked: str, current: list, stored: list
) -> None:
    upcasting = Codec(UPCASTERS).upcasting
    query = Query(types=asked, tags="t:1")
    assert upcasting.current(query) == Query(types=current, tags="t:1")
    assert upcasting.stored(query) == Query(types=stored, tags="t:1")
    assert upcasting.stored(Query(tags="t:1")) == Query(tags="t:1")


def test_of_what_an_event_became_only_what_was_asked_for_is_read() -> None:
    both = row("Both", {}, tags=["t:1"])
    query = Query(types="B", tags="t:1") | Query(types="A3", tags="t:2")
    assert read(Codec(UPCASTERS), both, query=query) == [("B", {})]


def test_an_erased_event_holds_its_place_under_its_new_name() -> None:
    codec = Codec(UPCASTERS)
    erased = [row(event_type, None) for event_type in ("A1", "B", "Both", "Gone")]
    assert [name for name, _ in read(codec, *erased)] == ["A3", "B", "Both"]


# Chains, against a model in plain Python -------------------------------------------------------

TYPES = 6


@st.composite
def chains(draw: st.DrawFn) -> list[Upcaster]:
    """Upcasters from each of some types to later ones: renames, changes, splits and drops."""
    found = []
    for number in range(TYPES):
        name, later = f"T{number}", [f"T{n}" for n in range(number + 1, TYPES)]
        steps = range(draw(st.integers(0, 2)))
        found += [Upcaster(name, _marks(f"{name}.{step}"), into=name) for step in steps]
        kind = draw(st.sampled_from(["stays", "renamed", "changed", "split", "dropped"]))
        if kind == "dropped":
            found.append(Upcaster(name, into=()))
        elif later and kind == "renamed":
            found.append(Upcaster(name, into=draw(st.sampled_from(later))))
        elif later and kind == "changed":
            found.append(Upcaster(name, _marks(name), into=draw(st.sampled_from(later))))
        elif later and kind == "split":
            targets = draw(st.lists(st.sampled_from([*later, name]), min_size=1, max_size=3))
            found.append(Upcaster(name, _splits(name, targets), into=targets))
    return found


def _marks(mark: str) -> Callable[[dict], dict]:
    def change(data: dict) -> dict:
        data["marks"].append(mark)  # in place: parts must not share the change
        return data

    return change


def _splits(mark: str, targets: list[str]) -> Callable[[dict], Iterator[tuple[str, dict]]]:
    def change(data: dict) -> Iterator[tuple[str, dict]]:
        for place, target in enumerate(targets):
            yield target, {**data, "part": f"{mark}.{place}"}

    return change


def model(upcasters: list[Upcaster], event_type: str, data: Any) -> list[tuple[str, Any]]:
    """What an event is read as: by rewriting it from the first upcaster to the last."""
    events = [(event_type, data)]
    for number in range(TYPES):
        for upcaster in upcasters:
            if upcaster.from_type != f"T{number}":
                continue
            rewritten = []
            for name, value in events:
                copy = json.loads(json.dumps(value))
                if name != upcaster.from_type:
                    rewritten.append((name, value))
                elif isinstance(upcaster.into, str):
                    change = upcaster.change or (lambda given: given)
                    rewritten.append((upcaster.into, change(copy)))
                elif upcaster.change is not None:
                    rewritten += [
                        (target, json.loads(json.dumps(part)))
                        for target, part in upcaster.change(copy)
                    ]
            events = rewritten
    return events


@given(chains(), st.lists(st.integers(0, TYPES - 1), max_size=5))
def test_chains_give_what_rewriting_the_log_would(upcasters: list, numbers: list) -> None:
    codec = Codec(upcasters)
    rows = [
        row(f"T{number}", {"marks": [], "at": place}, position=place + 1)
        for place, number in enumerate(numbers)
    ]
    stored = [bytes(found[5]) for found in rows]
    expected = [
        found
        for place, number in enumerate(numbers)
        for found in model(upcasters, f"T{number}", {"marks": [], "at": place})
    ]

    assert read(codec, *rows) == expected
    assert read(codec, *reversed(rows), backwards=True) == expected[::-1]
    assert [found[5] for found in rows] == stored
    for asked in {name for name, _ in expected}:
        found = {
            name for item in codec.upcasting.stored(Query(types=asked)).items for name in item.types
        }
        assert found == {
            f"T{number}"
            for number in range(TYPES)
            if asked == f"T{number}" or asked in reach(upcasters, f"T{number}")
        }


def reach(upcasters: list[Upcaster], event_type: str) -> set[str]:
    found: set[str] = set()
    for upcaster in upcasters:
        if upcaster.from_type == event_type:
            for target in set(upcaster.targets) - {event_type}:
                found |= {target} | reach(upcasters, target)
    return found
